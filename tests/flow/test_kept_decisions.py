"""A decision is kept with the facts it was made on: never for another address, another policy, or a policy that asks
for the time."""

import threading
from typing import Any

import pytest
from tests.world import ROLES, World

from jitgate.core.clock import HOUR, MINUTE, rfc3339
from jitgate.flow import certificates, policy
from jitgate.grants import renew
from jitgate.policy.bundle import PolicyBundle, load_text

pytestmark = pytest.mark.databases


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a decision was made for."""
    sources: list[str] = []
    real = renew.still_permitted

    def counting(grant: Any, target: Any, identity: Any, facts: Any, bundle: Any) -> Any:
        sources.append(facts.source)
        return real(grant, target, identity, facts, bundle)

    monkeypatch.setattr(certificates, "still_permitted", counting)
    return sources


async def test_the_same_question_on_the_same_facts_is_answered_once(world: World, decided: list[str]):
    alice = await world.enter("alice")
    await alice.grant()
    for _ in range(3):
        assert (await alice.certificate()).status == 201
        world.clock.advance(MINUTE)
    assert len(decided) == 1


async def test_another_address_is_another_question(world: World):
    await world.apply(
        ROLES.replace(b"who: {groups: [engineers]}", b"who: {groups: [engineers], sources: [192.0.2.0/28]}")
    )
    alice = await world.enter("alice")
    await alice.grant()
    assert (await alice.certificate()).status == 201
    alice.source = "192.0.2.77"
    assert (await alice.certificate()).status == 403
    alice.source = "192.0.2.7"
    assert (await alice.certificate()).status == 201


async def test_a_policy_that_asks_for_the_time_is_asked_each_time(world: World, decided: list[str]):
    ends = rfc3339(world.clock() + 10 * MINUTE)
    condition = f"condition: 'now < timestamp(\"{ends}\")'".encode()
    await world.apply(ROLES.replace(b"who: {groups: [engineers]}", b"who: {groups: [engineers], " + condition + b"}"))
    alice = await world.enter("alice")
    await alice.grant()
    assert [(await alice.certificate()).status for _ in range(2)] == [201, 201]
    world.clock.advance(10 * MINUTE)
    assert (await alice.certificate()).status == 403
    assert len(decided) == 3


async def test_a_kept_yes_ends_with_the_roles_time(world: World):
    """The role became shorter after the grant was opened: the yes of before that does not outlive it."""
    alice = await world.enter("alice")
    await alice.grant()
    await world.apply(ROLES.replace(b"grant: 1h", b"grant: 20m").replace(b"certificate: 15m", b"certificate: 5m"))
    assert (await alice.certificate()).status == 201
    world.clock.advance(20 * MINUTE - 1)
    assert (await alice.certificate()).status == 201
    world.clock.advance(1)
    refused = await alice.certificate()
    assert (refused.status, refused.json["code"]) == (403, "too_long")


async def test_a_policy_that_comes_in_between_is_not_compiled_on_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """What is committed on the loop reads the policy again if another came: a thousand roles would hold it up."""
    alice = await world.enter("alice")
    await alice.grant()
    compiled: list[int] = []
    real = load_text

    def watched(text: str) -> PolicyBundle:
        compiled.append(threading.get_ident())
        return real(text)

    async def apply() -> None:
        await world.apply(ROLES + b"metadata: {a: b}\n")

    monkeypatch.setattr(policy, "load_text", watched)
    world.signer.hook = apply
    assert (await alice.certificate()).status == 201
    assert threading.get_ident() not in compiled


async def test_a_kept_yes_ends_with_the_grant(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    assert (await alice.certificate()).status == 201
    world.clock.advance(HOUR)
    assert (await alice.certificate()).json["code"] == "conflict"
