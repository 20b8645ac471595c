"""The real signer while somebody works in its folder of keys: by hand, as Kubernetes does, as systemd does."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conformance.signing import request, signer_files
from tests.unit.ca.samples import private, public

from jitgate.adapters.signers.files import write_key
from jitgate.adapters.signers.process import ProcessSigner, SignerSettings, open_signer
from jitgate.ca.model import HeldKeys, SignerRefusal
from jitgate.core.errors import Unreachable
from jitgate.ssh.private import dump_private_key

PATIENCE_S = 20.0


@pytest.fixture
def files(tmp_path: Path) -> SignerSettings:
    return signer_files(tmp_path)


async def until(signer: ProcessSigner, true: Callable[[HeldKeys], bool]) -> HeldKeys:
    """What the signer holds, as soon as that is so."""
    end = time.monotonic() + PATIENCE_S
    while not true(held := await signer.keys()):
        assert time.monotonic() < end, held
        await asyncio.sleep(0.05)
    return held


def files_of(held: HeldKeys) -> dict[str, str]:
    """Which file each key is from; `kept` ones are marked."""
    return {each.key.fingerprint: each.file + " kept" * each.kept for each in held.authorities}


def refusals(held: HeldKeys) -> dict[str, str]:
    return {each.file: each.why for each in held.refused}


async def signs(signer: ProcessSigner, ca: str) -> bool:
    (answer,) = await signer.sign([request(ca=ca)])
    return isinstance(answer, bytes)


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """As a careful program does it: whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.touch(mode)
    new.write_bytes(content)
    new.chmod(mode)
    new.rename(path)


def pem(name: str) -> bytes:
    return dump_private_key(private(name)).reveal()


async def test_a_key_that_comes_is_held_within_its_tables_ceilings(files):
    async with open_signer(files) as signer:
        assert not await signs(signer, "user-2")
        write_key(files.keys, "user-2", private("user-2"))
        held = await until(signer, lambda held: len(held.authorities) == 3)
        assert files_of(held)[public("user-2").fingerprint] == "user-2"
        assert await signs(signer, "user-2")
        assert await signs(signer, "user")
        (refused,) = await signer.sign([request(ca="user-2", subject="host")])
        assert isinstance(refused, SignerRefusal)
        assert refused.code == "own_key"
        listed = (await signer.signed()).entries
        assert {entry.ca for entry in listed} == {public("user").fingerprint, public("user-2").fingerprint}


async def test_what_no_table_means_is_left_alone(files):
    async with open_signer(files) as signer:
        for name in ("stranger", "user-2.pub", ".user-2", "user-2.tmp"):
            write_key(files.keys, name, private(name))
        write_key(files.keys, "user-9", private("user-9"))
        held = await until(signer, lambda held: len(held.authorities) == 3)
        assert set(files_of(held).values()) == {"user", "host", "user-9"}
        assert held.refused == ()


async def test_another_key_in_the_same_file_is_held_and_the_one_before_goes_on(files):
    async with open_signer(files) as signer:
        replace(files.keys / "user", pem("next"))
        held = await until(signer, lambda held: len(held.authorities) == 3)
        assert files_of(held)[public("user").fingerprint] == "user kept"
        assert files_of(held)[public("next").fingerprint] == "user"
        assert await signs(signer, "user")
        assert await signs(signer, "next")
        replace(files.keys / "user", pem("user"))
        held = await until(signer, lambda held: files_of(held)[public("user").fingerprint] == "user")
        assert files_of(held)[public("next").fingerprint] == "user kept"
    async with open_signer(files) as signer:
        assert not await signs(signer, "next")


async def test_a_key_that_is_gone_signs_no_more_and_the_others_do(files):
    write_key(files.keys, "user-2", private("user-2"))
    async with open_signer(files) as signer:
        used = request(ca="user")
        assert isinstance((await signer.sign([used]))[0], bytes)
        (files.keys / "user").unlink()
        held = await until(signer, lambda held: len(held.authorities) == 2)
        assert refusals(held) == {"user": "the file is gone"}
        assert not await signs(signer, "user")
        assert await signs(signer, "user-2")
        write_key(files.keys, "user", private("user"))
        await until(signer, lambda held: len(held.authorities) == 3)
        (again,) = await signer.sign([used])
        assert isinstance(again, SignerRefusal)
        assert again.code == "serial"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
