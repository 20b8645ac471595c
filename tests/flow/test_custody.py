"""The real signer while a keeper of its keys is away, locked, slow, or lies: it goes on with the others and says so."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conformance.signing import request, signer_files
from tests.flow.test_key_folder import files_of, refusals, signs, until
from tests.keepers import PIN, put_elsewhere, secret, softhsm, ssh_agent, table, take_token_away, transit
from tests.unit.ca.samples import private, public
from tools.parts import find

from jitgate.adapters.custody.agent import Agent
from jitgate.adapters.custody.folder import generate
from jitgate.adapters.custody.transit import Transit
from jitgate.adapters.signers.process import ProcessSigner, SignerSettings, open_signer
from jitgate.app.demo.openbao import OpenBao
from jitgate.ca.model import SignerRefusal
from jitgate.ca.places import AgentPlace, Pkcs11Place, TransitPlace
from jitgate.core.errors import Unreachable
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm
from jitgate.ssh.wire import Reader, put_string, put_uint32

OFTEN = (
    sys.executable,
    "-I",
    "-c",
    "from jitgate.adapters.custody import keyring; keyring.CHECK_S = 1.0; from jitgate.app.main import main; main()",
    "signer",
)
"""A signer that looks after a key that nobody asks for, as always, but soon."""
USER = f"agent:{public('user').fingerprint}"


@pytest.fixture
def files(tmp_path: Path) -> SignerSettings:
    return signer_files(tmp_path)


def with_agent(files: SignerSettings, place: AgentPlace) -> None:
    """The user key there, the host key in its file."""
    put_elsewhere(files, {"user": USER}, table("agent", place))


def run(files: SignerSettings, test: Callable[[ProcessSigner], object]) -> None:
    async def talk() -> None:
        async with open_signer(files) as signer:
            await test(signer)  # type: ignore[misc]  # each test's own coroutine function

    asyncio.run(talk())


async def refusal(signer: ProcessSigner) -> SignerRefusal:
    (answer,) = await signer.sign([request()])
    assert isinstance(answer, SignerRefusal)
    return answer


async def host_key_signs(signer: ProcessSigner) -> None:
    """It refuses what it is asked for by its own rule, and not for want of a key."""
    (answer,) = await signer.sign([request(ca="host")])
    assert isinstance(answer, SignerRefusal)
    assert answer.code == "kind"


def test_an_agent_that_is_locked_keeps_its_key_and_no_other(files):
    with ssh_agent() as place:
        Agent(place).put("user", private("user"))
        with_agent(files, place)

        async def test(signer: ProcessSigner) -> None:
            assert await signs(signer, "user")
            lock(place, "-x")
            found = await refusal(signer)
            assert (found.code, "locked" in found.hint) == ("custody", True)
            held = await until(signer, lambda held: USER not in files_of(held).values())
            assert "refuses" in refusals(held)[USER] or "locked" in refusals(held)[USER]
            await host_key_signs(signer)
            assert (await refusal(signer)).code == "authority"
            lock(place, "-X")
            await until(signer, lambda held: USER in files_of(held).values())
            assert await signs(signer, "user")

        run(files, test)


def lock(place: AgentPlace, how: str) -> None:
    """`ssh-add` asks a terminal for the agent's passphrase; this says it."""
    password = b"secret"
    message = bytes([{"-x": 22, "-X": 23}[how]]) + put_string(password)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place.socket)
        connection.sendall(put_uint32(len(message)) + message)
        assert connection.recv(5)[-1] == 6


def test_an_agent_that_ends_and_comes_back(files):
    with ExitStack() as stack:
        place = stack.enter_context(ssh_agent())
        Agent(place).put("user", private("user"))
        with_agent(files, place)

        async def test(signer: ProcessSigner) -> None:
            assert await signs(signer, "user")
            stack.close()
            held = await until(signer, lambda held: USER in refusals(held))
            assert "no agent at" in refusals(held)[USER]
            await host_key_signs(signer)

        run(replace(files, command=OFTEN), test)


def test_a_keeper_that_is_away_at_the_start_is_waited_for_while_others_sign(files, tmp_path):
    with_agent(files, AgentPlace(str(tmp_path / "none")))

    async def test(signer: ProcessSigner) -> None:
        assert USER in refusals(await signer.keys())
        await host_key_signs(signer)

    run(files, test)


