"""Bytes through the tunnel, from a host to a client, beside a direct connection and HAProxy with `splice-auto`.

One stream; host and client are processes of their own, as they are in life.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.bench.issue import start
from tests.bench.rows import Row, find_haproxy, median
from tests.bench.start import resident
from tests.service import Nursery, new_service
from tests.tunnel import certified, enter, granted, opened

from jitgate.app.demo.daemon import free_port

SECONDS = 1.0
ROUNDS = 5
TUNNELS = 200
CHUNK = 1 << 20
PATIENCE_S = 20

HAPROXY = """\
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option splice-auto
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server host 127.0.0.1:{host}
"""


def tunnel() -> Iterator[Row]:
    with ExitStack() as stack:
        nursery = Nursery()
        stack.callback(nursery.close)
        host = stack.enter_context(_host())
        service = stack.enter_context(new_service(nursery, tls=True))
        start(service, host)
        person = enter(service, "alice", "engineers")
        grant = granted(person)

        def ours() -> socket.socket:
            return opened(service, certified(person, grant)["tunnel"]["ticket"]).socket

        peers: list[tuple[str, Callable[[], socket.socket], str]] = [("direct", lambda: _dial(host), ">= 0.8")]
        if program := find_haproxy():
            port = stack.enter_context(_haproxy(program, host))
            peers.append(("HAProxy, splice-auto", lambda: _dial(port), ">= 1.2"))
        for name, dial, target in peers:
            pairs = [(_speed(ours()), _speed(dial())) for _ in range(ROUNDS)]
            yield Row("tunnel", "MB/s", median(a for a, _ in pairs), median(b for _, b in pairs), name, target)

        before = resident(service.pid)
        idle = [ours() for _ in range(TUNNELS)]
        time.sleep(1)
        each = (resident(service.pid) - before) / TUNNELS * 1024
        for one in idle:
            one.close()
        yield Row("memory", "KiB a tunnel", each, None, "", "<= 20")


def _speed(connection: socket.socket) -> float:
    """MB/s over `SECONDS`, after a first tenth of that."""
    buffer = bytearray(CHUNK)
    with closing(connection):
        connection.sendall(b"go")
        _take(connection, buffer, SECONDS / 10)
        began = time.perf_counter()
        taken = _take(connection, buffer, SECONDS)
        return taken / (time.perf_counter() - began) / 1e6


def _take(connection: socket.socket, buffer: bytearray, seconds: float) -> int:
    taken, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        count = connection.recv_into(buffer)
        assert count, "the stream ended"
        taken += count
    return taken


@contextmanager
def _host() -> Iterator[int]:
    """A process that sends without end to whoever says something first."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=TUNNELS)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _send(connection)
                os._exit(0)
            connection.close()
    port = listener.getsockname()[1]
    listener.close()
    try:
        yield port
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _send(connection: socket.socket) -> None:
    data = bytes(CHUNK)
    try:
        if connection.recv(2):
            while True:
                connection.sendall(data)
    except OSError:
        pass


def _dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


@contextmanager
def _haproxy(program: Path, host: int) -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(HAPROXY.format(port=port, host=host))
        process = subprocess.Popen([program, "-f", config, "-db"], stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + PATIENCE_S
            while True:
                try:
                    _dial(port).close()
                    break
                except OSError:
                    assert time.monotonic() < until, "haproxy did not start"
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            process.wait()
