"""The mover of bytes: nothing lost, nothing held, each end told, whatever the two sides do."""

import contextlib
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jitgate.gateway import carry

pytestmark = pytest.mark.enable_socket  # sockets on loopback are what is moved between

ID = b"01HF7YAT00TEST00000000000A"
PATIENCE_S = 20.0


@dataclass
class Running:
    """A mover on a thread of this process, and the end of its parent."""

    control: socket.socket
    mover: carry.Mover

    def carry(self, number: int = 0) -> tuple[socket.socket, socket.socket]:
        """A client and a host, with the mover between them."""
        (client, ours), (host, theirs) = pair(), pair()
        message = carry.OPEN + identifier(number)
        socket.send_fds(self.control, [message], [ours.fileno(), theirs.fileno()])
        ours.close()
        theirs.close()
        return client, host

    def end(self, number: int = 0) -> None:
        self.control.send(carry.END + identifier(number))

    def told(self) -> tuple[bytes, bytes, int, int]:
        """The next end: whose, why, bytes up, bytes down."""
        while True:
            message = self.control.recv(64)
            assert message, "the mover has died"
            if message[:1] == carry.DONE:
                _, whose, why, up, down = carry.REPORT.unpack(message)
                return whose, why, up, down


def identifier(number: int) -> bytes:
    return ID[:20] + b"%06d" % number


