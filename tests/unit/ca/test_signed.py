"""The lines of the signer's list: read back as they were, torn or strange ones as nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ca.samples import NOW

from jitgate.ca.model import LogHead, SignedEntry
from jitgate.ca.signed import Summary, entry_line, head_line, mark_line, parse_line, summarize
from jitgate.ssh.cert import CertType

ENTRY = SignedEntry(
    time=NOW,
    realm="default",
    ca="SHA256:abc",
    type=CertType.USER,
    serial=(1 << 63) - 1,
    key_id="jitgate grant=X person=alice",
    key="SHA256:def",
    principals=("ubuntu@host:web1",),
    valid_before=1_700_000_900,
    tbs_sha256="00" * 32,
)
HEAD = LogHead(7, "cm9vdA==")
MARK = Summary({"SHA256:abc": 5}, HEAD)
LINES = {"entry": entry_line(ENTRY), "head": head_line(HEAD, NOW), "mark": mark_line(MARK, NOW)}


def test_lines_are_read_back_as_they_were():
    assert parse_line(LINES["entry"]) == ENTRY
    assert parse_line(LINES["head"]) == HEAD
    assert parse_line(mark_line(MARK, NOW)) == MARK  # made here: the ones above are made at import
    assert parse_line(LINES["mark"]) == MARK
    assert parse_line(mark_line(Summary({}, None), NOW)) == Summary({}, None)


@pytest.mark.parametrize("kind", LINES)
def test_no_part_of_a_line_reads_as_a_line(kind: str):
    line = LINES[kind]
    assert line.count(b"\n") == 1
    for cut in range(len(line) - 1):
        assert parse_line(line[:cut]) is None


NAMES = st.sampled_from(["mark", "checkpoint", "serials", "size", "time", "serial"])
JSON = st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_strange_lines_are_nothing_and_break_nothing(line: bytes):
    assert parse_line(line) is None


def test_a_list_amounts_to_its_highest_serials_and_latest_checkpoint():
    lines = [
        mark_line(Summary({"SHA256:abc": 3, "SHA256:old": 9}, LogHead(4, "r4")), NOW),
        entry_line(ENTRY).replace(b"9223372036854775807", b"8"),
        b'{"time":17000',
        head_line(LogHead(6, "r6"), NOW),
        entry_line(ENTRY).replace(b"9223372036854775807", b"6"),
    ]
    assert summarize(lines) == Summary({"SHA256:abc": 8, "SHA256:old": 9}, LogHead(6, "r6"))


def test_a_mark_never_takes_back_what_stood_before_it():
    """Else a start that reads such a mark would sign a used serial, or a smaller log."""
    ca, other = "SHA256:abc", "SHA256:other"
    before = Summary({ca: 7, other: 2}, LogHead(5, "r5"))
    assert summarize([mark_line(Summary({}, None), NOW)], before) == before
    assert summarize([mark_line(Summary({ca: 6}, LogHead(4, "r4")), NOW)], before) == before
    later = Summary({ca: 8}, LogHead(6, "r6"))
    assert summarize([mark_line(later, NOW)], before) == Summary({ca: 8, other: 2}, LogHead(6, "r6"))
    assert summarize([mark_line(later, NOW)]) == later


def test_of_two_checkpoints_the_larger_counts_and_of_the_same_size_the_first():
    larger, smaller, forked = (head_line(LogHead(size, root), NOW) for size, root in ((6, "a"), (4, "b"), (6, "c")))
    assert summarize([larger, smaller]).head == LogHead(6, "a")
    assert summarize([smaller, larger]).head == LogHead(6, "a")
    assert summarize([larger, forked]).head == LogHead(6, "a")
