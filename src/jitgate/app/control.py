"""The operator's way in: a Unix socket in the state folder, one JSON line each way.

Whoever can open the socket runs the service already: the folder is 0700, the socket 0600, and the peer's user id, which
the kernel vouches for, must be the service's own or root. That user's name stands in the log as the actor.
"""

import asyncio
import json
import logging
import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jitgate.audit.events import Actor
from jitgate.core.errors import BadInput, Error, Unreachable
from jitgate.core.peer import peer_of

LINE_MAX = 32 * 1024 * 1024  # bytes; a whole policy is one line
SOCKET = "control.sock"
GRACE_S = 10.0  # seconds that running acts have when the service stops

_LOG = logging.getLogger("jitgate.control")

Json = dict[str, Any]
Act = Callable[[Actor, Json], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Control:
    """The open socket, and the acts that are being done."""

    server: asyncio.Server
    running: set[asyncio.Task[None]]

    async def stop(self) -> None:
        """Take no more, and finish what has begun: what an act made (a password) is shown once and never again."""
        self.server.close()
        if self.running:
            await asyncio.wait(self.running, timeout=GRACE_S)


async def serve_control(state: Path, acts: Mapping[str, Act]) -> Control:
    """Open the socket; every line `{"act": NAME, "with": {...}}` is answered by one line."""
    running: set[asyncio.Task[None]] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await _line(reader)  # read first: who is hung up on in the middle of it never sees the no
            actor = _actor(writer.get_extra_info("socket"))
            if task := asyncio.current_task():
                running.add(task)
                task.add_done_callback(running.discard)
            answer = await _answer(line, actor, acts)
        except Error as error:
            answer = _failure(error)
        except Exception:  # noqa: BLE001  # whatever it was, the command is told, and the next one is answered
            _LOG.exception("an operator's act crashed")
            answer = _failure(Error("the service made a mistake", "its log has the details"))
        writer.write(json.dumps(answer).encode() + b"\n")
        with closing(writer), suppress(ConnectionError):  # who went away misses the answer
            await writer.drain()

    path = state / SOCKET
    path.unlink(missing_ok=True)  # of a service that was killed: the lock says that none runs now
    mask = os.umask(0o177)
    try:
        return Control(await asyncio.start_unix_server(on_connection, path, limit=LINE_MAX), running)
    finally:
        os.umask(mask)


def call_control(state: Path, act: str, arguments: Json) -> Json | None:
    """Have the running service do it; None if none runs. Raises the error that the act raised."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(state / SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise PermissionError(error.errno, error.strerror, str(state / SOCKET)) from None
        with suppress(BrokenPipeError):  # then there is an answer already
            connection.sendall(json.dumps({"act": act, "with": arguments}).encode() + b"\n")
        with connection.makefile("rb") as file:
            line = file.readline(LINE_MAX)
    if not line:
        raise Unreachable("the service closed the connection", "look at its log")
    answer: Json = json.loads(line)
    if "error" in answer:
        raise _error(answer["error"])
    done: Json = answer["done"]
    return done


def is_served(state: Path) -> bool:
    """Whether a service listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(state / SOCKET)) == 0


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than the reader's limit
        raise BadInput("the request is too large", f"at most {LINE_MAX} bytes") from None


async def _answer(line: bytes, actor: Actor, acts: Mapping[str, Act]) -> Json:
    try:
        asked = json.loads(line)
        act, arguments = acts[asked["act"]], dict(asked["with"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput("not a request", "the command and the running service are of different versions") from None
    return {"done": await act(actor, arguments)}


def operator(uid: int) -> Actor:
    """The person at the server's own command line, by their system user's name."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Actor("operator", name=name)


def _actor(peer: socket.socket) -> Actor:
    _, uid = peer_of(peer)
    if uid not in {0, os.geteuid()}:
        raise BadInput("this socket is for the service's own user and root")
    return operator(uid)


def _failure(error: Error) -> Json:
    return {
        "error": {
            "what": error.what,
            "hint": error.hint,
            "code": error.code,
            "exit_status": error.exit_status,
        }
    }


def _error(told: Mapping[str, Any]) -> Error:
    error = Error(told["what"], told["hint"], code=told["code"])
    error.exit_status = told["exit_status"]
    return error
