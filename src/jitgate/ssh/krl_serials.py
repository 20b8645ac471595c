"""Sets of serials in key revocation lists: kept as ranges, written in the fewest bytes we can find. Behind `krl`.

Source: OpenSSH PROTOCOL.krl 2.1 to 2.3. sshd takes no serial 0 (every certificate without a serial has it) and no
bitmap of more than 2048 bytes (sshbuf.h, SSHBUF_MAX_BIGNUM): a list with either is refused as a whole.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

from jitgate.ssh.wire import FormatError, Reader, put_mpint, put_uint64

LIST: Final = 0x20
RANGE: Final = 0x21
BITMAP: Final = 0x22

LAST_SERIAL: Final = (1 << 64) - 1
BITMAP_BYTES: Final = 2048
BITMAP_BITS: Final = 8 * BITMAP_BYTES
RANGES_MAX: Final = 1 << 21  # in memory 32 MiB; a small file of bitmaps could ask for thousands of times its own size

# What a subsection costs besides its content: type and length; a bitmap's offset, length, and clear top bit too
_HEAD: Final = 5
_BITMAP_HEAD: Final = _HEAD + 8 + 4 + 1
_SERIAL: Final = 8
_RANGE: Final = _HEAD + 2 * _SERIAL
_GAP_MAX: Final = 8 * _RANGE  # a hole of so many bits costs as much as another range
_LONG: Final = 8 * (_RANGE + _BITMAP_HEAD)  # a run of so many bits is cheaper as a range, though it ends a bitmap

_RUN: Final = re.compile("1+")


class Serials:
    """A set of serials, 1 to 2^64-1, as ranges in order with a hole between each two. Equal when the sets are."""

    __slots__ = ("_edges",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """`ranges`: first and last of each, in any order, overlapping or not; `FormatError` for what is no range."""
        edges, in_order = _collect(ranges)
        if not in_order:
            edges, _ = _collect(sorted(zip(edges[::2], edges[1::2], strict=True)))
        self._edges = edges

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First and last of each range, in order."""
        return zip(self._edges[::2], self._edges[1::2], strict=True)

    def __contains__(self, serial: int) -> bool:
        at = bisect_left(self._edges, serial)
        return at % 2 == 1 or (at < len(self._edges) and self._edges[at] == serial)

    def __bool__(self) -> bool:
        return bool(self._edges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Serials) and self._edges == other._edges

    __hash__ = None  # type: ignore[assignment]  # large: nobody wants it as a key

    def __repr__(self) -> str:
        return f"<Serials: {len(self._edges) // 2} ranges>"


def _collect(ranges: Iterable[tuple[int, int]]) -> tuple["array[int]", bool]:
    """Edges, those that touch joined; and whether all came in order. If not, they only stand one after the other."""
    edges: array[int] = array("Q")
    in_order = True
    for first, last in ranges:
        if not 1 <= first <= last <= LAST_SERIAL:
            raise FormatError(f"not a range of serials: {first} to {last}")
        if in_order and edges and first <= edges[-1] + 1:
            if first >= edges[-2]:
                edges[-1] = max(edges[-1], last)
                continue
            in_order = False
        elif in_order and edges and first < edges[-2]:
            in_order = False
        if len(edges) >= 2 * RANGES_MAX:
            raise FormatError(f"more than {RANGES_MAX} ranges of serials")
        edges.append(first)
        edges.append(last)
    return edges, in_order


def put_serials(serials: Serials) -> Iterator[tuple[int, bytes]]:
    """Type and data of each subsection: long runs as ranges, crowds as bitmaps, what stands alone as one list."""
    alone: array[int] = array("Q")
    for crowd in _crowds(serials):
        start, end = crowd[0][0], crowd[-1][1]
        if sum(_cost(first, last) for first, last in crowd) > _BITMAP_HEAD + (end - start) // 8 + 1:
            yield BITMAP, _bitmap(start, crowd)
            continue
        for first, last in crowd:
            if _listed(first, last):
                alone.extend(range(first, last + 1))
            else:
                yield RANGE, put_uint64(first) + put_uint64(last)
    if alone:
        yield LIST, b"".join(map(put_uint64, alone))


def _crowds(serials: Serials) -> Iterator[list[tuple[int, int]]]:
    """Neighbours that could share a bitmap; a long run is a crowd of its own."""
    crowd: list[tuple[int, int]] = []
    for first, last in serials:
        long = last - first >= _LONG
        if crowd and (long or first - crowd[-1][1] > _GAP_MAX or last - crowd[0][0] >= BITMAP_BITS):
            yield crowd
            crowd = []
        crowd.append((first, last))
        if long:
            yield crowd
            crowd = []
    if crowd:
        yield crowd


def _listed(first: int, last: int) -> bool:
    return (last - first + 1) * _SERIAL < _RANGE


def _cost(first: int, last: int) -> int:
    return (last - first + 1) * _SERIAL if _listed(first, last) else _RANGE


def _bitmap(offset: int, crowd: list[tuple[int, int]]) -> bytes:
    bits = 0
    for first, last in crowd:
        bits |= ((1 << last - first + 1) - 1) << (first - offset)
    return put_uint64(offset) + put_mpint(bits)


def read_serials(kind: int, data: bytes) -> Iterator[tuple[int, int]]:
    """First and last of each range in a subsection; `FormatError` for what sshd would refuse a whole list for."""
    reader = Reader(data)
    if kind == LIST:
        while reader.more:
            serial = reader.uint64()
            yield _checked(serial, serial)
        return
    if kind == RANGE:
        yield _checked(reader.uint64(), reader.uint64())
    else:
        offset, bits = reader.uint64(), reader.string(BITMAP_BYTES + 1)
        if bits[:1] > b"\x7f" or (len(bits) > BITMAP_BYTES and bits[0] != 0):
            raise FormatError("a bitmap of serials is negative or too long")
        for run in _RUN.finditer(f"{int.from_bytes(bits, 'big'):b}"[::-1]):
            yield _checked(offset + run.start(), offset + run.end() - 1)
    reader.end()


def _checked(first: int, last: int) -> tuple[int, int]:
    if not 1 <= first <= last <= LAST_SERIAL:
        raise FormatError("a revocation list names serial 0, or a range that is none")
    return first, last
