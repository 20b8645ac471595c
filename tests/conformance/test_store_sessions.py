"""Sessions in every store: counted, listed, ended once, and found when something was taken from them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from tests.conformance.stores import Opened, add, an_id, host, key, person
from tests.unit.ca.samples import GRANT, NOW

from jitgate.adapters.db.store import Store
from jitgate.core.clock import HOUR, MINUTE
from jitgate.flow.ports import Tx
from jitgate.hosts.model import Host
from jitgate.identity.model import Person, RegisteredKey
from jitgate.sessions.session import Session, Why

HERE, THERE = an_id(), an_id()


@dataclass
class Rows:
    """What a session stands on."""

    store: Store
    who: Person
    key: RegisteredKey
    host: Host
    grant: str

    def session(self, **changed: Any) -> Session:
        made = Session(
            an_id(), "default", self.grant, self.who.id, self.who.name, self.key.id, self.host.id, self.host.name,
            "ubuntu", HERE, "192.0.2.7", 40_000, NOW, NOW + HOUR,
        )  # fmt: skip
        return replace(made, **changed)

    async def add(self, **changed: Any) -> Session:
        made = self.session(**changed)
        await self.store.write(lambda tx: tx.sessions.add(made))
        return made


def count(grant: str, tx: Tx) -> int:
    return tx.sessions.count_open(grant)


async def rows(opened: Opened, name: str = "ann") -> Rows:
    who = person(name)
    made = Rows(opened.store, who, key(who, name), host(f"of-{name}"), an_id())
    grant = replace(GRANT, id=made.grant, holder=replace(GRANT.holder, person_id=who.id, name=name))

    def job(tx: Tx) -> None:
        add(tx, who)
        tx.keys.add(made.key)
        tx.hosts.add(made.host)
        tx.grants.add(grant)
        tx.nodes.seen(HERE, "here", NOW)
        tx.nodes.seen(THERE, "there", NOW)

    await opened.store.write(job)
    return made


async def test_a_session_comes_back_as_it_was_kept(opened: Opened):
    ann = await rows(opened)
    kept = await ann.add()
    assert await opened.store.read(lambda tx: tx.sessions.by_id(kept.id)) == kept
    assert await opened.store.read(lambda tx: tx.sessions.by_id(an_id())) is None


async def test_it_ends_once_with_its_bytes(opened: Opened):
    ann = await rows(opened)
    kept = await ann.add()

    def end(tx: Tx) -> bool:
        return tx.sessions.end(kept.id, NOW + MINUTE, "why", 2**40, 5)

    assert [await opened.store.write(end) for _ in range(2)] == [True, False]
    found = await opened.store.read(lambda tx: tx.sessions.by_id(kept.id))
    assert found == replace(kept, ended_at=NOW + MINUTE, end_reason="why", up=2**40, down=5)


async def test_open_ones_are_counted_and_listed_by_person(opened: Opened):
    ann, ben = await rows(opened), await rows(opened, "ben")
    first, second, other = await ann.add(), await ann.add(), await ben.add()
    await opened.store.write(lambda tx: tx.sessions.end(first.id, NOW, "why", 0, 0))

    def look(tx: Tx) -> list[list[str]]:
        return [
            [each.id for each in found]
            for found in (
                tx.sessions.open(limit=9),
                tx.sessions.open(person_id=ann.who.id, limit=9),
                tx.sessions.open(limit=1),
                tx.sessions.latest(9),
                tx.sessions.latest(9, person_id=ann.who.id),
            )
        ]

    every = [other.id, second.id, first.id]
    assert await opened.store.read(look) == [every[:2], [second.id], [other.id], every, every[1:]]
    counts = [await opened.store.read(partial(count, each.grant)) for each in (ann, ben)]
    assert counts == [1, 1]


@pytest.mark.parametrize(
    ("take", "why"),
    [
        (lambda tx, ann, _: tx.people.set_disabled(ann.who.id, NOW), Why.PERSON_DISABLED),
        (lambda tx, ann, _: tx.grants.end(ann.grant, NOW, "why"), Why.GRANT_ENDED),
        (lambda tx, ann, _: tx.keys.remove(ann.key.id, NOW), Why.KEY_REMOVED),
        (lambda tx, ann, _: tx.hosts.remove(ann.host.id, NOW), Why.HOST_REMOVED),
        (lambda tx, _, session: tx.sessions.ask_to_end(session.id, NOW), Why.KILLED),
    ],
)
async def test_what_was_taken_away_is_found_by_the_node_that_carries_it(
    opened: Opened, take: Callable[[Tx, Rows, Session], None], why: Why
):
    ann, ben = await rows(opened), await rows(opened, "ben")
    session = await ann.add()
    await ben.add()
    over = await ann.add(ended_at=NOW, end_reason="why")
    assert await opened.store.read(lambda tx: tx.sessions.to_end(HERE)) == []
    await opened.store.write(lambda tx: take(tx, ann, session))
    assert await opened.store.read(lambda tx: tx.sessions.to_end(HERE)) == [(session.id, why)]
    assert await opened.store.read(lambda tx: tx.sessions.to_end(THERE)) == []
    await opened.store.write(lambda tx: tx.sessions.end(session.id, NOW, why.value, 0, 0))
    assert await opened.store.read(lambda tx: tx.sessions.to_end(HERE)) == []
    assert over.ended_at


async def test_what_a_crashed_or_silent_node_left_open(opened: Opened):
    ann = await rows(opened)
    ours, theirs = await ann.add(), await ann.add(node=THERE)
    await ann.add(ended_at=NOW, end_reason="why")

    async def left(silent_since: int) -> list[str]:
        found = await opened.store.read(lambda tx: tx.sessions.left_open(HERE, silent_since))
        return sorted(each.id for each in found)

    assert await left(NOW) == [ours.id]
    assert await left(NOW + 1) == sorted([ours.id, theirs.id])
    await opened.store.write(lambda tx: tx.nodes.seen(THERE, "there", NOW + 1))
    assert await left(NOW + 1) == [ours.id]


@pytest.mark.parametrize("foreign", ["grant_id", "person_id", "key_id", "host_id", "node"])
async def test_a_session_stands_on_rows_that_are_there(opened: Opened, foreign: str):
    ann = await rows(opened)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await ann.add(**{foreign: an_id()})
