"""Refusals of strangers: the first of an address in a minute is recorded at once, the others as one event with a count.

So a flood costs its sender more than the log. The counts live in memory: a crash loses at most a minute of them.
"""

import ipaddress
from dataclasses import dataclass, field

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import MINUTE, Micros

ADDRESSES_MAX = 10_000  # counted one by one; more share the row of their network
SHARED_PREFIX = {4: 8, 6: 24}


@dataclass(slots=True)
class _Count:
    since: Micros
    count: int = 0


@dataclass(slots=True)
class Floods:
    _counts: dict[tuple[str, EventType], _Count] = field(default_factory=dict)

    def is_first(self, source: str, kind: EventType, now: Micros) -> bool:
        """Whether this refusal is to be recorded by itself; if not, it has been counted.

        Each kind has a count of its own, so that failed sign-ins do not hide the use of a stolen token.
        """
        if len(self._counts) >= ADDRESSES_MAX and (source, kind) not in self._counts:
            source = _network(source)
        known = self._counts.get((source, kind))
        if known is None:
            self._counts[source, kind] = _Count(now)
            return True
        known.count += 1
        return False

    def take_due(self, now: Micros, *, everything: bool = False) -> list[Event]:
        """The events of the minutes that are over (`everything`: of all); a quiet address is forgotten."""
        due = {key: each for key, each in self._counts.items() if everything or now - each.since >= MINUTE}
        for key in due:
            del self._counts[key]
        return [
            Event(
                EventType.SIGN_IN_FLOOD,
                "refused",
                now,
                DEFAULT_REALM,
                Actor("unknown"),
                source=source,
                detail=(("count", each.count), ("since", each.since), ("code", kind.value)),
            )
            for (source, kind), each in due.items()
            if each.count
        ]


def _network(source: str) -> str:
    address = ipaddress.ip_address(source)
    return str(ipaddress.ip_network((int(address), SHARED_PREFIX[address.version]), strict=False))
