"""The difference between the log and the lists in which signers write down all they signed.

Both sides are nearly in one order (signing comes just before logging), so they are read side by side and matched as
they come: what waits for its other half is kept, what has met it is one bit in a set of serials. Memory: a bit a
certificate, and at most `WAITING_MAX` unmatched ones. The order of neither side is trusted, the lists' content is.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jitgate.audit.events import escape
from jitgate.audit.report import Kind, Report
from jitgate.core.clock import MINUTE, Micros

IN_FLIGHT: Micros = MINUTE  # signed, and perhaps not yet committed when the log was read
WAITING_MAX = 1_000_000  # about 300 MB; more than that is no slip any more, and the comparison stops
_CHUNK_BITS = 10

_Key = tuple[str, int]  # CA, serial: serials count per CA key


class SignedItem(NamedTuple):
    """One line of a signer's list."""

    ca: str  # fingerprint of the CA key
    serial: int
    digest: str  # SHA-256 of the signed bytes, hex
    time: Micros


class LoggedItem(NamedTuple):
    """What an entry `certificate.issued` (released) or `certificate.unreleased` says."""

    ca: str
    serial: int
    digest: str
    released: bool
    time: Micros


class Serials:
    """A set of numbers that lie close together, a bit each."""

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}

    def add(self, serial: int) -> bool:
        """False if it was there already."""
        chunk, bit = serial >> _CHUNK_BITS, 1 << (serial & ((1 << _CHUNK_BITS) - 1))
        bits = self._chunks.get(chunk, 0)
        self._chunks[chunk] = bits | bit
        return not bits & bit


class Difference:
    """Fed with the log's certificates in the order of the log; reads the lists as it goes.

    `copied`: when the oldest copy of a list was made; what was logged later may be in none.
    """

    def __init__(self, report: Report, signed: Iterable[SignedItem], copied: Micros | None = None) -> None:
        self._report = report
        self._copied = copied
        self._signed: Iterator[SignedItem] = iter(signed)
        self._logged_serials: dict[str, Serials] = {}
        self._signed_serials: dict[str, Serials] = {}
        self._waiting_logged: dict[_Key, tuple[str, int, Micros]] = {}  # digest, index, time
        self._waiting_signed: dict[_Key, tuple[str, Micros]] = {}  # digest, time
        self._stopped = False

    def logged(self, index: int, item: LoggedItem) -> None:
        ca, serial, digest, released, time = item
        self._report.unreleased += not released
        if self._stopped:
            return
        if not self._logged_serials.setdefault(ca, Serials()).add(serial):
            self._report.tell(Kind.SERIAL, index, f"entry {index}: serial {serial} is in the log a second time")
        else:
            self._waiting_logged[ca, serial] = digest, index, time
            self._match((ca, serial))
        self._read_one()
        if max(len(self._waiting_logged), len(self._waiting_signed)) > WAITING_MAX:
            self._stopped = True
            self._report.tell(Kind.UNSIGNED, index, f"log and lists differ so much that comparing stops at {index}")

    def finish(self, now: Micros) -> None:
        """Read the lists to their end and tell what found no other half. `now`: when the log was read."""
        while not self._stopped and self._read_one():
            pass
        if self._stopped:
            return
        for (ca, serial), (_, index, time) in self._waiting_logged.items():
            if self._copied is not None and time >= self._copied - IN_FLIGHT:
                self._report.uncompared += 1
                continue
            words = f"entry {index}: serial {serial} of {escape(ca, 80)} is in no signer's list"
            self._report.tell(Kind.UNSIGNED, index, words)
        for (ca, serial), (_, time) in self._waiting_signed.items():
            if time >= now - IN_FLIGHT:
                self._report.in_flight += 1
            else:
                words = f"serial {serial} of {escape(ca, 80)} was signed, and the log does not say so"
                self._report.tell(Kind.UNLOGGED, None, words)

    def _read_one(self) -> bool:
        item = next(self._signed, None)
        if item is None:
            return False
        key = item.ca, item.serial
        if not self._signed_serials.setdefault(item.ca, Serials()).add(item.serial):
            self._report.tell(Kind.SERIAL, None, f"serial {item.serial} of {escape(item.ca, 80)} was signed twice")
        else:
            self._waiting_signed[key] = item.digest, item.time
            self._match(key)
        return True

    def _match(self, key: _Key) -> None:
        logged, item = self._waiting_logged.get(key), self._waiting_signed.get(key)
        if logged is None or item is None:
            return
        del self._waiting_logged[key], self._waiting_signed[key]
        if logged[0] == item[0]:
            self._report.certificates += 1
        else:
            words = f"entry {logged[1]}: what was signed under serial {key[1]} is not what the log says"
            self._report.tell(Kind.UNSIGNED, logged[1], words)
