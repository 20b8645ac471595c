"""Serials: counted up for each CA key, in blocks, from a random start. Arithmetic only; the store keeps the next one.

A serial is `epoch << 47 | counter`, 1 to 2^63-1. The epoch moves when a backup is restored, so that serials that were
given out after that backup was made are never given out again, although nobody remembers them. The counter starts at
random below 2^46, so that a serial tells nobody how many there were, and 2^46 are left in every epoch.
"""

from typing import Final

from jitgate.core.errors import Conflict
from jitgate.core.ids import Random

EPOCHS: Final = range(1 << 16)
_COUNTER_BITS: Final = 47
BLOCK_MAX: Final = 1 << 20  # what one process may hold in reserve


def first_serial(epoch: int, random: Random) -> int:
    """Where a new CA key, or a CA key after a restore, begins to count."""
    if epoch not in EPOCHS:
        raise Conflict("the restore epochs are used up", f"one installation can be restored {len(EPOCHS) - 1} times")
    return epoch << _COUNTER_BITS | 1 + int.from_bytes(random(6), "big") % (1 << _COUNTER_BITS - 1)


def epoch_of(serial: int) -> int:
    return serial >> _COUNTER_BITS


def block(first: int, count: int) -> range:
    """The serials of a block that the store reserved; `Conflict` if it would reach into the next epoch."""
    if not 1 <= count <= BLOCK_MAX:
        raise ValueError(f"a block of {count} serials")
    if first < 1 or epoch_of(first) not in EPOCHS or epoch_of(first + count - 1) != epoch_of(first):
        raise Conflict("the serials of this CA key are used up", "replace the CA key")
    return range(first, first + count)


def after_restore(next_serial: int, epoch: int, random: Random) -> int:
    """Where to go on after a restore that began `epoch`: above all that was ever given out before."""
    if epoch <= epoch_of(next_serial):
        raise Conflict("the restore epoch has not moved", "restore with: jitgate restore")
    return first_serial(epoch, random)
