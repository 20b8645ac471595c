"""The key registry beside the database: a key counts only while row and registry say the same.

The row comes first, the registry's entry second, and only then anybody's answer. A row whose entry is gone (somebody
removed it by hand, or a crash came between) is removed with its event when it is noticed; a row whose entry says
something else stays, and opens nothing.
"""

import logging
from contextlib import suppress

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Denied, Error, Unreachable
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.identity.keys import Standing
from jitgate.identity.model import RegisteredKey

WATCHED_MAX = 10_000  # sessions: more than a gateway carries
SETTLING = 4 * SECOND  # a row this young may be one whose entry another request is about to write
GONE = "it is not in the key registry any more"
_LOG = logging.getLogger("jitgate.registry")


async def confirm_key(outside: Outside, registered: RegisteredKey, owner: str) -> None:
    """Returns if the registry says that `registered` is this person's, as of some seconds ago at most.

    `owner`: the person's name. Raises `Denied` (`key_not_registered`, `registry_differs`), `Unreachable`.
    """
    standing = await outside.key_registry.confirm(owner, registered)
    if standing is Standing.AGREES:
        return
    if standing is Standing.GONE and outside.clock() - registered.added_at < SETTLING:
        raise Unreachable("the key is being registered", "try again", code="registry_unreachable")
    if standing is Standing.GONE:
        await outside.store.write(lambda tx: _forget(tx, outside, registered, owner, GONE))
        raise Denied(
            "the key was taken out of the key registry",
            "jitctl login registers it anew, if you still may",
            code="key_not_registered",
        )
    raise Denied(
        "the key registry says something else about this key",
        "tell the service's owner: somebody changed its entry by hand",
        code="registry_differs",
    )


async def confirm_key_id(outside: Outside, key_id: str, owner: str) -> None:
    """The same for the row of this id. Nothing for one that is not there: whoever asks looks for it anyway."""
    registered = await outside.store.recall(("key", key_id), lambda tx: tx.keys.by_id(key_id))
    if registered is not None:
        await confirm_key(outside, registered, owner)


async def watch_open_sessions(outside: Outside) -> None:
    """Ask for the keys of the sessions that are open: with a row that goes, its sessions end.

    While the registry is away they go on: what was let through rests on what was confirmed then.
    """
    sessions = await outside.store.read(lambda tx: tx.sessions.open(limit=WATCHED_MAX))
    for key_id, owner in {(session.key_id, session.person_name) for session in sessions}:
        with suppress(Denied):
            await confirm_key_id(outside, key_id, owner)


async def publish_key(outside: Outside, registered: RegisteredKey, owner: str, source: str, *, since: Micros) -> None:
    """Have the registry say what the row says, before anybody hears of the row. `since`: when the act began.

    Raises `Unreachable`, or `Conflict` (`registry_differs`); a row that the act added is then gone again.
    """
    try:
        written = await outside.key_registry.put(owner, registered)
    except Error as error:
        if registered.added_at >= since:
            why = error.what
            await outside.store.write(lambda tx: _forget(tx, outside, registered, owner, why))
        raise
    if written and registered.added_at < since:
        await outside.store.write(lambda tx: tx.log.append(_again(outside, registered, owner, source)))


async def withdraw_key(outside: Outside, registered: RegisteredKey, owner: str) -> None:
    """Take the entry of a removed row away. The row decides: an entry that stays behind opens nothing."""
    try:
        await outside.key_registry.remove(owner, registered)
    except Error as error:
        told = {"owner": owner, "fingerprint": registered.key.fingerprint, "problem": error.what}
        _LOG.warning("a removed key's entry stays in the key registry", extra=told)


def _forget(tx: Tx, outside: Outside, registered: RegisteredKey, owner: str, why: str) -> None:
    current = tx.keys.current(registered.key)
    if current is None or current.id != registered.id:  # somebody else noticed it first
        return
    now = outside.clock()
    tx.keys.remove(registered.id, now)
    tx.move_epoch()
    detail = (("fingerprint", registered.key.fingerprint), ("key", registered.id), ("why", why))
    tx.log.append(
        Event(
            EventType.KEY_REMOVED,
            "done",
            now,
            DEFAULT_REALM,
            Actor("service"),
            subject=registered.person_id,
            subject_name=owner,
            detail=detail,
        )
    )


def _again(outside: Outside, registered: RegisteredKey, owner: str, source: str) -> Event:
    """The row stood, and its entry was gone before anybody noticed."""
    detail = (
        ("fingerprint", registered.key.fingerprint),
        ("algorithm", registered.key.algorithm.value),
        ("key", registered.id),
        ("how", "registered anew: its entry was gone from the key registry"),
    )
    actor = Actor("person", registered.person_id, owner)
    now = outside.clock()
    return Event(EventType.KEY_REGISTERED, "allowed", now, DEFAULT_REALM, actor, source=source, detail=detail)