def pair() -> tuple[socket.socket, socket.socket]:
    """A TCP connection: splice(2) has its own way for each kind of socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.settimeout(PATIENCE_S)
    return ours, theirs


@pytest.fixture
def running() -> Iterator[Running]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    mover = carry.Mover(theirs)
    thread = threading.Thread(target=mover.run)
    thread.start()
    yield Running(ours, mover)
    ours.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    mover.close()
    theirs.close()


def sent(connection: socket.socket, data: bytes, *, close: bool = True) -> threading.Thread:
    def send() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def received(connection: socket.socket) -> bytes:
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(1 << 20):
            found += data
    return bytes(found)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_every_byte_both_ways_at_once(running: Running):
    client, host = running.carry()
    up, down = os.urandom(30_000_000), os.urandom(20_000_000)
    threads = [sent(client, up), sent(host, down)]
    got: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda: got.update(up=received(host))),
        threading.Thread(target=lambda: got.update(down=received(client))),
    ]
    for thread in readers:
        thread.start()
    for thread in threads + readers:
        thread.join(PATIENCE_S)
    assert hashlib.sha256(got["up"]).digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(got["down"]).digest() == hashlib.sha256(down).digest()
    whose, why, *counts = running.told()
    assert (whose, counts) == (identifier(0), [len(up), len(down)])
    assert why in (carry.CLIENT_CLOSED, carry.HOST_CLOSED)
    client.close()
    host.close()


@pytest.mark.parametrize(("first", "why"), [("client", carry.CLIENT_CLOSED), ("host", carry.HOST_CLOSED)])
def test_a_half_close_is_passed_on_and_the_other_way_stays(running: Running, first: str, why: bytes):
    client, host = running.carry()
    one, other = (client, host) if first == "client" else (host, client)
    one.shutdown(socket.SHUT_WR)
    assert received(other) == b""
    other.sendall(b"still here")
    assert one.recv(100) == b"still here"
    other.close()
    assert received(one) == b""
    assert running.told()[1] == why
    one.close()


def test_a_side_that_says_nothing_after_the_other_has_closed(running: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(carry, "HALF_CLOSED_S", 0.2)
    monkeypatch.setattr(carry, "COUNT_S", 0.05)
    client, host = running.carry()
    client.shutdown(socket.SHUT_WR)
    assert received(host) == b""
    assert received(client) == b""
    assert running.told()[1] == carry.HALF_CLOSED
    client.close()
    host.close()


@pytest.mark.parametrize(("first", "why"), [("client", carry.CLIENT_GONE), ("host", carry.HOST_GONE)])
def test_a_reset_ends_both_and_what_came_before_arrives(running: Running, first: str, why: bytes):
    client, host = running.carry()
    one, other = (client, host) if first == "client" else (host, client)
    one.sendall(b"last words")
    assert other.recv(100) == b"last words"
    reset(one)
    assert received(other) == b""
    assert running.told()[1] == why
    other.close()


def test_last_words_of_a_host_that_takes_nothing_any_more(running: Running):
    """It answers, closes with our bytes unread, so that the kernel resets: the answer arrives all the same."""
    client, host = running.carry()
    words = os.urandom(200_000)
    client.sendall(b"x" * 100_000)
    host.sendall(words)
    time.sleep(0.05)
    host.close()
    assert received(client)[: len(words)] == words
    assert running.told()[1] in (carry.HOST_GONE, carry.HOST_CLOSED)
    client.close()


def test_who_does_not_read_holds_the_sender_and_loses_nothing(running: Running):
    client, host = running.carry()
    data = os.urandom(1 << 20)
    client.settimeout(1.0)
    held = 0
    with contextlib.suppress(TimeoutError):
        while held < 1 << 30:
            held += client.send(data)
    assert held < 64 << 20, "the bytes of one direction are the sockets' buffers and one pipe"
    other, far = running.carry(1)  # others are not held
    other.sendall(b"hello")
    assert far.recv(100) == b"hello"
    client.settimeout(PATIENCE_S)
    client.shutdown(socket.SHUT_WR)
    assert len(received(host)) == held
    for each in (client, host, other, far):
        each.close()


def test_told_to_end_it_ends_at_once(running: Running):
    client, host = running.carry()
    client.sendall(b"hello")
    assert host.recv(100) == b"hello"
    running.end()
    running.end()  # of what has ended: nothing
    assert running.told()[1:] == (carry.TOLD, 5, 0)
    assert received(client) == b""
    with pytest.raises(ConnectionResetError):
        assert host.recv(1)
    client.close()
    host.close()


def test_many_pairs_leave_no_descriptor_behind(running: Running):
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for turn in range(3):
        pairs = [running.carry(number) for number in range(60)]
        for number, (client, _) in enumerate(pairs):
            client.sendall(b"%d" % number)
        for number, (_, host) in enumerate(pairs):
            assert host.recv(100) == b"%d" % number
        for number, (client, host) in enumerate(pairs):
            (reset if number % 3 == turn else socket.socket.close)(client)
            host.close()
        assert sorted(running.told()[0] for _ in pairs) == [identifier(number) for number in range(60)]
    until = time.monotonic() + PATIENCE_S
    spare = 2 * 2 * carry.SPARE_MAX  # pipes that are kept for the next, of both kinds
    while descriptors() > before + spare and time.monotonic() < until:  # those that linger
        time.sleep(0.1)
    assert descriptors() <= before + spare


def test_without_large_pipes_it_goes_on_with_small_ones(running: Running, monkeypatch: pytest.MonkeyPatch):
    """The system lets a user have only so many pages in pipes (pipe(7))."""
    monkeypatch.setattr(carry, "PIPE", 1 << 40)
    monkeypatch.setattr(carry, "BULK", 0)
    client, host = running.carry()
    data = os.urandom(5_000_000)
    sender = sent(client, data)
    assert received(host) == data
    sender.join()
    host.close()
    client.close()


def test_nonsense_from_the_parent_changes_nothing(running: Running):
    client, host = running.carry()
    running.control.send(b"?")
    running.control.send(carry.OPEN + ID)  # the system kept the descriptors
    running.control.send(carry.END)
    assert running.told() == (ID, carry.LOST, 0, 0)
    client.sendall(b"hello")
    assert host.recv(100) == b"hello"
    client.close()
    host.close()


def test_without_a_descriptor_for_a_pipe_it_waits_for_one(running: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(carry, "COUNT_S", 0.05)
    pipe, failures = os.pipe2, [OSError(24, "Too many open files")] * 5

    def scarce(flags: int) -> tuple[int, int]:
        if failures:
            raise failures.pop()
        return pipe(flags)

    monkeypatch.setattr(os, "pipe2", scarce)
    client, host = running.carry()
    sender = sent(client, b"x" * 100_000)
    assert received(host) == b"x" * 100_000
    assert not failures
    sender.join()
    client.close()
    host.close()
