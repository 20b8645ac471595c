"""An sshd that listens for others is never ended; a login's own sshd is, whatever it forwards."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jitgate.agent import processes
from jitgate.agent.processes import Tree

CODE = """
import socket, sys, time
open("/proc/self/comm", "w").write("sshd")
listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1]))) if sys.argv[1] else None
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def client() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.enable_socket
@pytest.mark.parametrize("connected", [True, False])
def test_only_an_sshd_without_a_connection_listens_for_others(
    client: int, *, connected: bool, monkeypatch: pytest.MonkeyPatch
):
    """As for a login of root with `ssh -R`, or X11: one process, with the connection and the port."""
    words = [sys.executable, "-c", CODE, str(client) if connected else ""]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as sshd:
        try:
            assert sshd.stdout is not None
            assert sshd.stdout.readline() == b"ready\n"
            monkeypatch.setattr(processes, "is_sshd", lambda pid: pid == sshd.pid)
            found = processes.stat(sshd.pid)
            assert found is not None
            assert found.name == "sshd"
            processes.end([Tree(found.process)])
            assert processes.is_alive(found.process) is not connected
        finally:
            sshd.kill()
