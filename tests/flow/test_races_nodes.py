"""What another node takes away, while this one hears nothing of it: nothing is given out all the same (ADR 2)."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.client import Answer
from tests.flow.test_races import (
    TAKEN,
    Act,
    denied,
    disabled,
    grant_run_out,
    host_removed,
    key_removed,
    signed_and_logged_agree,
    signed_out,
)
from tests.world import Visitor, World

from jitgate.adapters.db.store import open_store

pytestmark = pytest.mark.parametrize("database", ["postgres"])


@pytest.fixture
def elsewhere(world: World) -> Iterator[World]:
    """The same installation at another node. This one is told of nothing, and believes what it knows."""
    store = open_store(world.store._reading.url.render_as_string(hide_password=False))
    assert world.store._listener is not None
    world.store._listener.close()
    world.store._epochs.learn(world.store._epochs.value, float("inf"))
    other = replace(world, store=store)
    other.change(store=store)
    yield other
    store.close()


def at(world: World, known: Visitor) -> Visitor:
    return Visitor(world, known.signer, known.source, known.granted)


async def take_away(act: Act, world: World, known: Visitor) -> None:
    answer = await act(world, at(world, known))
    assert not isinstance(answer, Answer) or answer.status < 300, answer


@pytest.mark.parametrize("when", ["before", "while it signs"])
@pytest.mark.parametrize(("act", "status", "code"), TAKEN.values(), ids=TAKEN)
async def test_no_certificate_after_the_loss(
    world: World, elsewhere: World, act: Act, status: int, code: str, when: str
):
    alice = await world.enter("alice")
    await alice.grant()
    assert (await alice.certificate()).status == 201  # its facts are known here now
    generation = world.store._epochs.generation()
    if when == "before":
        await take_away(act, elsewhere, alice)
    else:

        async def hook() -> None:
            await take_away(act, elsewhere, alice)

        world.signer.hook = hook
    assert world.store._epochs.generation() == generation  # nobody told us
    answer = await alice.certificate()
    assert (answer.status, answer.code) == (status, code)
    assert "certificate" not in answer.json
    valid = await world.store.read(lambda tx: tx.certificates.of_grant(alice.granted, world.clock()))
    assert len(valid) == (0 if act is grant_run_out else 1)  # the first
    assert await signed_and_logged_agree(world)


@pytest.mark.parametrize("act", [disabled, key_removed, signed_out, denied, host_removed])
async def test_no_grant_and_no_key_after_the_loss(world: World, elsewhere: World, act: Act):
    alice = await world.enter("alice")
    await alice.grant()
    assert (await alice.get("/v1/me")).status == 200
    await take_away(act, elsewhere, alice)
    assert (await alice.post("/v1/grants", {"host": "web1", "minutes": 7})).status in (401, 403, 404)


async def test_a_proof_is_used_once_on_all_nodes(world: World, elsewhere: World):
    alice = await world.stranger().sign_in("alice")
    again = await elsewhere.stranger().sign_in("alice")  # the same code
    assert (alice.status, again.status) == (201, 401)


async def test_of_many_on_two_nodes_none_has_a_serial_twice(world: World, elsewhere: World):
    alice = await world.enter("alice")
    await alice.grant()
    both = alice, at(elsewhere, alice)
    answers = await asyncio.gather(*(both[number % 2].certificate() for number in range(40)))
    assert [answer.status for answer in answers] == [201] * 40
    assert len({answer.json["serial"] for answer in answers}) == 40
    assert await signed_and_logged_agree(world)
