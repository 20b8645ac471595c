"""Checkpoints held against the tree while it grows.

Those from outside and those in the signer's own list are believed. Stored ones come from the database, so each is only
a claim until its signature was checked. That is done where it decides: for a root that does not fit (edited log or
forged checkpoint?), and for the last one that fits (what is vouched for?).
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jitgate.audit.checkpoint import Checkpoint, open_checkpoint, unverified_checkpoint
from jitgate.audit.report import Kind, Report
from jitgate.audit.tree import root_of
from jitgate.core.errors import BadInput

_OUTSIDE = "the checkpoint from outside"
_LISTED = "the signer's own list"
_STORED = "a signed checkpoint"


class _Anchor(NamedTuple):
    size: int
    root: bytes
    source: str
    text: str = ""  # of a stored one


class Anchors:
    """Call `at` whenever the tree has `next_size` entries, then `finish`."""

    def __init__(
        self,
        report: Report,
        origin: str,
        public: bytes,
        *,
        stored: Iterable[str],
        outside: Iterable[Checkpoint],
        listed: Iterable[Checkpoint],
    ) -> None:
        self._report = report
        self._origin = origin
        self._public = public
        kept = sorted(_Anchor(checkpoint.size, checkpoint.root, _OUTSIDE) for checkpoint in outside)
        heads = (_Anchor(checkpoint.size, checkpoint.root, _LISTED) for checkpoint in listed)
        # Each comes smallest first. One that is out of order comes late, and never makes one of another source late.
        self._coming = heapq.merge(self._parsed(stored), heads, kept, key=lambda anchor: anchor.size)
        self._next: _Anchor | None = next(self._coming, None)
        self._last_stored: _Anchor | None = None
        self._good = 0  # the greatest size whose root fitted
        self._broken = False

    @property
    def next_size(self) -> int:
        return -1 if self._next is None else self._next.size

    def at(self, size: int, edge: Sequence[bytes]) -> None:
        """The tree has `size` entries now."""
        root = b""
        fits_stored = False
        while self._next is not None and self._next.size <= size:
            anchor = self._next
            self._next = next(self._coming, None)
            root = root or root_of(edge)
            if anchor.size < size:
                words = f"{anchor.source} of size {anchor.size} is out of order"
                self._report.tell(Kind.CHECKPOINT, None, words)
            elif anchor.root != root:
                self._wrong(anchor, forked=fits_stored)
            elif anchor.source is not _STORED:
                self._good = self._report.covered = size
            else:
                self._good, self._last_stored, fits_stored = size, anchor, True

    def finish(self, size: int) -> None:
        """The log has ended with `size` entries."""
        longest: dict[str, _Anchor] = {}
        while self._next is not None:
            source = self._next.source
            longest[source] = max(self._next, longest.get(source, self._next), key=lambda anchor: anchor.size)
            self._next = next(self._coming, None)
        for anchor in longest.values():
            if self._signed(anchor):
                words = f"the log has {size} entries, and its key has signed that it had {anchor.size}"
                self._report.tell(Kind.REMOVED, None, words)
        if self._last_stored is not None and self._signed(self._last_stored):
            self._report.covered = max(self._report.covered, self._last_stored.size)

    def _wrong(self, anchor: _Anchor, *, forked: bool) -> None:
        if (self._broken and anchor.source is not _OUTSIDE) or not self._signed(anchor):
            return
        self._broken = True
        where = f"entries {self._good} to {anchor.size - 1}"
        if forked and self._last_stored is not None and self._signed(self._last_stored):
            words = f"of {where} there are two histories: the log key signed both this one and another"
            self._report.tell(Kind.FORKED, None, words)
        else:
            words = f"{where} are not what {anchor.source} vouches for at size {anchor.size}"
            self._report.tell(Kind.EDITED, None, words)

    def _signed(self, anchor: _Anchor) -> bool:
        if anchor.source is not _STORED:
            return True
        try:
            open_checkpoint(anchor.text, self._origin, self._public)
        except BadInput as error:
            self._report.tell(Kind.CHECKPOINT, None, f"the stored checkpoint of {anchor.size}: {error.what}")
            return False
        return True

    def _parsed(self, stored: Iterable[str]) -> Iterator[_Anchor]:
        for text in stored:
            try:
                claim = unverified_checkpoint(text)
            except BadInput as error:
                self._report.tell(Kind.CHECKPOINT, None, f"a stored checkpoint: {error.what}")
            else:
                yield _Anchor(claim.size, claim.root, _STORED, text)
