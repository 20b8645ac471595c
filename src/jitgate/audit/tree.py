"""The Merkle tree of RFC 6962 section 2.1, kept as its right edge: the roots of the full subtrees, biggest first."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from jitgate.core.errors import BadInput

HASH_SIZE = 32
_SIZE_BYTES = 8


def hash_leaf(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def push(edge: list[bytes], size: int, leaf_hash: bytes) -> None:
    """Append to the edge (in place) of a tree of `size` leaves; one node hash on average."""
    while size & 1:
        leaf_hash = sha256(b"\1" + edge.pop() + leaf_hash).digest()
        size >>= 1
    edge.append(leaf_hash)


def root_of(edge: Iterable[bytes]) -> bytes:
    """The root over the subtrees of an edge; of no leaves: the hash of nothing."""
    parts = list(edge)
    if not parts:
        return sha256(b"").digest()
    root = parts.pop()
    while parts:
        root = hash_node(parts.pop(), root)
    return root


@dataclass(frozen=True, slots=True)
class Frontier:
    """All of a tree that is needed to append to it: at most 64 hashes. Equal frontiers mean equal leaves."""

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise BadInput(f"a tree of {self.size} leaves with {len(self.hashes)} subtrees")

    def root(self) -> bytes:
        return root_of(self.hashes)

    def extend(self, leaf_hashes: Iterable[bytes]) -> "Frontier":
        edge, size = list(self.hashes), self.size
        for leaf_hash in leaf_hashes:
            push(edge, size, leaf_hash)
            size += 1
        return Frontier(size, tuple(edge))

    def encode(self) -> bytes:
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.hashes)


EMPTY = Frontier(0, ())


def decode(data: bytes) -> Frontier:
    """The inverse of `Frontier.encode`; nothing at all is the empty tree. Anything else: `BadInput`."""
    if not data:
        return EMPTY
    size, rest = data[:_SIZE_BYTES], data[_SIZE_BYTES:]
    if len(size) != _SIZE_BYTES or len(rest) % HASH_SIZE:
        raise BadInput("a frontier that is cut off")
    hashes = tuple(rest[at : at + HASH_SIZE] for at in range(0, len(rest), HASH_SIZE))
    return Frontier(int.from_bytes(size, "big"), hashes)
