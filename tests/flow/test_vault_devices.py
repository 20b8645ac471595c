"""Audit devices: whoever may enable one chooses no file of the machine, and no secret is in what is written."""

import json
from pathlib import Path

import pytest
from tests.vault_world import LINE, PASSWORD, Vault, open_vault
from tests.world import World

from jitgate.adapters.vault_audit import audit_files
from jitgate.core.errors import BadInput
from jitgate.flow.vault.settings import VaultSettings


async def opened(world: World, folder: Path) -> Vault:
    vault = await open_vault(world)
    settings = VaultSettings(plain_logins_unregistered_keys=True, audit_folder=str(folder))
    world.change(vault=settings, vault_audit=audit_files(folder))
    return vault


async def test_every_request_is_a_line_without_a_secret(world: World, tmp_path: Path):
    folder = tmp_path / "audit"
    vault = await opened(world, folder)
    await vault.ok("PUT", "sys/audit/file", {"type": "file", "options": {"file_path": "/var/log/vault/audit.log"}})
    token = await vault.user()
    await vault.sign(token=token, valid_principals="root")
    await vault.send("GET", "ssh/roles/user-role", None, token)
    await vault.send("GET", "ssh/roles/user-role", None, "jgv_none")
    await vault.ok("DELETE", "sys/audit/file")
    await vault.ok("GET", "ssh/roles/user-role")
    (file,) = folder.iterdir()
    assert (file.name, file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == ("audit.log", 0o600, 0o700)
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    paths = [line["request"]["path"] for line in lines]
    assert paths[-3:] == ["ssh/sign/user-role", "ssh/roles/user-role", "ssh/roles/user-role"]
    assert (lines[-3]["request"]["data"]["valid_principals"], lines[-3]["error"]) == ("root", "")
    assert lines[-3]["auth"]["display_name"] == "userpass-testuser"
    assert [line["error"] for line in lines[-2:]] == ["permission denied", "permission denied"]
    assert lines[-1]["auth"] == {}
    for secret in (PASSWORD, token, vault.root, LINE.split()[1]):
        assert secret not in text


@pytest.mark.parametrize(
    "path",
    ["", "/", "..", "/etc/passwd", "/x/jitgate.db", "/x/.log", "/x/a\nb.log", "/x/.hidden.log", "stdout", "discard"],
)
async def test_no_other_file_is_named(world: World, tmp_path: Path, path: str):
    """CVE-2025-54997: a file of the machine, written through an audit device."""
    vault = await opened(world, tmp_path / "audit")
    body = {"type": "file", "options": {"file_path": path}}
    assert (await vault.refused("PUT", "sys/audit/file", body))[0] == 400
    for other in (
        {"type": "socket"},
        {"type": "file"},
        {"type": "file", "options": {"file_path": "/a.log", "mode": 1}},
    ):
        assert (await vault.refused("PUT", "sys/audit/file", other))[0] == 400
    assert not (tmp_path / "audit").exists()


def test_the_file_is_in_its_folder_and_no_link(tmp_path: Path):
    append = audit_files(tmp_path / "audit")
    for name in ("", "..", "a/b.log", "/etc/x.log"):
        with pytest.raises(BadInput):
            append(name, b"x\n")
    append("a.log", b"x\n")
    (tmp_path / "audit" / "b.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        append("b.log", b"x\n")
    assert not (tmp_path / "elsewhere").exists()


async def test_a_full_disk_hinders_nobody(world: World, tmp_path: Path):
    """What decides is in the log itself; a device's file is a rendering."""
    vault = await opened(world, tmp_path / "audit")
    await vault.ok("PUT", "sys/audit/file", {"type": "file", "options": {"file_path": "/x/audit.log"}})

    def full(_name: str, _line: bytes) -> None:
        raise OSError(28, "No space left on device")

    world.change(vault_audit=full)
    assert (await vault.sign()).status == 200
