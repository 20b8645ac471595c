"""SSH wire types (RFC 4251 section 5), read strictly: one encoding for one value, nothing left over."""

import binascii
from struct import Struct
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

MAX_STRING: Final = 1 << 17
"""Bytes: nothing that this codec reads is longer than a certificate, and that is at most this long."""

_CUT: Final = "the data ends in the middle of a value"


class FormatError(BadInput):
    """Bytes or values that have no place in the format; nothing of them may be used."""


class Reader:
    """Takes values off `data` in order; each method raises `FormatError` when what stands there is not that value."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise FormatError(_CUT)
        found = self._data[self._at : end]
        self._at = end
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def boolean(self) -> bool:
        value = self.byte()
        if value > 1:
            raise FormatError("a boolean is neither 0 nor 1")
        return value == 1

    def numbers(self, form: Struct) -> tuple[int, ...]:
        """What the bytes are by that form of whole numbers."""
        return form.unpack(self.take(form.size))

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def string(self, limit: int = MAX_STRING) -> bytes:
        """A string of at most `limit` bytes."""
        start = self._at + 4
        end = start + int.from_bytes(self._data[self._at : start], "big")
        if end - start > limit:
            raise FormatError(f"a string has {end - start} bytes, more than {limit}")
        if end > len(self._data):  # so it is, too, when the length itself is cut
            raise FormatError(_CUT)
        self._at = end
        return self._data[start:end]

    def strings(self, count: int) -> bytes:
        """That many strings as they stand there, each with its length."""
        start = self._at
        for _ in range(count):
            self.string()
        return self._data[start : self._at]

    def text(self, limit: int = MAX_STRING) -> str:
        """A string that is UTF-8. It may hold control characters: whoever asks checks for its own use."""
        try:
            return self.string(limit).decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise FormatError("a text is not UTF-8") from None

    def mpint(self, limit: int = MAX_STRING) -> int:
        """A number that is not negative, in its shortest form."""
        data = self.string(limit)
        if data[:1] > b"\x7f":
            raise FormatError("a number is negative")
        if data[:1] == b"\x00" and data[1:2] < b"\x80":
            raise FormatError("a number is not in its shortest form")
        return int.from_bytes(data, "big")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Nothing may be left."""
        if self.more:
            raise FormatError(f"{len(self._data) - self._at} bytes are left over at the end")


def put_uint32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def put_uint64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def put_string(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(4, "big") + data


def put_mpint(value: int) -> bytes:
    """A number that is not negative; a leading zero byte keeps the top bit clear."""
    return put_string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


def to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str, limit: int) -> bytes:
    """Canonical base64 of at most `limit` bytes: padded, no other characters, no stray bits; else `FormatError`."""
    if len(text) > (limit + 2) // 3 * 4:
        raise FormatError(f"the base64 text has {len(text)} characters, too many")
    try:
        data = binascii.a2b_base64(text.encode("ascii"))  # passes over much; what it makes of it is compared below
    except (binascii.Error, UnicodeEncodeError):
        raise FormatError("not base64") from None
    if to_base64(data) != text:
        raise FormatError("base64 in a form that is not canonical")
    return data


def split_line(line: str) -> tuple[str, str, str]:
    """`type base64 comment` of a public key file, one space between, one line; the comment may be missing.

    Options before the type are not taken off: the first word is then no type, and the caller refuses it.
    """
    line = line.removesuffix("\n")
    if "PRIVATE KEY" in line:
        raise FormatError("this is a private key", "give the public key: the file that ends in .pub")
    if not line.isprintable():
        raise FormatError("a key line holds a control character or more than one line", "give one line")
    kind, _, rest = line.partition(" ")
    blob, _, comment = rest.partition(" ")
    if not blob:
        raise FormatError(f"not a public key line: {shown(line)}", "a line is: type, base64, comment")
    return kind, blob, comment


def check_comment(comment: str) -> str:
    """`comment` if it may stand at the end of a key line; else `FormatError`."""
    if not comment.isprintable():
        raise FormatError(f"a comment holds a control character: {shown(comment)}")
    return comment
