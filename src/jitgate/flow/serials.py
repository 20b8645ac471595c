"""Serials in hand: a block of each authority's is reserved in the store, and counted off without asking again.

What a process has reserved and not used when it ends is never used: serials may have gaps, never repeats.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from jitgate.ca.realms import Authority
from jitgate.ca.serials import block
from jitgate.flow.ports import Store

BLOCK = 1000  # serials reserved at a time: one write in a thousand issues


@dataclass(slots=True)
class Serials:
    _in_hand: dict[str, Iterator[int]] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take(self, store: Store, authority: Authority) -> int:
        """A serial of that authority that nobody has had and nobody else will get."""
        serial = self._next(authority)
        if serial is not None:
            return serial
        async with self._lock:  # one refill for all that wait
            serial = self._next(authority)
            if serial is None:
                first = await store.write(lambda tx: tx.authorities.take_serials(authority.id, BLOCK))
                self._in_hand[authority.id] = iter(block(first, BLOCK))
                serial = next(self._in_hand[authority.id])
            return serial

    def _next(self, authority: Authority) -> int | None:
        """Of the block in hand; what was revoked before it was used is passed over."""
        in_hand = self._in_hand.get(authority.id, iter(()))
        serial = next(in_hand, None)
        while serial is not None and serial <= authority.floor:
            serial = next(in_hand, None)
        return serial
