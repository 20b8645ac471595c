"""Keys of Vault mounts at the real signer process: made there, kept 0600, held again after a restart."""

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.conformance.signing import signer_files
from tests.unit.ca.samples import GRANT, public

from jitgate.adapters.signers.process import SignerSettings, open_signer
from jitgate.ca.model import HeldKeys, Signer, SignerRefusal, SignRequest
from jitgate.ca.mounts import MOUNT_TABLE
from jitgate.ca.plain import shape_plain
from jitgate.ca.realms import CaKind
from jitgate.core.clock import HOUR, system_clock
from jitgate.grants.model import ANY_HOST, Target
from jitgate.ssh.cert import join, to_be_signed
from jitgate.ssh.pubkey import parse_public_key

REALM = "vault-ssh"


def with_mounts(folder: Path, table: str = MOUNT_TABLE) -> SignerSettings:
    settings = signer_files(folder)
    with settings.rules.open("a") as file:
        file.write(table)
    return settings


async def made(signer: Signer) -> bytes:
    blob = await signer.generate(REALM)
    assert isinstance(blob, bytes)
    return blob


def request(blob: bytes, serial: int) -> SignRequest:
    now, ca = system_clock(), parse_public_key(blob)
    targets = (Target(ANY_HOST, "ubuntu"),)
    grant = replace(GRANT, realm=REALM, targets=targets, opened_at=now, ends_at=now + HOUR, metadata=())
    body = shape_plain(grant, public("laptop"), ca, now).body(serial)
    return SignRequest(REALM, to_be_signed(body, bytes(32)))


def mounts(held: HeldKeys) -> list[bytes]:
    return [each.key.blob for each in held.authorities if each.kind is CaKind.MOUNT]


def test_a_key_is_kept_by_the_signer_alone_and_signs_after_a_restart(tmp_path: Path):
    settings = with_mounts(tmp_path)

    async def first() -> bytes:
        async with open_signer(settings) as signer:
            blob = await made(signer)
            (answer,) = await signer.sign([request(blob, 5)])
            assert isinstance(answer, bytes)
            return blob

    async def second(blob: bytes) -> None:
        async with open_signer(settings) as signer:
            assert mounts(await signer.keys()) == [blob]
            (used,) = await signer.sign([request(blob, 5)])
            assert isinstance(used, SignerRefusal)
            assert used.code == "serial"
            asked = request(blob, 6)
            (answer,) = await signer.sign([asked])
            assert isinstance(answer, bytes)
            assert join(asked.tbs, answer).body.principals == ("ubuntu",)

    blob = asyncio.run(first())
    (file,) = (settings.state / "mounts").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("vault-ssh.1", 0o600)
    assert (settings.state / "mounts").stat().st_mode & 0o777 == 0o700
    asyncio.run(second(blob))


def test_a_key_that_others_can_read_signs_nothing_and_is_named(tmp_path: Path):
    settings = with_mounts(tmp_path)

    async def make() -> bytes:
        async with open_signer(settings) as signer:
            return await made(signer)

    async def look(blob: bytes) -> None:
        async with open_signer(settings) as signer:
            held = await signer.keys()
            assert mounts(held) == []
            assert [each.file for each in held.refused] == ["mount/vault-ssh.1"]
            (answer,) = await signer.sign([request(blob, 7)])
            assert isinstance(answer, SignerRefusal)

    blob = asyncio.run(make())
    (settings.state / "mounts" / "vault-ssh.1").chmod(0o644)
    asyncio.run(look(blob))


def test_without_the_table_its_keys_sign_nothing(tmp_path: Path):
    settings = with_mounts(tmp_path)
    text = settings.rules.read_text()

    async def make() -> bytes:
        async with open_signer(settings) as signer:
            return await made(signer)

    async def look(blob: bytes) -> None:
        async with open_signer(settings) as signer:
            assert mounts(await signer.keys()) == []
            for answer in (*await signer.sign([request(blob, 8)]), await signer.generate(REALM)):
                assert isinstance(answer, SignerRefusal)

    blob = asyncio.run(make())
    settings.rules.write_text(text.replace(MOUNT_TABLE, ""))
    asyncio.run(look(blob))
