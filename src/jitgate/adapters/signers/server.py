"""The signer's loop: one connection, one message after the other, and the end with it."""

import socket

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.ledger import Ledger
from jitgate.adapters.signers.protocol import Checkpoint, Hello, ListFrom, Op, Request, Sign
from jitgate.core.errors import BadInput
from jitgate.ssh.wire import FormatError


def serve(connection: socket.socket, desk: Desk, ledger: Ledger) -> None:
    """Answers until the other side closes. Raises `BadInput` for a message that is wrong, `OSError` for a list that
    cannot be written: the process then ends, and no answer to that message has left.
    """
    while (payload := _receive(connection)) is not None:
        connection.sendall(_answer(protocol.take_request(payload), desk, ledger))


def _answer(request: Request, desk: Desk, ledger: Ledger) -> bytes:
    match request:
        case Hello():
            return protocol.put_keys(desk.keys())
        case Sign(requests):
            return protocol.put_results(Op.SIGN, desk.sign(requests))
        case Checkpoint(body):
            return protocol.put_results(Op.CHECKPOINT, [desk.checkpoint(body)])
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