async def test_a_key_that_others_can_read_signs_no_more_until_they_cannot(files, mode):
    async with open_signer(files) as signer:
        (files.keys / "user").chmod(mode)
        held = await until(signer, lambda held: len(held.authorities) == 1)
        assert refusals(held) == {"user": f"{files.keys}/user has mode {mode:04o}"}
        assert not await signs(signer, "user")
        (files.keys / "user").chmod(0o600)
        held = await until(signer, lambda held: not held.refused)
        assert await signs(signer, "user")


async def test_a_file_that_is_not_whole_yet_changes_nothing(files):
    async with open_signer(files) as signer:
        whole = pem("user-2")
        path = files.keys / "user-2"
        path.touch(0o600)
        path.write_bytes(whole[:100])
        held = await until(signer, lambda held: bool(held.refused))
        assert list(refusals(held)) == ["user-2"]
        (files.keys / "user").write_bytes(whole[:100])
        held = await until(signer, lambda held: len(held.refused) == 2)
        assert await signs(signer, "user")
        path.write_bytes(whole)
        (files.keys / "user").write_bytes(pem("user"))
        held = await until(signer, lambda held: not held.refused)
        assert await signs(signer, "user-2")


async def test_one_key_in_two_files_is_refused_and_a_rename_is_not(files):
    async with open_signer(files) as signer:
        write_key(files.keys, "user-2", private("host"))
        held = await until(signer, lambda held: bool(held.refused))
        assert refusals(held) == {"user-2": "two files hold the same key"}
        (files.keys / "user-2").unlink()
        (files.keys / "user").rename(files.keys / "user-3")
        held = await until(signer, lambda held: public("user").fingerprint in files_of(held) and len(held.refused) == 1)
        held = await until(signer, lambda held: files_of(held).get(public("user").fingerprint) == "user-3")
        assert await signs(signer, "user")


async def test_a_folder_as_kubernetes_mounts_it_is_swapped_as_a_whole(files):
    def mount(version: str, *names: str) -> None:
        """As the kubelet's atomic writer does."""
        folder = files.keys / f"..{version}"
        folder.mkdir(mode=0o700)
        for name in names:
            write_key(folder, name, private(name))
        (files.keys / "..data_tmp").symlink_to(folder.name)
        (files.keys / "..data_tmp").rename(files.keys / "..data")
        for name in names:
            if not (files.keys / name).is_symlink():
                (files.keys / name).symlink_to(f"..data/{name}")

    for name in ("user", "host", "log"):
        (files.keys / name).unlink()
    mount("2026", "user", "host", "log")
    async with open_signer(files) as signer:
        assert await signs(signer, "user")
        mount("2027", "user", "host", "log", "user-2")
        held = await until(signer, lambda held: len(held.authorities) == 3)
        assert not held.refused
        assert await signs(signer, "user-2")
        assert await signs(signer, "user")


async def test_links_out_of_the_folder_hold_nothing(files, tmp_path):
    write_key(tmp_path, "elsewhere", private("user-2"))
    async with open_signer(files) as signer:
        (files.keys / "user-2").symlink_to("../elsewhere")
        held = await until(signer, lambda held: bool(held.refused))
        assert "leads out" in refusals(held)["user-2"]
        assert not await signs(signer, "user-2")


async def test_at_the_start_a_bad_key_beside_a_good_one_is_said_and_passed_over(files):
    write_key(files.keys, "user-2", private("user-2"))
    (files.keys / "user").chmod(0o644)
    async with open_signer(files) as signer:
        held = await signer.keys()
        assert refusals(held) == {"user": f"{files.keys}/user has mode 0644"}
        assert await signs(signer, "user-2")
    (files.keys / "user-2").chmod(0o644)
    with pytest.raises(Unreachable, match="has mode 0644"):
        async with open_signer(files):
            pass
