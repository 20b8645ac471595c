"""Checking a whole log offline: one pass over its rows, in memory that does not grow with them.

Trusted: the log's public key; the outside checkpoints, which the caller opened with that key and which were kept where
whoever writes the database cannot; the signers' lists, with the checkpoints they name. Nothing of the database is: not
the rows, not their types, not the stored checkpoints. Without a checkpoint only what contradicts itself is found;
`Report.covered` says how far one reaches.
"""

import json
from collections.abc import Callable, Iterable
from hashlib import sha256

from jitgate.audit.anchors import Anchors
from jitgate.audit.checkpoint import Checkpoint
from jitgate.audit.log import LEAF_VERSION, MALFORMED, Columns, Leaf, columns_of
from jitgate.audit.report import Kind, Report
from jitgate.audit.shapes import EventType
from jitgate.audit.signed import Difference, LoggedItem, SignedItem
from jitgate.audit.tree import HASH_SIZE, Frontier, push
from jitgate.core.clock import Micros
from jitgate.core.text import shown

Row = tuple[Columns, bytes, str]
"""A stored entry: columns, leaf, personal; in the order of the index."""

_KNOWN = frozenset(kind.value for kind in EventType)
_CERTIFICATES = frozenset({EventType.CERTIFICATE_ISSUED.value, EventType.CERTIFICATE_UNRELEASED.value})
_NO_HASH = bytes(HASH_SIZE)  # for a leaf that is not even bytes
_read: Callable[[str], tuple[Leaf, int]] = json.JSONDecoder().raw_decode


def verify(
    rows: Iterable[Row],
    *,
    origin: str,
    public: bytes,
    now: Micros,
    stored: Iterable[str] = (),
    outside: Iterable[Checkpoint] = (),
    listed: Iterable[Checkpoint] = (),
    signed: Iterable[SignedItem] | None = None,
    copied: Micros | None = None,
) -> Report:
    """Check a log; what is wrong with it is in the report, nothing is raised.

    `stored`: the texts of the database's own checkpoints, smallest first. `listed`: the checkpoints that the signers'
    lists name, smallest first, read before `now`, the moment of the database's state: so the log has all they cover.
    `signed`: the certificates of these lists in the order of time, read after `now`: so they have all of the log's;
    or, if some are copies, all that was logged before `copied`, the time of the oldest.
    """
    report = Report(compared=signed is not None)
    anchors = Anchors(report, origin, public, stored=stored, outside=outside, listed=listed)
    difference = None if signed is None else Difference(report, signed, copied)
    edge: list[bytes] = []
    size = expected = 0
    anchors.at(size, edge)
    next_size = anchors.next_size
    for columns, leaf, personal in rows:
        if columns[0] != expected:
            expected = _gap(report, columns[0], expected)
        expected += 1
        leaf_hash, certificate = _NO_HASH, None
        try:
            leaf_hash = sha256(b"\0" + leaf).digest()
            certificate = _check_row(report, columns, leaf.decode(), personal)
        except MALFORMED:
            report.tell(Kind.UNREADABLE, expected - 1, f"entry {expected - 1} has a form that this version never wrote")
        if certificate is not None and difference is not None:
            difference.logged(expected - 1, certificate)
        push(edge, size, leaf_hash)
        size += 1
        if size == next_size:
            anchors.at(size, edge)
            next_size = anchors.next_size
    anchors.finish(size)
    if difference is not None:
        difference.finish(now)
    report.frontier = Frontier(size, tuple(edge))
    return report


def _check_row(report: Report, columns: Columns, leaf: str, personal: str) -> LoggedItem | None:
    """Compare a row with its leaf; the certificate that it tells of. Raises one of `MALFORMED`."""
    index = columns[0]
    body, end = _read(leaf)
    kind = body["type"]
    if end != len(leaf) or body["v"] != LEAF_VERSION or kind not in _KNOWN:
        raise ValueError
    if body["index"] != index:
        report.tell(Kind.MOVED, index, f"row {index} holds what was written as entry {int(body['index'])}")
    elif columns_of(body) != columns:
        report.tell(Kind.COLUMN, index, f"entry {index}: {_differing(body, columns)} is not what the leaf says")
    _check_personal(report, index, body, personal)
    return _certificate(body) if kind in _CERTIFICATES else None


def _gap(report: Report, index: int, expected: int) -> int:
    """Tell of an index that is not the next one; the one to go on from."""
    if type(index) is not int or index < expected:
        report.tell(Kind.MOVED, expected, f"after entry {expected - 1} comes a row with an index from before it")
        return expected
    last = f" to {index - 1}" if index - 1 > expected else ""
    report.tell(Kind.REMOVED, expected, f"entry {expected}{last} is missing")
    return index


def _check_personal(report: Report, index: int, body: Leaf, stored: str) -> None:
    """Each text that is there must be the committed one; one that is not there was erased."""
    left: dict[str, str] = body.get("personal", {})
    for line in stored.split("\n") if stored else ():
        _, field, _ = line.split(" ", 2)
        if left.pop(field, None) != sha256(line.encode()).hexdigest():
            report.tell(Kind.PERSONAL, index, f"entry {index}: the text of {shown(field)} is not the one committed to")
    if left:
        report.erased += 1


def _certificate(body: Leaf) -> LoggedItem:
    ca, digest = body["detail"]["ca"], body["detail"]["digest"]
    if type(ca) is not str or type(digest) is not str:
        raise TypeError
    return LoggedItem(ca, int(body["serial"]), digest, body["type"] == EventType.CERTIFICATE_ISSUED, int(body["time"]))


def _differing(body: Leaf, columns: Columns) -> str:
    pairs = zip(Columns._fields, columns_of(body), columns, strict=True)
    return ", ".join(name for name, leaf, column in pairs if leaf != column)
