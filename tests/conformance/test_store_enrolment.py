"""Hosts that join and agents that acknowledge, in every store."""

from dataclasses import replace
from typing import Any

import pytest
from tests.conformance.stores import Opened, add, an_id, authority, host, person
from tests.unit.ca.samples import GRANT, NOW, public

from jitgate.ca.realms import Phase
from jitgate.core.clock import HOUR
from jitgate.flow.ports import Tx
from jitgate.hosts.agent_wire import Problem
from jitgate.hosts.enrolment import HostState, HostTerms, KeptToken, Waiting

TERMS = HostTerms("default", "web1", "", 22, {"env": "prod"}, ("ubuntu",))


def token(**changed: Any) -> KeptToken:
    return replace(KeptToken(an_id(), b"h" * 32, TERMS, False, NOW, NOW + HOUR), **changed)


async def test_a_token_is_found_by_its_hash_and_used_by_a_key(opened: Opened):
    kept = token()
    await opened.store.write(lambda tx: tx.join_tokens.add(kept))
    assert await opened.store.read(lambda tx: tx.join_tokens.by_hash(b"h" * 32)) == kept
    assert await opened.store.read(lambda tx: tx.join_tokens.by_hash(b"i" * 32)) is None
    await opened.store.write(lambda tx: tx.join_tokens.use(kept.id, NOW + 1, public("sshd")))
    used = await opened.store.read(lambda tx: tx.join_tokens.by_hash(b"h" * 32))
    assert used == replace(kept, used_at=NOW + 1, used_by=public("sshd"))


async def test_tokens_are_dropped_with_their_name_and_forgotten_after_their_end(opened: Opened):
    def job(tx: Tx) -> list[bool]:
        tx.join_tokens.add(token())
        tx.join_tokens.add(token(hash=b"2" * 32, terms=replace(TERMS, name="web2")))
        tx.join_tokens.add(token(hash=b"3" * 32, terms=replace(TERMS, name="web3"), expires_at=NOW))
        tx.join_tokens.drop("default", "web1")
        tx.join_tokens.forget(NOW + 1)
        return [tx.join_tokens.by_hash(each) is not None for each in (b"h" * 32, b"2" * 32, b"3" * 32)]

    assert await opened.store.write(job) == [False, True, False]


async def test_who_waits_is_replaced_approved_and_taken_out(opened: Opened):
    first = Waiting(TERMS, public("one"), "token", "192.0.2.1", NOW)
    second = replace(first, key=public("two"), asked_at=NOW + 1)

    def job(tx: Tx) -> None:
        tx.waiting_hosts.put(first)
        tx.waiting_hosts.put(second)

    await opened.store.write(job)
    assert await opened.store.read(lambda tx: tx.waiting_hosts.all()) == [second]
    await opened.store.write(lambda tx: tx.waiting_hosts.approve("default", "web1", NOW + 2))
    found = await opened.store.read(lambda tx: tx.waiting_hosts.by_name("default", "web1"))
    assert found == replace(second, approved_at=NOW + 2)
    await opened.store.write(lambda tx: tx.waiting_hosts.forget(NOW + 2))
    assert await opened.store.read(lambda tx: tx.waiting_hosts.by_name("default", "web1")) is None


async def test_what_an_agent_said_last_is_kept(opened: Opened):
    web1, web2 = host("web1"), host("web2")

    def hosts(tx: Tx) -> None:
        tx.hosts.add(web1)
        tx.hosts.add(web2)

    await opened.store.write(hosts)
    bare = HostState(web1.id, "default", "node", NOW, NOW)
    said = HostState(
        host_id=web2.id,
        realm="default",
        node="node",
        connected_at=NOW,
        seen_at=NOW,
        agent="0.1.0",
        bundle=(1, 40, NOW),
        bundle_at=NOW,
        trust=(1, 3),
        trust_at=NOW,
        krl="ab" * 32,
        host_ca="SHA256:" + "a" * 43,
        host_ca_at=NOW,
        clock_off=-61_000_000,
        problems=(Problem("clock", "61 s behind"),),
    )
    await opened.store.write(lambda tx: tx.host_states.put([bare, said]))
    assert await opened.store.read(lambda tx: tx.host_states.by_host(web1.id)) == bare
    newer = replace(bare, bundle=(1, 41, NOW), bundle_at=NOW)
    await opened.store.write(lambda tx: tx.host_states.put([newer]))
    found = await opened.store.read(lambda tx: {each.host_id: each for each in tx.host_states.all("default")})
    assert found == {web1.id: newer, web2.id: said}
    assert await opened.store.read(lambda tx: tx.host_states.all("other")) == []


