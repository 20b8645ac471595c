"""What checking a log found."""

from dataclasses import dataclass, field
from enum import StrEnum

from jitgate.audit.tree import EMPTY, Frontier

FINDINGS_MAX = 100  # told one by one; all are counted


class Kind(StrEnum):
    EDITED = (
        "edited"  # a signed root is not that of the entries up to its size: one was edited, added, left out or moved
    )
    REMOVED = "removed"  # indexes are missing, or the log is shorter than a signed checkpoint says
    MOVED = "moved"  # an entry stands at another index than its leaf says, or a second time
    UNREADABLE = "unreadable"  # a row that this version never wrote
    COLUMN = "column"  # a column for searching says something else than the leaf
    PERSONAL = "personal"  # a personal text is not the one that was committed to
    FORKED = "forked"  # the log key signed two roots for one size: two histories
    CHECKPOINT = "checkpoint"  # a stored checkpoint that is malformed, out of order or not signed by the log key
    UNLOGGED = "unlogged"  # signed, and the log does not say so
    UNSIGNED = "unsigned"  # logged, and no signer's list says so, or it says so of another content
    SERIAL = "serial"  # one serial twice


@dataclass(frozen=True, slots=True)
class Finding:
    """`index`: of the entry, where one can be named. `words`: safe to print."""

    kind: Kind
    index: int | None
    words: str


@dataclass(slots=True)
class Report:
    """`frontier`: of what was read. `covered`: how many entries a signed checkpoint vouches for.

    `erased`: entries with a personal text taken out. `compared`: the signers' lists were given; then `certificates`
    were in both, of `unreleased` ones the log says that they never left, and `in_flight` ones were signed so lately
    that the log may say so yet. Of `uncompared` ones the copies of lists are too old to have them.
    `lists` were given, of `nodes` that the database knows.
    """

    frontier: Frontier = EMPTY
    findings: list[Finding] = field(default_factory=list)
    found: int = 0
    covered: int = 0
    erased: int = 0
    compared: bool = False
    certificates: int = 0
    unreleased: int = 0
    in_flight: int = 0
    uncompared: int = 0
    lists: int = 0
    nodes: int = 0

    @property
    def ok(self) -> bool:
        return self.found == 0

    def tell(self, kind: Kind, index: int | None, words: str) -> None:
        self.found += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(kind, index, words))
