"""A signer that runs apart: who may ask it, and what nobody who may ask can do to it."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conformance.signing import request, signer_files
from tests.keepers import signer_apart
from tests.service import ROLES, Service

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.process import SignerSettings, open_signer
from jitgate.adapters.signers.protocol import Hello, Sign
from jitgate.app.apart import within_reach
from jitgate.core.errors import Unreachable

ASK = """
import os, socket, sys
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
print(connection.recv(999)[4:].hex())
"""


@pytest.fixture
def files(tmp_path: Path) -> SignerSettings:
    return signer_files(tmp_path)


def connect(files: SignerSettings) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(files.socket)
    return connection


def answers(connection: socket.socket) -> bool:
    connection.sendall(protocol.put_request(Hello()))
    head = connection.recv(4, socket.MSG_WAITALL)
    return len(head) == 4 and connection.recv(1)[0] == protocol.Op.HELLO


def test_another_user_is_told_no(files):
    """Root may always ask: it could take the keys."""
    with signer_apart(files, "12345") as reached:
        if os.geteuid() == 0:
            Path(reached.socket).parent.chmod(0o755)
            command = [sys.executable, "-I", "-c", ASK, reached.socket]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            told = bytes.fromhex(done.stdout)
        else:
            with connect(reached) as connection:
                told = connection.recv(999)[4:]
        assert told[0] == protocol.Op.FAILED
        assert b"may not ask" in told


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\x09",
        b"\0\0\0\5\1\0\0\0\x63",
        protocol.put_request(Sign((request(),)))[:-5],
    ],
)
def test_nonsense_costs_its_sender_the_connection_and_nobody_else_anything(files, nonsense: bytes):
    with signer_apart(files) as reached, connect(reached) as other:
        assert answers(other)
        with connect(reached) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert answers_again(other)


def answers_again(connection: socket.socket) -> bool:
    """After the rest of an answer was thrown away."""
    connection.setblocking(False)
    time.sleep(0.2)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        connection.setblocking(True)
    connection.settimeout(20)
    return answers(connection)


def test_many_who_only_connect_keep_nobody_out_for_longer_than_they_stay(files):
    with signer_apart(files) as reached, ExitStack() as stack:
        first = stack.enter_context(connect(reached))
        assert answers(first)
        with ExitStack() as crowd:
            more = [crowd.enter_context(connect(reached)) for _ in range(30)]
            assert more[-1].recv(5)[4] == protocol.Op.FAILED
            assert answers_again(first)
        until = time.monotonic() + 20
        while True:
            with connect(reached) as later:
                later.sendall(protocol.put_request(Hello()))
                if later.recv(5)[4] == protocol.Op.HELLO:
                    break
            assert time.monotonic() < until


def test_a_message_that_comes_in_pieces_is_one(files):
    with signer_apart(files) as reached, connect(reached) as connection:
        for byte in protocol.put_request(Hello()):
            connection.sendall(bytes([byte]))
        assert connection.recv(5)[4] == protocol.Op.HELLO


def test_a_second_signer_takes_neither_socket_nor_list(files):
    with signer_apart(files) as reached:
        where = ("--keys", files.keys, "--rules", files.rules, "--state")
        command = [
            sys.executable,
            "-I",
            "-m",
            "jitgate",
            "signer",
            "--for",
            "0",
            *map(str, where),
            str(files.state / "2"),
        ]
        done = subprocess.run([*command, "--listen", reached.socket], capture_output=True, text=True, check=False)
        assert (done.returncode, "listens at" in done.stderr) == (7, True)
        with connect(reached) as connection:
            assert answers(connection)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_socket_that_others_could_replace_is_not_used(files, tmp_path, mode):
    folder = tmp_path / "run"  # of the socket alone: the rules' own folder is looked at too
    folder.mkdir()
    folder.chmod(mode)
    where = ("--keys", files.keys, "--rules", files.rules, "--state", files.state, "--listen", folder / "socket")
    command = [sys.executable, "-I", "-m", "jitgate", "signer", "--for", "0", *map(str, where)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert f"others can write the folder of {folder / 'socket'}" in done.stderr


def test_where_nobody_listens_the_service_says_so(files, tmp_path):
    async def test() -> None:
        async with open_signer(replace(files, socket=str(tmp_path / "none"))):
            pass

    with pytest.raises(Unreachable, match="no signer at"):
        asyncio.run(test())


def test_it_ends_when_it_is_told_to_and_takes_its_socket_with_it(files):
    with signer_apart(files) as reached, connect(reached) as connection:
        assert answers(connection)
    assert not Path(reached.socket).exists()


def test_the_service_goes_on_when_its_signer_is_there_again(install: Callable[..., Service], tmp_path: Path):
    service = install()
    folder = tmp_path / "apart"
    folder.mkdir(mode=0o700)
    for name in ("keys", "signer.toml", "signed"):
        shutil.move(service.settings.state / name, folder / name)
    apart = SignerSettings(folder / "keys", folder / "signer.toml", folder / "signed")
    with ExitStack() as stack:
        reached = stack.enter_context(signer_apart(apart))
        service.start(JITGATE_SIGNER=reached.socket, JITGATE_SIGNER_FOLDER=str(folder))
        service.apply(ROLES)
        service.add_host("web1")
        alice = service.enter("alice", "engineers")
        grant = alice.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
        assert alice.post("/v1/certificates", {"grant": grant, "host": "web1"}).status == 201
        stack.close()
        gone = alice.post("/v1/certificates", {"grant": grant, "host": "web1"})
        assert (gone.status, gone.json["code"]) == (503, "unreachable")
    with signer_apart(apart) as again:
        Path(reached.socket).parent.mkdir(mode=0o700)
        Path(reached.socket).symlink_to(again.socket)
        until = time.monotonic() + 30
        while alice.post("/v1/certificates", {"grant": grant, "host": "web1"}).status != 201:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert service.stop() == 0
    shutil.rmtree(Path(reached.socket).parent)


def test_keys_that_the_services_user_can_read_are_named(
    install: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root, who can read everything, is not asked
    settings = install().settings
    assert within_reach(settings) == []  # a child: there is nothing to say
    named = within_reach(replace(settings, signer="/run/none"))
    assert str(settings.keys_folder / "host_ca") in named
    assert str(settings.state / "signer.toml") in named
