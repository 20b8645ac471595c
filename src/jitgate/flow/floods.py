"""Refusals of strangers: the first of an address in a minute is recorded at once, the others as one event with a count.

So a flood costs its sender more than the log. Whoever has an IPv6 /64 has all its addresses: they are counted as one. A
token says whose it is: each person's are counted apart, so that nobody's noise hides the use of another's token. The
counts live in memory: a crash loses at most a minute of them.
"""

import ipaddress
from dataclasses import dataclass, field

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import MINUTE, Micros
from jitgate.identity.throttle import address_subject

ADDRESSES_MAX = 10_000  # counted one by one; more share the row of their network
SHARED_PREFIX = {4: 8, 6: 24}
UNKNOWN = Actor("unknown")


@dataclass(slots=True)
class _Count:
    since: Micros
    count: int = 0


@dataclass(slots=True)
class Floods:
    _counts: dict[tuple[str, EventType, Actor], _Count] = field(default_factory=dict)

    def is_first(self, source: str, kind: EventType, now: Micros, actor: Actor = UNKNOWN) -> bool:
        """Whether this refusal is to be recorded by itself; if not, it has been counted.

        Each kind has a count of its own, so that failed sign-ins do not hide the use of a stolen token.
        """
        source = address_subject(source)
        if len(self._counts) >= ADDRESSES_MAX and (source, kind, actor) not in self._counts:
            source = _network(source)
        known = self._counts.get((source, kind, actor))
        if known is None:
            self._counts[source, kind, actor] = _Count(now)
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
                actor,
                source=source,
                detail=(("count", each.count), ("since", each.since), ("code", kind.value)),
            )
            for (source, kind, actor), each in due.items()
            if each.count
        ]


def _network(source: str) -> str:
    network = ipaddress.ip_network(source)
    return str(network.supernet(new_prefix=SHARED_PREFIX[network.version]))
