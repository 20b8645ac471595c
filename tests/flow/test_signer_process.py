"""The signer as a process: killed, starved, lied to, and left alone by its parent."""

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conformance.signing import request, signer_files
from tests.unit.ca.samples import RULES, private

from jitgate.adapters.signers import child, protocol
from jitgate.adapters.signers import process as module
from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.ledger import Ledger
from jitgate.adapters.signers.process import ProcessSigner, SignerSettings, open_signer
from jitgate.adapters.signers.protocol import Hello, ListFrom, Sign
from jitgate.adapters.signers.server import serve
from jitgate.ca.model import SignedEntry, SignerRefusal, SignRequest
from jitgate.ca.signed import NOTHING, parse_line
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput, Unreachable
from jitgate.ssh.cert import join, parse_to_be_signed
from jitgate.ssh.wire import FormatError

KILLS = 15
CALLERS = 8
PR_GET_DUMPABLE = 3  # linux/prctl.h


@pytest.fixture
def files(tmp_path: Path) -> SignerSettings:
    return signer_files(tmp_path)


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


async def listed(signer: ProcessSigner) -> tuple[list[SignedEntry], int]:
    """The whole list, and how many of its lines cannot be read."""
    entries: list[SignedEntry] = []
    offset = unreadable = 0
    while (page := await signer.signed(offset)).entries:
        entries += page.entries
        unreadable += page.unreadable
        offset = page.next
    return entries, unreadable


def test_killed_at_any_moment_nothing_is_outside_that_is_not_in_the_list(files, monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    outside: list[tuple[int, str]] = []

    async def caller(signer: ProcessSigner, stop: asyncio.Event) -> None:
        while not stop.is_set():
            each = request()
            try:
                (result,) = await signer.sign([each])
            except Unreachable:
                continue
            if isinstance(result, bytes):
                serial = join(each.tbs, result).body.serial
                outside.append((serial, hashlib.sha256(each.tbs).hexdigest()))
            else:
                assert result.code == "serial"  # taken before a restart, asked for after it

    async def test() -> None:
        stop = asyncio.Event()
        async with open_signer(files) as signer:
            callers = [asyncio.create_task(caller(signer, stop)) for _ in range(CALLERS)]
            killed: set[int] = set()
            while len(killed) < KILLS:
                with contextlib.suppress(Unreachable):  # asked of the one that was killed
                    await signer.keys()
                await asyncio.sleep(random.random() / 30)  # the moment is what is tried, nothing waits for it
                if signer.pid and signer.pid not in killed:
                    killed.add(signer.pid)
                    os.kill(signer.pid, signal.SIGKILL)
            stop.set()
            await asyncio.gather(*callers)
            with contextlib.suppress(Unreachable):
                await signer.keys()
            entries, _ = await listed(signer)
        known = [(entry.serial, entry.tbs_sha256) for entry in entries]
        assert len(set(known)) == len(known)
        assert len({serial for serial, _ in known}) == len(known)
        assert set(outside) <= set(known)
        assert len(outside) > KILLS

    run(test())


def test_callers_under_way_are_told_and_the_next_are_served(files):
    async def test() -> None:
        async with open_signer(files) as signer:
            await signer.keys()
            first = signer.pid
            os.kill(first, signal.SIGSTOP)
            under_way = asyncio.create_task(signer.sign([request()]))
            for _ in range(10):
                await asyncio.sleep(0)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(Unreachable, match="ended before it answered"):
                await under_way
            (result,) = await signer.sign([request()])
            assert isinstance(result, bytes)
            assert signer.pid != first

    run(test())


def test_a_signer_that_hangs_is_killed_and_replaced(files, monkeypatch):
    async def test() -> None:
        async with open_signer(files) as signer:
            first = signer.pid
            monkeypatch.setattr(module, "ANSWER_S", 0.01)
            monkeypatch.setattr(child, "STOP_S", 0.01)
            os.kill(first, signal.SIGSTOP)
            with pytest.raises(Unreachable):
                await signer.sign([request()])
            monkeypatch.undo()
            assert isinstance((await signer.sign([request()]))[0], bytes)

    run(test())


def test_after_a_restart_of_everything_used_serials_stay_used(files):
    used = request()

    async def first() -> None:
        async with open_signer(files) as signer:
            assert isinstance((await signer.sign([used]))[0], bytes)

    async def second() -> None:
        async with open_signer(files) as signer:
            again, fresh = await signer.sign([used, request()])
            assert isinstance(again, SignerRefusal)
            assert again.code == "serial"
            assert isinstance(fresh, bytes)
            assert len((await listed(signer))[0]) == 2

    run(first())
    run(second())


def test_a_torn_last_line_is_left_and_gone_past(files):
    torn = request()

    async def sign(each: SignRequest) -> tuple[list[SignedEntry], int]:
        async with open_signer(files) as signer:
            assert isinstance((await signer.sign([each]))[0], bytes)
            return await listed(signer)

    asyncio.run(sign(torn))
    path = files.state / "signed.list"
    path.write_bytes(path.read_bytes()[:-30])
    after = request()
    entries, unreadable = asyncio.run(sign(after))
    assert [entry.serial for entry in entries] == [parse_to_be_signed(after.tbs)[0].serial]
    assert unreadable == 1


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda files: (files.keys / "user").chmod(0o644), "has mode 0644"),
        (lambda files: (files.keys / "log").chmod(0o640), "has mode 0640"),
        (lambda files: files.keys.chmod(0o777), "others can write"),
        (lambda files: (files.keys / "host").unlink(), "cannot open"),
        (lambda files: (files.keys / "host").write_bytes(b"no key"), "keys/host: "),
        (lambda files: files.rules.chmod(0o666), "has mode 0666"),
        (lambda files: files.rules.write_text(files.rules.read_text().replace("burst", "bursts")), "burst"),
        (lambda files: files.rules.unlink(), "signer.toml"),
        (lambda files: files.state.write_text(""), "state"),
    ],
)
def test_what_is_unsafe_or_missing_stops_it_at_the_start_and_is_said(files, break_it, words, capfd):
    break_it(files)

    async def test() -> None:
        async with open_signer(files):
            pass

    with pytest.raises(Unreachable, match=f"the signer does not start: .*{words}"):
        run(test())
    assert words in capfd.readouterr().err


