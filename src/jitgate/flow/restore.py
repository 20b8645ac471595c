"""After a database was put back from a copy: a new epoch, in which nothing that was used is used again.

What was done after the copy was made, nobody here remembers. So in the new epoch:
- serials begin above all that was ever given out, and bundles and lists of trust count as newer than all before;
- what people hold, and was signed before, is revoked: it may be more than the rows say, and what was revoked since the
  copy is not known any more; the grants that it was under are ended, and people ask again;
- indices of the log that were signed for and lost are filled, each with an entry that says so: none has two contents.
"""

from collections.abc import Sequence

from jitgate.audit.checkpoint import parse_body
from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind, Phase
from jitgate.ca.revocation import What
from jitgate.ca.serials import EPOCHS, after_restore, epoch_of
from jitgate.core.errors import BadInput, Conflict
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.revocations import Order, revoke_as_operator

LOST_MAX = 1_000_000  # entries; each is written again as a lost one
_PART = 1000
_HELD_BY_PEOPLE = (CaKind.USER, CaKind.MOUNT)


async def highest_epoch(outside: Outside) -> int:
    """Of those that the database and this node's signer know of."""
    highest, offset = await outside.store.read(lambda tx: int(tx.value("epoch") or 0)), 0
    while True:
        page = await outside.signer.signed(offset)
        highest = max([highest, *(epoch_of(entry.serial) for entry in page.entries)])
        if page.next == offset or not page.entries:
            return highest
        offset = page.next


async def begin_epoch(outside: Outside, actor: Actor, epoch: int, reason: str = "") -> int:
    """Begin this epoch, which must be above all that were; how many entries of the log were lost.

    Nothing else may write meanwhile: the service does not run. Raises `Conflict`, `BadInput`.
    """
    head = (await outside.signer.keys()).head
    if epoch not in EPOCHS:
        raise BadInput(f"an epoch is from 1 to {EPOCHS[-1]}")

    def move(tx: Tx) -> Sequence[Authority]:
        if epoch <= int(tx.value("epoch") or 0):
            raise Conflict("the epoch has been used already", "jitgate db new-epoch finds the next one by itself")
        tx.set_value("epoch", str(epoch))
        listed = tx.authorities.all()
        for each in listed:
            following = after_restore(tx.authorities.next_serial(each.id), epoch, outside.random)
            tx.authorities.set_next_serial(each.id, following)
        tx.move_state()
        tx.log.append(_event(outside, actor, epoch, tx, reason))
        return [each for each in listed if each.kind in _HELD_BY_PEOPLE and each.phase is not Phase.RETIRED]

    for each in await outside.store.write(move):
        everything = f"1-{after_restore(1, epoch, bytes) - 2}"  # the last serial of the epoch before
        order = Order(What.SERIALS, everything, each.key.fingerprint, each.realm, "the database was put back")
        await revoke_as_operator(outside, actor, order)
    return await _fill(outside, actor, epoch, head.size if head else 0)


async def _fill(outside: Outside, actor: Actor, epoch: int, signed: int) -> int:
    """Make the log longer than what was signed of the one that is gone."""
    lost = 0

    def part(tx: Tx) -> int:
        size = parse_body(tx.log.checkpoint_body()).size
        missing = signed + 1 - size
        if missing > LOST_MAX:
            raise Conflict(f"{missing} entries were lost", "is it the right copy?")
        for _ in range(max(0, min(missing, _PART))):
            tx.log.append(_event(outside, actor, epoch, tx, "an entry that was lost", size=size))
        return missing

    while (missing := await outside.store.write(part)) > 0:
        lost = max(lost, missing)
    return max(0, lost - 1)


def _event(outside: Outside, actor: Actor, epoch: int, tx: Tx, reason: str, size: int | None = None) -> Event:
    size = parse_body(tx.log.checkpoint_body()).size if size is None else size
    detail = (("epoch", epoch), ("size", size))
    kind = EventType.SERVICE_RESTORED
    return Event(kind, "done", outside.clock(), DEFAULT_REALM, actor, reason=reason, detail=detail)
