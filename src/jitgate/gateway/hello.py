"""What a TLS ClientHello asks for, read without taking it off the socket (RFC 8446 4.1.2, RFC 7301, RFC 6066)."""

from collections.abc import Iterator

from jitgate.ssh.wire import FormatError

RECORD_HEAD = 5  # bytes: type, version, length (RFC 8446 5.1)
HELLO_MAX = RECORD_HEAD + 16 * 1024  # bytes of one record; what is in more than one asks for nothing that we know
PARTS_MAX = 64  # extensions, or names of protocols: browsers send 20 of the one, and 3 of the other

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_ALPN = 16


def hello_size(head: bytes) -> int:
    """Bytes of the record that begins with `head` (at least `RECORD_HEAD` bytes). `FormatError` if it is none."""
    size = RECORD_HEAD + int.from_bytes(head[3:RECORD_HEAD], "big")
    if len(head) < RECORD_HEAD or head[0] != _HANDSHAKE or head[1] != 3 or not RECORD_HEAD < size <= HELLO_MAX:  # noqa: PLR2004  # TLS's major version
        raise FormatError("not the record of a TLS handshake")
    return size


def protocols(record: bytes) -> tuple[bytes, ...]:
    """The ALPN names that a ClientHello offers, given its whole first record; none if it says nothing of them.

    `FormatError` for what is no ClientHello in one record.
    """
    hello = _Bytes(record[RECORD_HEAD : hello_size(record)])
    if hello.number(1) != _CLIENT_HELLO:
        raise FormatError("not a ClientHello")
    body = _Bytes(hello.block(3))
    body.take(2 + 32)  # version, random
    for length in (1, 2, 1):  # session id, cipher suites, compression methods
        body.block(length)
    extensions = _Bytes(body.block(2) if body.more else b"")
    for _ in extensions.parts():
        kind, said = extensions.number(2), _Bytes(extensions.block(2))
        if kind == _ALPN:
            names = _Bytes(said.block(2))
            return tuple(names.block(1) for _ in names.parts())
    return ()


class _Bytes:
    """TLS's presentation of numbers and vectors (RFC 8446 3)."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def more(self) -> bool:
        return bool(self._data)

    def parts(self) -> Iterator[None]:
        """As long as there is more. Each part that is taken copies the rest: of many small ones a stranger's 16 KiB
        could make milliseconds of work."""
        for _ in range(PARTS_MAX):
            if not self.more:
                return
            yield
        if self.more:
            raise FormatError(f"a ClientHello with more than {PARTS_MAX} parts of a kind")

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise FormatError("a ClientHello is cut")
        found, self._data = self._data[:count], self._data[count:]
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> bytes:
        """A vector whose length stands before it in `size` bytes."""
        return self.take(self.number(size))