def test_a_program_that_is_no_signer_is_said_to_be_none(files):
    async def test(*command: str) -> None:
        async with open_signer(SignerSettings(files.keys, files.rules, files.state, command)):
            pass

    for command in ("/bin/true", "/nonexistent"):
        with pytest.raises(Unreachable, match="does not start"):
            run(test(command))


def test_keys_on_a_mount_that_cannot_be_written_are_enough(files):
    for path in files.keys.iterdir():
        path.chmod(0o400)
    files.keys.chmod(0o500)
    before = {path: path.stat() for path in [files.keys, *files.keys.iterdir()]}

    async def test() -> None:
        async with open_signer(files) as signer:
            assert isinstance((await signer.sign([request()]))[0], bytes)
            assert isinstance(await signer.checkpoint(f"jitgate.example.com/log\n1\n{'A' * 43}=\n".encode()), bytes)

    run(test())
    after = {path: path.stat() for path in [files.keys, *files.keys.iterdir()]}
    assert {p: (s.st_mtime_ns, s.st_ctime_ns) for p, s in before.items()} == {
        p: (s.st_mtime_ns, s.st_ctime_ns) for p, s in after.items()
    }


def test_two_services_do_not_share_a_list(files):
    hasty = "from jitgate.app import signer; signer.PATIENCE_S = 0.5; from jitgate.app.main import main; main()"
    second = replace(files, command=(sys.executable, "-I", "-c", hasty, "signer"))

    async def test() -> None:
        async with open_signer(files):
            with pytest.raises(Unreachable, match="another signer"):
                async with open_signer(second):
                    pass

    run(test())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_gives_up_what_it_does_not_need(files, monkeypatch, loop):
    monkeypatch.setenv("JITGATE_SECRET", "hunter2")

    async def test() -> None:
        async with open_signer(files) as signer:
            await signer.sign([request()])
            proc = Path(f"/proc/{signer.pid}")
            limits = {
                line[:25].strip(): line[26:].split()[0] for line in (proc / "limits").read_text().splitlines()[1:]
            }
            assert limits["Max core file size"] == limits["Max processes"] == "0"
            assert "NoNewPrivs:\t1" in (proc / "status").read_text()
            assert (proc / "environ").stat().st_uid == 0  # not dumpable: the kernel gives /proc entries to root
            assert b"hunter2" not in (proc / "cmdline").read_bytes()
            if os.geteuid() == 0:
                assert b"JITGATE" not in (proc / "environ").read_bytes()
                opened = [each.stat() for each in (proc / "fd").iterdir()]
                assert sorted(stat.S_IFMT(each.st_mode) for each in opened[3:]) == [stat.S_IFREG, stat.S_IFSOCK]
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # its life is its connection
                os.kill(signer.pid, number)
            assert isinstance((await signer.sign([request()]))[0], bytes)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


