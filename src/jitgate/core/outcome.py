"""Results that explain themselves."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    CRASHED = "crashed"  # counts as failed


@dataclass(frozen=True, slots=True)
class Check:
    """One question that a decision asked, and its answer in words for a person.

    `name` is a stable word ("group", "host", "condition"); `hint` is the smallest change that would pass it, if known.
    """

    name: str
    outcome: Outcome
    why: str
    hint: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASSED


def passed(name: str, why: str) -> Check:
    return Check(name, Outcome.PASSED, why)


def failed(name: str, why: str, hint: str = "") -> Check:
    return Check(name, Outcome.FAILED, why, hint)


def crashed(name: str, why: str, hint: str = "") -> Check:
    return Check(name, Outcome.CRASHED, why, hint)
