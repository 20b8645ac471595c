"""The signer's loop: one connection, one message after the other, and the end with it."""

import select
import socket
import time
from collections.abc import Callable
from typing import Final

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.ledger import Ledger
from jitgate.adapters.signers.protocol import Bundles, Checkpoint, Generate, Hello, ListFrom, Op, Request, Sign, Trust
from jitgate.core.errors import BadInput
from jitgate.ssh.wire import FormatError

LOOK_S: Final = 1.0  # between looks into the folder of keys: a few calls of stat each, whatever there is to sign


def serve(connection: socket.socket, desk: Desk, ledger: Ledger, look: Callable[[], None] = lambda: None) -> None:
    """Answers until the other side closes, and calls `look` once a second. Raises `BadInput` for a message that is
    wrong, `OSError` for a list that cannot be written: the process then ends, and no answer to that message has left.
    """
    due = time.monotonic() + LOOK_S
    while True:
        wait = due - time.monotonic()
        if wait <= 0:
            look()
            due = time.monotonic() + LOOK_S
        elif select.select([connection], [], [], wait)[0]:
            payload = _receive(connection)
            if payload is None:
                return
            connection.sendall(answer(protocol.take_request(payload), desk, ledger))


def answer(request: Request, desk: Desk, ledger: Ledger) -> bytes:
    """The whole frame. Raises `OSError` for a list that cannot be written."""
    match request:
        case Hello():
            return protocol.put_keys(desk.keys())
        case Sign(requests):
            return protocol.put_results(Op.SIGN, desk.sign(requests))
        case Checkpoint(body):
            return protocol.put_results(Op.CHECKPOINT, [desk.checkpoint(body)])
        case Generate(realm):
            return protocol.put_results(Op.GENERATE, [desk.generate(realm)])
        case Trust(payload):
            return protocol.put_results(Op.TRUST, [desk.trust(payload)])
        case Bundles(payloads):
            return protocol.put_results(Op.BUNDLES, [desk.bundle(each) for each in payloads])
        case ListFrom(offset):
            try:
                return protocol.put_page(*ledger.page(offset, protocol.MAX_PAGE))
            except BadInput as error:  # the service remembers the offset of another list: its mistake, and harmless
                return protocol.put_failed(error.what, error.hint)


def _receive(connection: socket.socket) -> bytes | None:
    """The next frame; None when the other side closed between two frames."""
    head = _exactly(connection, 4)
    if not head:
        return None
    payload = _exactly(connection, protocol.length_of(head))
    if not payload:
        raise FormatError("the connection ended inside a frame")
    return payload


def _exactly(connection: socket.socket, count: int) -> bytes:
    """`count` bytes, or none at all at the end of the stream."""
    found = bytearray()
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            if found:
                raise FormatError("the connection ended inside a frame")
            return b""
        found += part
    return bytes(found)
