"""What a mount keeps by name: users and roles. The surface's policies are kept in the same way, under no mount."""

from collections.abc import Mapping
from typing import Final

from jitgate.core.errors import BadInput, NotFound
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import Answer, Asked, Holder, read
from jitgate.identity.vault import Entry

ENTRIES_MAX: Final = 1000  # of one kind in one place: what a person can look through


def entry_of(tx: Tx, asked: Asked, kind: str) -> Entry:
    """What the request names; `NotFound`."""
    if (found := tx.vault.entry(asked.of_mount().id, kind, asked.name)) is None:
        raise NotFound("")
    return found


def keep(
    tx: Tx, outside: Outside, place: str, kind: str, name: str, body: Mapping[str, object], most: int = ENTRIES_MAX
) -> None:
    """A new one, or in place of the one of that name. `place`: a mount's id. `BadInput` for one too many."""
    if tx.vault.entry(place, kind, name) is None and len(tx.vault.entries(place, kind)) >= most:
        raise BadInput(f"{most} are there already", "delete one")
    tx.vault.put_entry(Entry(place, kind, name, body, outside.clock()))
    tx.move_epoch()


async def list_entries(outside: Outside, asked: Asked, *, kind: str) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        if not (names := [each.name for each in tx.vault.entries(mount.id, kind)]):
            raise NotFound("")
        return Answer({"keys": names})

    return await read(outside, asked, job)