@pytest.mark.parametrize("threads", [False, True])
def test_nobody_of_its_own_user_can_trace_it(threads):
    """Asked of the kernel: to root /proc shows every process as root's."""
    code = f"""
import ctypes, jitgate.adapters.signers.harden as harden
ask = ctypes.CDLL(None).prctl
before = ask({PR_GET_DUMPABLE}, 0, 0, 0, 0)
harden.give_up(threads={threads})
print(before, ask({PR_GET_DUMPABLE}, 0, 0, 0, 0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1 0\n", done.stderr


PARENT = """
import asyncio, sys
from pathlib import Path
from jitgate.adapters.signers.process import SignerSettings, open_signer

async def main():
    async with open_signer(SignerSettings(*map(Path, sys.argv[1:]))) as signer:
        print(signer.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_it_ends_when_its_parent_is_killed(files):
    command = [sys.executable, "-c", PARENT, str(files.keys), str(files.rules), str(files.state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert select.select([child], [], [], 20)[0]
    finally:
        os.close(child)


def _connected(files: SignerSettings) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    paths = ["--keys", files.keys, "--rules", files.rules, "--state", files.state]
    command = [sys.executable, "-I", "-m", "jitgate", "signer", "--fd", str(theirs.fileno()), *map(str, paths)]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    theirs.close()
    return child, ours


def _read(connection: socket.socket) -> bytes:
    return connection.recv(protocol.length_of(connection.recv(4, socket.MSG_WAITALL)), socket.MSG_WAITALL)


def test_a_message_that_is_wrong_ends_it_with_a_word_and_the_list_as_it_was(files):
    child, connection = _connected(files)
    with child, connection:
        connection.sendall(protocol.put_request(Sign((request(),))))
        assert isinstance(protocol.take_results(protocol.Op.SIGN, _read(connection), 1)[0], bytes)
        before = (files.state / "signed.list").read_bytes()
        connection.sendall(b"\xff\xff\xff\xff" + b"GET / HTTP/1.1\r\n\r\n")
        assert child.wait(20) == 1
        assert child.stderr is not None
        assert b"jitgate signer: error: the service sent what it may not: a frame of 4294967295" in child.stderr.read()
    assert (files.state / "signed.list").read_bytes() == before


def test_half_a_message_signs_nothing(files):
    child, connection = _connected(files)
    with child, connection:
        connection.sendall(protocol.put_request(Hello()))
        _read(connection)
        connection.sendall(protocol.put_request(Sign((request(),)))[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
        assert child.wait(20) == 1
    lines = (files.state / "signed.list").read_bytes().splitlines()
    assert not [line for line in lines if isinstance(parse_line(line), SignedEntry)]


def test_started_by_hand_it_says_who_starts_it(files):
    paths = ["--keys", files.keys, "--rules", files.rules, "--state", files.state]
    command = [sys.executable, "-I", "-m", "jitgate", "signer", "--fd", "99", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no connection at descriptor 99" in done.stderr
    assert "Traceback" not in done.stderr


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.binary(max_size=60).map(lambda data: len(data).to_bytes(4, "big") + data),
            st.builds(lambda offset: protocol.put_request(ListFrom(offset)), st.integers(0, 200)),
            st.builds(lambda tbs: protocol.put_request(Sign((SignRequest("default", tbs),))), st.binary(max_size=60)),
            st.just(protocol.put_request(Hello())),
        ),
        max_size=6,
    )
)
def test_no_stream_of_bytes_makes_the_loop_fail_in_another_way_than_it_says(tmp_path, parts):
    ledger = Ledger(tmp_path)
    keys = {name: private(name) for name in [*RULES.files(), *RULES.other_files()]}
    desk = Desk(RULES, keys, NOTHING, ledger.append, clock=system_clock, tick=system_clock)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"".join(parts))
        ours.shutdown(socket.SHUT_WR)
        try:
            serve(theirs, desk, ledger)
        except FormatError:
            pass
        finally:
            ledger.close()
    assert b'"serial"' not in (tmp_path / "signed.list").read_bytes()


def test_a_certificate_too_long_is_refused_before_it_can_end_the_signer(files):
    async def test() -> None:
        async with open_signer(files) as signer:
            with pytest.raises(BadInput, match="bytes"):
                await signer.sign([SignRequest("default", bytes(200_000))])
            with pytest.raises(BadInput):
                await signer.sign([SignRequest("r" * 65, bytes(20))])
            assert isinstance((await signer.sign([request()]))[0], bytes)

    run(test())


def test_nothing_is_signed_for_a_caller_who_has_gone(files):
    async def test() -> None:
        async with open_signer(files) as signer:
            gone = asyncio.create_task(signer.sign([request()]))
            stays = asyncio.create_task(signer.sign([request()]))
            await asyncio.sleep(0)
            gone.cancel()
            await stays
            assert len((await listed(signer))[0]) == 1

    run(test())
