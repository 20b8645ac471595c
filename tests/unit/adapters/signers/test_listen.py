"""Who may not ask a signer that runs apart does not keep it from those who may."""

import selectors
import socket
import time
from pathlib import Path

import pytest

from jitgate.adapters.signers import listen

pytestmark = pytest.mark.enable_socket  # a Unix socket is what is tested


def test_a_crowd_that_may_not_ask_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listen, "peer_of", lambda _: (1, 4711))
    tmp_path.chmod(0o700)
    clients = []
    with listen.open_listener(tmp_path / "s") as listener, selectors.DefaultSelector() as selector:
        door = listen.Door()
        selector.register(listener, selectors.EVENT_READ, door)
        for _ in range(40):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].connect(str(tmp_path / "s"))  # and says nothing
        began = time.monotonic()
        for _ in clients:
            listen._let_in(selector, listener, (), door)
        assert time.monotonic() - began < 20 * listen._FAREWELL_S
        assert len(selector.get_map()) == 1
    for client in clients:
        with client:
            assert b"may not ask" in client.recv(1000)
