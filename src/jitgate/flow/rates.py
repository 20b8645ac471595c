"""How often one person may act, so that one key and a script do not use up what all share: the rate at which the
signer lets the realm's CA key sign, the one writer, the log's disk.

In memory: a restart begins anew, and the signer has a limit of its own.
"""

from dataclasses import dataclass, field

from jitgate.core.clock import MINUTE, Micros
from jitgate.core.errors import TooMany

BURST = 10_000  # acts at once: half of what a CA key of a new installation signs at once
PER_MINUTE = 600  # then so many: a fifth of what it signs for ever, more than anybody's hosts ask for
KEPT = 10_000  # persons; beyond, those are forgotten who have not acted lately

_INTERVAL: Micros = MINUTE // PER_MINUTE


@dataclass(slots=True)
class Rates:
    _free_at: dict[str, Micros] = field(default_factory=dict)

    def take(self, person_id: str, now: Micros) -> None:
        """Count one act. `TooMany` for one beyond the rate, which is then not counted (generic cell rate algorithm)."""
        start = max(self._free_at.get(person_id, 0), now)
        if start - now > (BURST - 1) * _INTERVAL:
            raise TooMany("you asked for too much in a short time", f"{PER_MINUTE} acts a minute are possible")
        if len(self._free_at) >= KEPT:
            self._free_at = {person: free_at for person, free_at in self._free_at.items() if free_at > now}
        self._free_at[person_id] = start + _INTERVAL
