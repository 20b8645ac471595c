import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitgate.audit.tree import EMPTY, Frontier, decode, hash_leaf
from jitgate.core.errors import BadInput

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/audit/rfc6962.json").read_text())


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def test_the_published_roots():
    frontier = EMPTY
    assert frontier.root().hex() == VECTORS["empty_root"]
    for leaf, root in zip(VECTORS["leaves"], VECTORS["roots"], strict=True):
        frontier = frontier.extend([hash_leaf(bytes.fromhex(leaf))])
        assert frontier.root().hex() == root


@given(st.lists(st.binary(max_size=8), max_size=70), st.integers(0, 70))
def test_it_is_the_naive_tree_however_it_grew(leaves, cut):
    hashes = [hash_leaf(leaf) for leaf in leaves]
    frontier = EMPTY.extend(hashes[:cut]).extend(hashes[cut:])
    assert frontier.size == len(leaves)
    assert frontier.root() == naive_root(leaves)
    assert decode(frontier.encode()) == frontier


@pytest.mark.parametrize(
    "data", [b"\0", bytes(7), bytes(7) + b"\1", bytes(8) + bytes(32), bytes(7) + b"\3" + bytes(63)]
)
def test_a_frontier_of_another_form_is_refused(data):
    with pytest.raises(BadInput):
        decode(data)


def test_nothing_stored_is_the_empty_tree():
    assert decode(b"") == EMPTY


def test_as_many_subtrees_as_the_size_has_ones():
    with pytest.raises(BadInput):
        Frontier(3, (bytes(32),))