def test_the_log_key_cannot_be_waited_for(files, tmp_path):
    log = f"agent:{public('log').fingerprint}"
    put_elsewhere(files, {"log": log}, table("agent", AgentPlace(str(tmp_path / "none"))))
    with pytest.raises(Unreachable, match="no agent at"):
        run(files, lambda _signer: None)


def test_a_token_that_is_gone(files, tmp_path):
    place = token_with_user_key(tmp_path)
    put_elsewhere(files, {"user": "pkcs11:user"}, table("pkcs11", place))

    async def test(signer: ProcessSigner) -> None:
        assert await signs(signer, "user")
        take_token_away(place)
        assert (await refusal(signer)).code == "custody"
        held = await until(signer, lambda held: "pkcs11:user" not in files_of(held).values())
        assert refusals(held)["pkcs11:user"]
        await host_key_signs(signer)

    run(files, test)


def test_a_wrong_pin_is_tried_once(files, tmp_path):
    place = token_with_user_key(tmp_path)
    put_elsewhere(files, {"user": "pkcs11:user"}, table("pkcs11", place))
    right = Path(place.pin_file).read_text()
    secret(Path(place.pin_file), "9999")

    async def test(signer: ProcessSigner) -> None:
        assert "refuses the PIN" in refusals(await signer.keys())["pkcs11:user"]
        await until(signer, lambda held: "not asked again" in refusals(held)["pkcs11:user"])
        await host_key_signs(signer)
        secret(Path(place.pin_file), right)
        await until(signer, lambda held: "pkcs11:user" in files_of(held).values())
        assert await signs(signer, "user")

    run(files, test)


def token_with_user_key(folder: Path) -> Pkcs11Place:
    """Made by another process: a library's settings are read once in each."""
    place = softhsm(folder / "hsm")
    key = folder / "user.p8"
    secret(key, "").write_bytes(pkcs8(private("user")))
    assert place.environment
    program = find(["softhsm2-util"])["softhsm2-util"]
    where = ("--module", place.module, "--token", place.token, "--pin", PIN)
    subprocess.run(
        [program, *where, "--import", str(key), "--label", "user", "--id", "01"],
        env=dict(place.environment),
        check=True,
        capture_output=True,
    )
    return place


def pkcs8(key: SoftwareKey) -> bytes:
    import base64  # noqa: PLC0415

    from jitgate.ssh.private import dump_pkcs8  # noqa: PLC0415

    text = base64.encodebytes(dump_pkcs8(key).reveal())
    return b"-----BEGIN PRIVATE KEY-----\n" + text + b"-----END PRIVATE KEY-----\n"


def test_a_transit_engine_that_takes_our_token_away(files, tmp_path, openbao: OpenBao):
    signing, everything = transit(openbao, tmp_path)
    with closing(Transit(everything)) as engine:
        engine.put("user", private("user"))
    put_elsewhere(files, {"user": "transit:user"}, table("transit", signing))
    good = Path(signing.token_file).read_text()

    async def test(signer: ProcessSigner) -> None:
        assert await signs(signer, "user")
        secret(Path(signing.token_file), "s.nobodys")
        found = await refusal(signer)
        assert (found.code, "403" in found.why) == ("custody", True)
        held = await until(signer, lambda held: "transit:user" not in files_of(held).values())
        assert "403" in refusals(held)["transit:user"]
        secret(Path(signing.token_file), good)
        await until(signer, lambda held: "transit:user" in files_of(held).values())
        assert await signs(signer, "user")

    run(files, test)


def test_a_token_lives_on_while_keys_are_looked_after(tmp_path, openbao: OpenBao, monkeypatch):
    monkeypatch.setattr("jitgate.adapters.custody.transit.RENEW_S", 0)
    signing, _ = transit(openbao, tmp_path)
    openbao.ask("POST", f"{signing.mount}/keys/user", {"type": "ed25519"})
    body = {"policies": [f"{signing.mount}-sign"], "period": "2s", "no_parent": True}
    token = openbao.ask("POST", "auth/token/create", body)["auth"]["client_token"]
    secret(Path(signing.token_file), token)
    until = time.monotonic() + 5
    with closing(Transit(signing)) as engine:
        while time.monotonic() < until:
            engine.key("user")
            time.sleep(0.2)