async def test_who_is_connected_to_another_node_is_not_gone(opened: Opened):
    web1 = host("web1")
    state = HostState(web1.id, "default", "node", NOW, NOW)

    def job(tx: Tx) -> None:
        tx.hosts.add(web1)
        tx.host_states.put([state])
        tx.host_states.gone([web1.id], "other", NOW + 9)
        tx.host_states.none_connected("other")
        tx.host_states.seen("other", NOW + 9)

    await opened.store.write(job)
    assert await opened.store.read(lambda tx: tx.host_states.by_host(web1.id)) == state
    await opened.store.write(lambda tx: tx.host_states.seen("node", NOW + 5))
    await opened.store.write(lambda tx: tx.host_states.gone([web1.id], "node", NOW + 9))
    found = await opened.store.read(lambda tx: tx.host_states.by_host(web1.id))
    assert found == replace(state, connected_at=None, seen_at=NOW + 9)


async def test_what_one_node_heard_later_is_not_undone_by_the_other(opened: Opened):
    web1 = host("web1")
    late = HostState(web1.id, "default", "one", NOW, NOW, bundle=(0, 9, NOW), bundle_at=NOW, trust=(0, 4), trust_at=NOW)
    late = replace(late, host_ca="SHA256:new", host_ca_at=NOW)
    early = replace(late, node="two", bundle=(0, 8, NOW), trust=(0, 3), seen_at=NOW + 1)
    early = replace(early, host_ca="SHA256:old", host_ca_at=NOW - 1)

    def job(tx: Tx) -> None:
        tx.hosts.add(web1)
        tx.host_states.put([late])
        tx.host_states.put([early])

    await opened.store.write(job)
    found = await opened.store.read(lambda tx: tx.host_states.by_host(web1.id))
    assert found == replace(early, bundle=late.bundle, trust=late.trust, host_ca="SHA256:new", host_ca_at=NOW)
    lost = replace(early, node="one", bundle=None, bundle_at=None, trust=None, trust_at=None)
    lost = replace(lost, host_ca="", host_ca_at=None)
    await opened.store.write(lambda tx: tx.host_states.put([lost]))
    assert await opened.store.read(lambda tx: tx.host_states.by_host(web1.id)) == lost


async def test_labels_change_and_the_host_stays(opened: Opened):
    web1 = host("web1")

    def job(tx: Tx) -> None:
        tx.hosts.add(web1)
        tx.hosts.set_labels(web1.id, {"env": "dev"})

    await opened.store.write(job)
    found = await opened.store.read(lambda tx: tx.hosts.by_id(web1.id))
    assert found
    assert (found.id, dict(found.labels)) == (web1.id, {"env": "dev"})
    await opened.store.write(lambda tx: tx.hosts.remove(web1.id, NOW))
    assert await opened.store.read(lambda tx: tx.hosts.by_id(web1.id)) is None


async def test_ended_grants_are_found_by_host(opened: Opened):
    ann = person("ann")
    grants = [replace(GRANT, id=an_id(), holder=replace(GRANT.holder, person_id=ann.id, name="ann")) for _ in range(3)]

    def job(tx: Tx) -> None:
        add(tx, ann)
        for n, grant in enumerate(grants):
            tx.grants.add(grant)
            if n:
                tx.grants.end(grant.id, NOW + n, "done")

    await opened.store.write(job)
    found = await opened.store.read(lambda tx: tx.grants.ended_since(NOW + 1, NOW + 1))
    assert set(found) == {("default", target.host, grants[2].id) for target in GRANT.targets}
    assert len(await opened.store.read(lambda tx: tx.grants.ended_since(NOW, NOW))) == 4


@pytest.mark.parametrize("act", ["add", "set_phase"])
async def test_what_hosts_trust_has_a_counter_that_moves_with_it(opened: Opened, act: str):
    ca = authority()
    if act == "set_phase":
        await opened.store.write(lambda tx: tx.authorities.add(ca, NOW, 1))
    before = await opened.store.read(lambda tx: (tx.trust(), tx.epoch()))

    def job(tx: Tx) -> None:
        if act == "add":
            tx.authorities.add(ca, NOW, 1)
        else:
            tx.authorities.set_phase(ca.id, Phase.RETIRED)

    await opened.store.write(job)
    assert await opened.store.read(lambda tx: (tx.trust(), tx.epoch())) == (before[0] + 1, before[1] + 1)
