"""How often one person may act: others do not wait for somebody's script."""

import pytest
from tests.world import World

from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.core.errors import TooMany
from jitgate.flow import rates
from jitgate.flow.rates import Rates


async def test_who_acts_too_often_waits_and_others_do_not(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rates, "BURST", 3)
    alice, bob = await world.enter("alice"), await world.enter("bob")
    await alice.grant()
    assert [(await alice.certificate()).status for _ in range(4)] == [201, 201, 429, 429]
    same = await world.enter("alice")  # another sign-in, another key
    refused = await same.post("/v1/grants", {"host": "web2"})
    assert (refused.status, refused.code) == (429, "too_many")
    assert (await alice.get("/v1/grants")).status == 200  # looking is no act
    await bob.grant()
    assert (await bob.certificate()).status == 201
    world.clock.advance(SECOND)
    assert (await alice.certificate()).status == 201
    (event,) = await world.events("request.refused")  # the others are counted
    assert (event["actor"]["name"], event["detail"]["code"]) == ("alice", "too_many")


def taken(limits: Rates, person: str, now: int) -> int:
    """How many acts are possible now."""
    for count in range(100_000):
        try:
            limits.take(person, now)
        except TooMany:
            return count
    raise AssertionError


def test_a_burst_and_then_a_rate():
    limits, now = Rates(), 1000 * HOUR
    assert taken(limits, "alice", now) == rates.BURST
    assert taken(limits, "bob", now) == rates.BURST
    assert taken(limits, "alice", now + MINUTE) == rates.PER_MINUTE
    assert taken(limits, "alice", now + MINUTE) == 0
    assert taken(limits, "alice", now + 100 * HOUR) == rates.BURST


def test_who_has_not_acted_lately_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rates, "KEPT", 3)
    limits, now = Rates(), 1000 * HOUR
    for name in ("alice", "bob", "carol"):
        limits.take(name, now)
    assert taken(limits, "alice", now) == rates.BURST - 1
    limits.take("dora", now + MINUTE)
    assert set(limits._free_at) == {"alice", "dora"}
    assert taken(limits, "alice", now + MINUTE) == rates.PER_MINUTE
