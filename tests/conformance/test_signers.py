"""What every signer does: the process, wherever its keys lie, and the one in memory that unit tests use."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.conformance.signing import request, signer_files
from tests.keepers import age_identity, empty_token, put_elsewhere, signer_apart, ssh_agent, table, transit
from tests.unit.ca.samples import ORIGIN, MemorySigner, private, public

from jitgate.adapters.custody.agent import Agent
from jitgate.adapters.custody.folder import Folder
from jitgate.adapters.custody.pkcs11 import Token
from jitgate.adapters.custody.transit import Transit
from jitgate.adapters.signers.process import open_signer
from jitgate.ca.model import HeldKey, LogHead, Signer, SignerRefusal, SignRequest
from jitgate.ca.realms import CaKind
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput
from jitgate.ssh.cert import join, parse_to_be_signed

Open = Callable[[Path], AbstractAsyncContextManager[Signer]]
Test = Callable[[Signer], Awaitable[None]]


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[Signer]:
    del folder
    yield MemorySigner(clock=system_clock)


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[Signer]:
    async with open_signer(signer_files(folder)) as signer:
        yield signer


@asynccontextmanager
async def apart(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Signer]:
    with signer_apart(signer_files(folder)) as files:
        async with open_signer(files) as signer:
            yield signer


@asynccontextmanager
async def sealed(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Signer]:
    files = signer_files(folder)
    place = age_identity(folder)
    for name in ("user", "host", "log"):
        Folder(files.keys, place, sealing=True).put_again(name, private(name))
    files.rules.write_text(files.rules.read_text() + table("sealed", place))
    async with open_signer(files) as signer:
        yield signer


@asynccontextmanager
async def in_agent(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Signer]:
    files = signer_files(folder)
    with ssh_agent() as place:
        for name in ("user", "host", "log"):
            Agent(place).put(name, private(name))
        kept = {name: f"agent:{public(name).fingerprint}" for name in ("user", "host", "log")}
        put_elsewhere(files, kept, table("agent", place))
        async with open_signer(files) as signer:
            yield signer


@asynccontextmanager
async def in_token(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Signer]:
    files, place = signer_files(folder), request.getfixturevalue("token_place")
    empty_token(place)
    with closing(Token(place)) as token:
        for name in ("user", "host", "log"):
            token.put(name, private(name))
    put_elsewhere(files, {name: f"pkcs11:{name}" for name in ("user", "host", "log")}, table("pkcs11", place))
    async with open_signer(files) as signer:
        yield signer


@asynccontextmanager
async def in_transit(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Signer]:
    """With a token that may sign and read public keys, and do nothing else."""
    files = signer_files(folder)
    signing, everything = transit(request.getfixturevalue("openbao"), folder)
    with closing(Transit(everything)) as engine:
        for name in ("user", "host", "log"):
            engine.put(name, private(name))
    put_elsewhere(files, {name: f"transit:{name}" for name in ("user", "host", "log")}, table("transit", signing))
    async with open_signer(files) as signer:
        yield signer


@pytest.fixture(params=[in_memory, process, apart, sealed, in_agent, in_token, in_transit])
def with_signer(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Test], None]:
    """Runs a coroutine with a fresh signer."""

    async def run(test: Test) -> None:
        made = request.param(tmp_path) if request.param in {in_memory, process} else request.param(tmp_path, request)
        async with made as signer:
            await test(signer)

    return lambda test: asyncio.run(run(test))


def note(size: int, fill: str = "a", origin: str = ORIGIN) -> bytes:
    return f"{origin}\n{size}\n{base64.b64encode(fill.encode() * 32).decode()}\n".encode()


def test_it_says_what_it_holds(with_signer):
    async def test(signer: Signer) -> None:
        held = await signer.keys()
        assert {replace(each, file="") for each in held.authorities} == {
            HeldKey("default", CaKind.USER, public("user")),
            HeldKey("default", CaKind.HOST, public("host")),
        }
        assert (held.log, held.origin, held.head, held.refused) == (public("log"), ORIGIN, None, ())

    with_signer(test)


def test_each_request_has_its_answer_in_its_place(with_signer):
    async def test(signer: Signer) -> None:
        requests = [request(), request(realm="other"), request(), SignRequest("default", b"\0\0\0\1x"), request()]
        results = await signer.sign(requests)
        refused = [result.code if isinstance(result, SignerRefusal) else "" for result in results]
        assert refused == ["", "authority", "", "malformed", ""]
        for each, result in zip(requests, results, strict=True):
            if isinstance(result, bytes):
                join(each.tbs, result)

    with_signer(test)


def test_more_than_a_message_holds_is_signed_too(with_signer):
    async def test(signer: Signer) -> None:
        requests = [request() for _ in range(600)]
        results = await signer.sign(requests)
        assert len(results) == len(requests)
        for each, result in zip(requests, results, strict=True):
            assert isinstance(result, bytes)
            join(each.tbs, result)
        assert await signer.sign([]) == []

    with_signer(test)


def test_all_that_was_signed_is_in_the_list_and_nothing_else(with_signer):
    async def test(signer: Signer) -> None:
        requests = [request(), request(realm="other"), request(subject="phone")]
        await signer.sign(requests)
        page = await signer.signed()
        bodies = [parse_to_be_signed(each.tbs)[0] for each in (requests[0], requests[2])]
        assert [(e.serial, e.key_id, e.key, e.principals, e.valid_before, e.ca) for e in page.entries] == [
            (b.serial, b.key_id, b.key.fingerprint, b.principals, b.valid_before, b.ca.fingerprint) for b in bodies
        ]
        assert page.entries[0].tbs_sha256 == hashlib.sha256(requests[0].tbs).hexdigest()
        assert page.unreadable == 0
        assert (await signer.signed(page.next)).entries == ()
        more = request()
        await signer.sign([more])
        assert [e.serial for e in (await signer.signed(page.next)).entries] == [parse_to_be_signed(more.tbs)[0].serial]

    with_signer(test)


def test_a_serial_is_signed_once(with_signer):
    async def test(signer: Signer) -> None:
        one = request()
        first, second, other = await signer.sign([one, one, request()])
        assert isinstance(first, bytes)
        assert isinstance(second, SignerRefusal)
        assert second.code == "serial"
        assert isinstance(other, bytes)
        (third,) = await signer.sign([one])
        assert isinstance(third, SignerRefusal)

    with_signer(test)


def test_none_of_its_own_keys_is_certified(with_signer):
    async def test(signer: Signer) -> None:
        for subject in ("host", "log"):
            (result,) = await signer.sign([request(subject=subject)])
            assert isinstance(result, SignerRefusal)
            assert result.code == "own_key"

    with_signer(test)


def test_the_log_key_and_strangers_sign_no_certificate(with_signer):
    async def test(signer: Signer) -> None:
        for authority in ("log", "stranger"):
            (result,) = await signer.sign([request(ca=authority)])
            assert isinstance(result, SignerRefusal)
            assert result.code == "authority"
        (result,) = await signer.sign([request(ca="host")])  # a person's certificate by the hosts' authority
        assert isinstance(result, SignerRefusal)
        assert result.code == "kind"

    with_signer(test)


def test_the_log_is_signed_as_it_grows_and_never_a_second_one(with_signer):
    async def test(signer: Signer) -> None:
        async def code(body: bytes) -> str:
            answer = await signer.checkpoint(body)
            if isinstance(answer, SignerRefusal):
                return answer.code
            Ed25519PublicKey.from_public_bytes(public("log").blob[-32:]).verify(answer, body)
            return "signed"

        assert await code(note(0)) == "signed"
        assert await code(note(5)) == "signed"
        assert await code(note(5)) == "signed"
        assert await code(note(5, "b")) == "checkpoint"
        assert await code(note(4)) == "checkpoint"
        assert await code(note(0)) == "checkpoint"
        assert await code(note(6, origin="other.example.com/log")) == "checkpoint"
        assert await code(note(6) + b"more\n") == "checkpoint"
        assert await code(b"") == "checkpoint"
        assert await code(request().tbs) == "checkpoint"
        assert await code(note(6, "b")) == "signed"
        assert (await signer.keys()).head == LogHead(6, base64.b64encode(b"b" * 32).decode())

    with_signer(test)


def test_checkpoints_in_the_list_do_not_hide_what_comes_after(with_signer):
    async def test(signer: Signer) -> None:
        start = (await signer.signed()).next
        for size in range(20):
            await signer.checkpoint(note(size))
        await signer.sign([request()])
        assert len((await signer.signed(start)).entries) == 1

    with_signer(test)


def test_an_offset_that_is_no_lines_start_is_refused(tmp_path):
    async def test() -> None:
        async with process(tmp_path) as signer:
            await signer.sign([request()])
            end = (await signer.signed()).next
            for offset in (1, end - 1, end + 1):
                with pytest.raises(BadInput):
                    await signer.signed(offset)
            assert (await signer.signed()).next == end  # and the signer is still there

    asyncio.run(test())
