"""The operators' socket: who may speak to it, and what comes of words that are none."""

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from jitgate.app import control
from jitgate.app.control import call_control, serve_control
from jitgate.audit.events import Actor
from jitgate.core.errors import BadInput, Denied, Error


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


async def close(server: asyncio.Server) -> None:
    """Stop, and let those connections end that were just answered."""
    server.close()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    await asyncio.sleep(0)


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


def test_another_user_is_told_so_and_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []

    async def act(actor: Actor, _arguments: Any) -> Any:
        done.append(actor.name)
        return {}

    def refuse(_peer: object) -> Actor:
        raise BadInput("this socket is for the service's own user and root")

    async def test() -> None:
        served = await serve_control(tmp_path, {"policy apply": act})
        with pytest.raises(Error, match="own user and root"):
            await asyncio.to_thread(call_control, tmp_path, "policy apply", {})
        await served.stop()

    monkeypatch.setattr(control, "_actor", refuse)
    asyncio.run(test())
    assert not done


@pytest.mark.parametrize(
    "line", [b"\n", b"x\n", b"[]\n", b"{}\n", b'{"act": "no such", "with": {}}\n', b"\xff\n", b"[" * 9000 + b"\n"]
)
def test_a_line_that_is_no_request_is_refused_and_the_next_is_served(tmp_path: Path, line: bytes):
    async def ask(_actor: Actor, arguments: Any) -> Any:
        if not arguments:
            raise Denied("no", "ask for something")
        return arguments

    async def test() -> None:
        served = await serve_control(tmp_path, {"echo": ask})
        reader, writer = await asyncio.open_unix_connection(tmp_path / control.SOCKET)
        writer.write(line)
        assert b'"error"' in await reader.readline()
        writer.close()
        assert await asyncio.to_thread(call_control, tmp_path, "echo", {"a": 1}) == {"a": 1}
        with pytest.raises(Error) as refused:
            await asyncio.to_thread(call_control, tmp_path, "echo", {})
        assert (refused.value.what, refused.value.hint, refused.value.exit_status) == ("no", "ask for something", 4)
        await served.stop()

    asyncio.run(test())


def test_where_nothing_serves_there_is_no_answer(tmp_path: Path):
    assert call_control(tmp_path, "user ls", {}) is None
