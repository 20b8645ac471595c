"""The loop of a signer that runs apart: a Unix socket, and whoever the kernel says is allowed to ask.

Several connections, because a service that starts overlaps with one that stops, and commands come between; one message
after the other, because one list takes all lines. A connection that sends nonsense or does not read is closed, and the
signer goes on: nobody who may ask can end it, and so begin its memory of rates anew.
"""

import os
import selectors
import socket
import stat
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.ledger import Ledger
from jitgate.adapters.signers.server import LOOK_S, answer
from jitgate.core.errors import Conflict, Error, Unsafe
from jitgate.core.peer import peer_of

CLIENTS_MAX: Final = 16
_WAITING: Final = 128  # connections that were not let in yet
_FAREWELL_S: Final = 0.05
_PATIENT_S: Final = 1.0  # between two refusals that are waited for: a crowd of strangers holds nobody up
SEND_S: Final = 5.0  # for a whole answer: who does not read it has gone
_PART: Final = 1 << 18


def open_listener(path: Path) -> socket.socket:
    """A socket at `path`, in place of one that nobody listens at. Who connects is judged by `serve_all`.

    Raises `Conflict` where a signer listens, `Unsafe` where others could put a socket of theirs in its place.
    """
    folder = path.parent.stat()
    if folder.st_uid not in {0, os.geteuid()} or folder.st_mode & 0o022:
        raise Unsafe(f"others can write the folder of {path}", f"chmod go-w {path.parent}")
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Conflict(f"{path} is there and no socket", "choose another --listen")
        with socket.socket(socket.AF_UNIX) as other:
            if other.connect_ex(str(path)) == 0:
                raise Conflict(f"a signer listens at {path}", "one signer for one list")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0)
    try:
        listener.bind(str(path))  # 0777: the kernel says who it is that asks
    finally:
        os.umask(before)
    listener.listen(_WAITING)
    return listener


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    unread: bytearray = field(default_factory=bytearray)


@dataclass(slots=True, eq=False)
class Door:
    """`patient_at`: from when on somebody who is refused is waited for again."""

    patient_at: float = 0.0


def serve_all(
    listener: socket.socket,
    uids: Collection[int],
    desk: Desk,
    ledger: Ledger,
    look: Callable[[], None],
    stopped: Callable[[], bool],
) -> None:
    """Answers users of these uids, and root, until `stopped`. Raises `OSError` for a list that cannot be written."""
    due = time.monotonic() + LOOK_S
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, door := Door())
        while not stopped():
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                if isinstance(key.data, _Client):
                    _hear(selector, key.data, desk, ledger)
                else:
                    _let_in(selector, listener, uids, door)
            if time.monotonic() >= due:
                look()
                due = time.monotonic() + LOOK_S
        for key in list(selector.get_map().values()):
            if isinstance(key.data, _Client):
                key.data.connection.close()


def _let_in(selector: selectors.BaseSelector, listener: socket.socket, uids: Collection[int], door: Door) -> None:
    with suppress(OSError):
        connection, _ = listener.accept()
        connection.settimeout(SEND_S)
        uid = peer_of(connection)[1]
        refusal = ""
        if uid != 0 and uid not in uids:
            refusal = f"uid {uid} may not ask this signer"
        elif len(selector.get_map()) > CLIENTS_MAX:
            refusal = "too many connections"
        if refusal:
            sys.stderr.write(f"jitgate signer: refused: {refusal}\n")
            with connection:
                connection.sendall(protocol.put_failed(refusal, "jitgate signer --for USER says who may"))
                connection.shutdown(socket.SHUT_WR)
                now = time.monotonic()
                patient = now >= door.patient_at
                door.patient_at = now + _PATIENT_S if patient else door.patient_at
                connection.settimeout(_FAREWELL_S if patient else 0)
                connection.recv(_PART)  # what came in unread would have the kernel take our words back
            return
        selector.register(connection, selectors.EVENT_READ, _Client(connection))


def _hear(selector: selectors.BaseSelector, client: _Client, desk: Desk, ledger: Ledger) -> None:
    """Answer what is whole. The connection is closed when it ends, or sends or takes what no service does."""
    try:
        part = client.connection.recv(_PART)
    except OSError:
        part = b""
    client.unread += part
    gone = not part
    while not gone and (payload := _whole(client)) is not None:
        try:
            request = protocol.take_request(payload) if payload else None
        except Error as error:
            sys.stderr.write(f"jitgate signer: the service sent what it may not: {error.what}\n")
            request = None
        if request is None:
            gone = True
            break
        told = answer(request, desk, ledger)  # an OSError is the list's: the end
        try:
            client.connection.sendall(told)
        except OSError:
            gone = True
    if gone:
        selector.unregister(client.connection)
        client.connection.close()


def _whole(client: _Client) -> bytes | None:
    """The next whole frame; None while there is none; empty for a length that none may have."""
    if len(client.unread) < 4:  # noqa: PLR2004  # a length
        return None
    try:
        length = protocol.length_of(bytes(client.unread[:4]))
    except Error as error:
        sys.stderr.write(f"jitgate signer: the service sent what it may not: {error.what}\n")
        return b""
    if len(client.unread) < 4 + length:
        return None
    payload = bytes(client.unread[4 : 4 + length])
    del client.unread[: 4 + length]
    return payload
