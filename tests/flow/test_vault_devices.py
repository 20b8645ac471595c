"""Audit devices: whoever may enable one chooses no file of the machine, and no secret is in what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.vault_world import ARTICLE, LINE, PASSWORD, Vault, open_vault
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
    told = lines(file)
    paths = [line["request"]["path"] for line in told]
    assert paths[-3:] == ["ssh/sign/user-role", "ssh/roles/user-role", ""]
    assert (told[-3]["request"]["data"]["valid_principals"], told[-3]["error"]) == ("root", "")
    assert told[-3]["auth"]["display_name"] == "userpass-testuser"
    assert [line["error"] for line in told[-2:]] == ["permission denied", "permission denied"]
    assert told[-1]["auth"] == {}
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


async def enabled(world: World, folder: Path) -> tuple[Vault, Path]:
    """A device, after the line that enabled it; and its file."""
    vault = await opened(world, folder)
    await vault.ok("PUT", "sys/audit/file", {"type": "file", "options": {"file_path": "/x/audit.log"}})
    return vault, folder / "audit.log"


def lines(file: Path, after: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()[after:]]


@pytest.mark.databases
async def test_a_stranger_fills_no_disk(world: World, tmp_path: Path):
    """Nor do those whose token has ended, or who guess: the first refusal of an address in a minute is a line."""
    vault, file = await enabled(world, tmp_path / "audit")
    token = await vault.user()
    await vault.ok("PUT", "auth/token/revoke-self", {}, token)
    told = len(lines(file))
    long = {"valid_principals": "A" * 60_000, "ttl": "B" * 1000, "password": "x", "public_key": LINE}
    for who in ("", "jgv_none", token) * 3:
        for method, path in (
            ("PUT", "ssh/sign/x"),
            ("PUT", "ssh/sign/" + "x" * 150),
            ("GET", "sys/audit"),
            ("PUT", "none/such"),
            ("PUT", "auth/userpass/login/testuser"),
            ("PUT", "auth/userpass/login/" + "x" * 150),
            ("PATCH", "ssh/sign/x"),
        ):
            assert (await vault.send(method, path, long, who)).status >= 400
        for path in ("sys/health", "sys/leader", "sys/seal-status", "ssh/public_key"):
            assert (await vault.send("GET", path, None, who)).status == 200
    (line,) = lines(file, told)
    assert (line["auth"], line["request"]["path"], line["request"]["data"]) == ({}, "", {})
    assert len(await world.events("vault.refused")) == 1
    world.outside.floods.take_due(world.clock(), everything=True)  # as every minute
    for _ in range(3):
        await vault.send("PUT", "ssh/sign/x", long, "")
    assert len(lines(file, told)) == 2


@pytest.mark.databases
async def test_a_token_fills_no_disk_either(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Fields are cut, refusals count for the rate, and a token opens no way round by a way in."""
    vault, file = await enabled(world, tmp_path / "audit")
    token = await vault.user(policies="ssh-access,makers")
    makers = 'path "auth/token/create" { capabilities = ["update"] }'
    await vault.ok("PUT", "sys/policies/acl/makers", {"policy": makers})
    told = len(lines(file))
    await vault.sign(token=token, valid_principals="A" * 60_000)
    await vault.sign(token=token, valid_principals=["A"] * 4000, ttl={"x": "A" * 30_000})
    await vault.send("PUT", "auth/token/create", {"policies": [f"p{at}" for at in range(64)]}, token)
    for raw in file.read_text().splitlines()[told:]:
        assert len(raw) < 1500
    assert [each["auth"]["display_name"] for each in lines(file, told)] == ["userpass-testuser"] * 3
    monkeypatch.setattr("jitgate.flow.rates.BURST", 8)  # three are taken
    for _ in range(30):
        assert (await vault.send("GET", "sys/mounts", None, token)).status in (403, 429)
    assert len(lines(file, told)) == 3 + 5  # what the rate gives; the first refusal in the log was one of them
    for _ in range(30):
        assert (await vault.send("PUT", "auth/userpass/login/testuser", {"wrong": "A" * 9000}, token)).status == 400
    assert len(lines(file, told)) == 3 + 5


@pytest.mark.databases
async def test_a_login_is_a_line(world: World, tmp_path: Path):
    vault, file = await enabled(world, tmp_path / "audit")
    token = await vault.user()
    await vault.ok("PUT", "auth/token/revoke-self", {}, token)
    login, left = lines(file)[-2:]
    assert (login["request"]["path"], login["error"]) == ("auth/userpass/login/testuser", "")
    assert (left["request"]["path"], left["auth"]["display_name"]) == ("auth/token/revoke-self", "userpass-testuser")


@pytest.mark.databases
async def test_nothing_is_done_that_no_device_is_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As Vault; a file that is as large as it may get is one that cannot be written, until it is moved away."""
    vault, file = await enabled(world, tmp_path / "audit")
    token, size = await vault.user(), file.stat().st_size
    monkeypatch.setattr("jitgate.adapters.vault_audit.FILE_MAX", size)
    before = await world.size()
    for method, path, body, who in (
        ("PUT", "ssh/sign/user-role", {"public_key": LINE}, token),
        ("PUT", "ssh/roles/other", ARTICLE, None),
        ("PUT", "auth/userpass/login/testuser", {"password": PASSWORD}, ""),
        ("DELETE", "sys/audit/file", None, None),
    ):
        answer = await vault.send(method, path, body, who)
        assert (answer.status, "no audit device" in answer.json["errors"][0]) == (500, True)
    assert (await vault.send("GET", "sys/health", None, "")).status == 200
    assert (await vault.refused("GET", "sys/mounts", None, ""))[0] == 403
    assert [each["type"] for each in await world.events(after=before)] == ["vault.refused"]
    assert file.stat().st_size == size
    file.rename(tmp_path / "audit.log.1")
    assert (await vault.sign(token=token)).status == 200
    assert len(lines(file)) == 1


async def test_one_device_that_is_told_is_enough(world: World, tmp_path: Path):
    vault, _ = await enabled(world, tmp_path / "audit")
    await vault.ok("PUT", "sys/audit/second", {"type": "file", "options": {"file_path": "/x/second.log"}})
    told: list[bytes] = []

    def one_is_full(name: str, line: bytes) -> None:
        if name == "audit.log":
            raise OSError(28, "No space left on device")
        told.append(line)

    world.change(vault_audit=one_is_full)
    assert (await vault.sign()).status == 200
    assert len([line for line in told if line]) == 1


async def test_a_certificate_that_no_device_was_told_of_is_not_handed_out(world: World, tmp_path: Path):
    """The disk fills up between the look at it and the line."""
    vault, _ = await enabled(world, tmp_path / "audit")

    def full(_name: str, line: bytes) -> None:
        if line:
            raise OSError(28, "No space left on device")

    world.change(vault_audit=full)
    answer = await vault.sign()
    assert (answer.status, list(answer.json)) == (500, ["errors"])


def test_a_disk_without_room_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    append = audit_files(tmp_path)
    append("a.log", b"x\n")
    append("a.log", b"")
    monkeypatch.setattr("jitgate.adapters.vault_audit.SPARE", 1 << 62)
    for line in (b"", b"y\n"):
        with pytest.raises(OSError, match="No space"):
            append("a.log", line)
    assert (tmp_path / "a.log").read_bytes() == b"x\n"