def test_a_rotation_inside_the_engine_changes_nothing_until_it_is_listed(files, tmp_path, openbao: OpenBao):
    signing, everything = transit(openbao, tmp_path)
    with closing(Transit(everything)) as engine:
        first = engine.make("user", Algorithm.ED25519)
    put_elsewhere(files, {"user": "transit:user:1"}, table("transit", signing))
    openbao.ask("POST", f"{signing.mount}/keys/user/rotate", {})

    async def test(signer: ProcessSigner) -> None:
        assert files_of(await signer.keys())[first.fingerprint] == "transit:user:1"

    run(files, test)


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048", "hmac"])
def test_a_key_of_a_kind_that_is_no_cas(files, tmp_path, openbao: OpenBao, kind: str):
    signing, everything = transit(openbao, tmp_path)
    with closing(Transit(everything)) as engine:
        engine._ask("POST", "keys/user", {"type": kind} | ({"key_size": 32} if kind == "hmac" else {}))
    put_elsewhere(files, {"user": "transit:user"}, table("transit", signing))

    async def test(signer: ProcessSigner) -> None:
        assert refusals(await signer.keys())["transit:user"]
        await host_key_signs(signer)

    run(files, test)


@contextmanager
def server(answer: Callable[[socket.socket], None], path: Path) -> Iterator[None]:
    """Something that listens where an agent should."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def work() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                answer(connection)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def agent_that(signature: Callable[[bytes], bytes]) -> Callable[[socket.socket], None]:
    """Shows the user key, and signs in its own way."""

    def answer(connection: socket.socket) -> None:
        length = int.from_bytes(connection.recv(4), "big")
        reader = Reader(connection.recv(length, socket.MSG_WAITALL))
        if reader.byte() == 11:
            told = bytes([12]) + put_uint32(1) + put_string(public("user").blob) + put_string("")
        else:
            reader.string()
            told = bytes([14]) + put_string(signature(reader.string()))
        connection.sendall(put_uint32(len(told)) + told)

    return answer


LIES: dict[str, Callable[[bytes], bytes]] = {
    "another key's": private("host").sign,
    "of something else": lambda data: private("user").sign(data + b"!"),
    "of another kind": lambda data: generate(Algorithm.ECDSA_256).sign(data),
    "nothing": lambda _data: b"",
    "noise": lambda _data: b"\xff" * 100,
}


@pytest.mark.parametrize("lie", LIES)
def test_what_does_not_hold_never_leaves(files, tmp_path, lie: str):
    with server(agent_that(LIES[lie]), tmp_path / "agent"):
        with_agent(files, AgentPlace(str(tmp_path / "agent")))

        async def test(signer: ProcessSigner) -> None:
            assert USER in files_of(await signer.keys()).values()
            assert (await refusal(signer)).code == "custody"

        run(files, test)


@pytest.mark.parametrize(
    "bytes_of", [b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\5\x0c\xff\xff\xff\xff", b"\0\0\0\1\x05"]
)
def test_an_agent_that_talks_nonsense(files, tmp_path, bytes_of: bytes):
    with server(lambda connection: connection.sendall(bytes_of), tmp_path / "agent"):
        with_agent(files, AgentPlace(str(tmp_path / "agent")))

        async def test(signer: ProcessSigner) -> None:
            assert refusals(await signer.keys())[USER]
            await host_key_signs(signer)

        run(files, test)


def drip(connection: socket.socket) -> None:
    """A byte now and then, of an answer that never ends."""
    try:
        connection.sendall(b"\0\0\x10\0\x0c")
        for _ in range(100):
            connection.sendall(b"\0")
            time.sleep(0.1)
    except OSError:
        pass


def test_a_keeper_that_drips_delays_the_others_by_its_time_limit_and_no_more(files, tmp_path):
    with server(drip, tmp_path / "agent"):
        with_agent(files, AgentPlace(str(tmp_path / "agent"), timeout_ms=300))

        async def test(signer: ProcessSigner) -> None:
            assert "does not answer within" in refusals(await signer.keys())[USER]
            await host_key_signs(signer)

        run(files, test)


def test_an_engine_that_drips_is_waited_for_no_longer(tmp_path):
    """An HTTP head that never ends: each line comes in time."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            try:
                for number in range(100):
                    connection.sendall(f"x-{number}: y\r\n".encode())
                    time.sleep(0.05)
            except OSError:
                pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    token = secret(tmp_path / "token", "s.token")
    place = TransitPlace(address, str(token), timeout_ms=300)
    with closing(listener), closing(Transit(place)) as engine, pytest.raises(Unreachable, match="not answer within"):
        engine.key("user")
    thread.join(10)
