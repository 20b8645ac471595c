"""Serials in hand: nobody gets one twice, however many ask at once and whatever is killed."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.world import World

from jitgate.ca.realms import CaKind
from jitgate.ca.serials import first_serial
from jitgate.core.errors import Conflict
from jitgate.flow import serials
from jitgate.flow.serials import Serials


async def test_many_at_once_get_one_each_and_two_processes_never_the_same(world: World):
    (user, hosts) = await world.store.read(lambda tx: tx.authorities.all())
    one, other = Serials(), Serials()
    asked = [holder.take(world.store, user) for _ in range(1500) for holder in (one, other)]
    taken = await asyncio.gather(*asked)
    assert len(set(taken)) == 3000
    assert {each.kind for each in (user, hosts)} == {CaKind.USER, CaKind.HOST}
    assert await one.take(world.store, hosts) not in taken


async def test_what_was_reserved_and_not_used_is_never_used(world: World):
    user, _ = await world.store.read(lambda tx: tx.authorities.all())
    before = await Serials().take(world.store, user)
    after = await Serials().take(world.store, user)  # as after a start
    assert after == before + serials.BLOCK


async def test_one_write_serves_all_that_wait(world: World, monkeypatch: pytest.MonkeyPatch):
    user, _ = await world.store.read(lambda tx: tx.authorities.all())
    writes = 0
    write = world.store.write

    async def counted(job: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(job)

    monkeypatch.setattr(world.store, "write", counted)
    holder = Serials()
    await asyncio.gather(*(holder.take(world.store, user) for _ in range(serials.BLOCK)))
    assert writes == 1
    await holder.take(world.store, user)
    assert writes == 2


async def test_an_epoch_that_is_used_up_gives_no_serial_of_the_next(world: World):
    user, _ = await world.store.read(lambda tx: tx.authorities.all())
    last = first_serial(1, bytes) - 10
    spent = replace(user, id=world.new_id(), key=(await world.store.read(lambda tx: tx.hosts.all()))[0].key)
    await world.store.write(lambda tx: tx.authorities.add(spent, world.clock(), last))
    with pytest.raises(Conflict, match="used up"):
        await Serials().take(world.store, spent)
