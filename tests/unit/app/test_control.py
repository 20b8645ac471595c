"""The operators' socket: who may speak to it. What is said there: tests/flow/test_control.py."""

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path

import pytest

from jitgate.app import control
from jitgate.app.control import serve_control
from jitgate.audit.events import Actor
from jitgate.core.errors import BadInput


class Peer:
    """A connection whose other end is of some user, as the kernel would say."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return struct.pack("3i", 4711, self.uid, 100)[:size]


def test_only_the_services_own_user_and_root_are_operators(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 991)
    for uid in (1, 990, 1000, 65534, -1):
        with pytest.raises(BadInput, match="own user and root"):
            control._actor(Peer(uid))  # type: ignore[arg-type]  # all that is asked of a socket
    assert control._actor(Peer(0)).kind == "operator"  # type: ignore[arg-type]
    assert control._actor(Peer(991)) == Actor("operator", name="uid 991")  # type: ignore[arg-type]


def test_who_goes_away_before_the_answer_is_no_error_of_the_service(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async def test() -> None:
        served = await serve_control(tmp_path, {})
        for _ in range(3):
            assert await asyncio.to_thread(control.is_served, tmp_path)
        await asyncio.sleep(0.1)
        await served.stop()

    asyncio.run(test())
    assert not control.is_served(tmp_path)
    assert not caplog.records


def test_the_socket_is_for_its_owner_alone(tmp_path: Path):
    async def test() -> None:
        served = await serve_control(tmp_path, {})
        assert stat.S_IMODE((tmp_path / control.SOCKET).stat().st_mode) == 0o600
        await served.stop()

    mask = os.umask(0)
    try:
        asyncio.run(test())
    finally:
        os.umask(mask)
