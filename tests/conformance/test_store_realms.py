"""Realms, who has left one, and plans that replace CA keys, in every store."""

from dataclasses import replace

import pytest
from tests.conformance.stores import Opened, add, an_id, authority, host, person
from tests.unit.ca.samples import NOW

from jitgate.ca.realms import CaKind
from jitgate.ca.rotation import Rotation, Step
from jitgate.core.clock import HOUR
from jitgate.flow.ports import Tx

BROKEN = r"(?i)(unique|foreign key) constraint"


async def test_a_realm_has_hosts_of_its_own_though_names_are_the_same(opened: Opened):
    def job(tx: Tx) -> None:
        tx.realms.add("eu", NOW)
        tx.hosts.add(host("web1"))
        tx.hosts.add(host("web1", realm="eu"))

    await opened.store.write(job)
    assert [name for name, _ in await opened.store.read(lambda tx: tx.realms.all())] == ["default", "eu"]
    named = await opened.store.read(lambda tx: tx.hosts.named("web1"))
    assert [each.realm for each in named] == ["default", "eu"]
    with pytest.raises(Exception, match=BROKEN):
        await opened.store.write(lambda tx: tx.hosts.add(host("web1", realm="eu")))
    with pytest.raises(Exception, match=BROKEN):
        await opened.store.write(lambda tx: tx.realms.add("eu", NOW))


async def test_who_left_a_realm_has_left_that_one(opened: Opened):
    def job(tx: Tx) -> str:
        tx.realms.add("eu", NOW)
        alice, _ = add(tx, person("alice")), add(tx, person("bob"))
        tx.realms.leave(alice.id, "eu", NOW)
        return alice.id

    alice = await opened.store.write(job)
    found = {each.name: each.left for each in await opened.store.read(lambda tx: tx.people.all())}
    assert found == {"alice": frozenset({"eu"}), "bob": frozenset()}
    assert (await opened.store.read(lambda tx: tx.people.by_id(alice))).left == {"eu"}  # type: ignore[union-attr]  # there
    assert await opened.store.write(lambda tx: tx.realms.come_back(alice, "eu"))
    assert not await opened.store.write(lambda tx: tx.realms.come_back(alice, "eu"))
    assert (await opened.again().read(lambda tx: tx.people.by_name("alice"))).left == frozenset()  # type: ignore[union-attr]  # there


async def test_one_plan_of_a_realm_and_kind_runs(opened: Opened):
    old, new, other = authority(), authority(), authority(CaKind.HOST)
    plan = Rotation(an_id(), "default", CaKind.USER, old.id, new.id, Step.TRUST, NOW, NOW, 7)

    def begin(tx: Tx) -> None:
        for each in (old, new, other):
            tx.authorities.add(each, NOW, 1)
        tx.rotations.add(plan)

    await opened.store.write(begin)
    with pytest.raises(Exception, match=BROKEN):
        await opened.store.write(lambda tx: tx.rotations.add(replace(plan, id=an_id())))
    await opened.store.write(lambda tx: tx.rotations.add(replace(plan, id=an_id(), kind=CaKind.HOST)))

    waived = frozenset({an_id(), an_id()})
    moved = replace(plan, step=Step.USE, step_at=NOW + 1, trust=9, waived=waived)
    await opened.store.write(lambda tx: tx.rotations.change(moved))
    assert moved in await opened.again().read(lambda tx: tx.rotations.running())
    ended = replace(moved, step=Step.DONE, ended_at=NOW + HOUR)
    await opened.store.write(lambda tx: tx.rotations.change(ended))
    assert [each.kind for each in await opened.store.read(lambda tx: tx.rotations.running())] == [CaKind.HOST]
    assert ended in await opened.store.read(lambda tx: tx.rotations.latest(10))
    await opened.store.write(lambda tx: tx.rotations.add(replace(plan, id=an_id())))
