"""Every act leaves the entries it should and no others; what only looks leaves none; a flood leaves two."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.flow.test_grants import NEVER
from tests.world import HOME, OPERATOR, ROLES, SEED, Visitor, World

from jitgate.audit.events import EventType
from jitgate.audit.log import EMPTY
from jitgate.core.clock import MINUTE, SECOND
from jitgate.core.errors import Error
from jitgate.flow.authorities import list_held_keys
from jitgate.flow.hosts import add_host, remove_host
from jitgate.flow.people import add_person, disable_person, enable_person
from jitgate.flow.ports import Tx
from jitgate.identity.totp import STEP
from jitgate.policy.bundle import load_files
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases

Act = Callable[[World, Visitor], Coroutine[Any, Any, object]]
NOBODYS = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def sign_in(world: World, _alice: Visitor) -> object:
    return await world.stranger().sign_in("alice")


async def sign_in_with_a_known_key(_world: World, alice: Visitor) -> object:
    return await alice.sign_in("alice")


async def sign_in_wrongly(world: World, _alice: Visitor) -> object:
    return await world.stranger().sign_in("alice", "wrong")


async def sign_in_without_a_proof(world: World, _alice: Visitor) -> object:
    return await world.stranger().sign_in("alice", subject="bob")


async def sign_in_with_anothers_key(world: World, _alice: Visitor) -> object:
    thief = world.stranger()
    thief.signer.key = (await world.enter("bob")).signer.key
    return await thief.sign_in("alice")


async def sign_out(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/sign-out")


async def add_key(_world: World, alice: Visitor) -> object:
    new = generate_ed25519()
    return await alice.post("/v1/keys", {"key": new.public.line("new")}, new_key=new)


async def add_key_that_did_not_sign(_world: World, alice: Visitor) -> object:
    line = generate_ed25519().public.line("new")
    return await alice.post("/v1/keys", {"key": line}, new_key=generate_ed25519())


async def add_anothers_key(world: World, alice: Visitor) -> object:
    bob = await world.enter("bob")
    return await alice.post("/v1/keys", {"key": bob.signer.key.public.line("bob")}, new_key=bob.signer.key)


async def add_text_as_a_key(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/keys", {"key": "hello"}, new_key=generate_ed25519())


async def remove_key(_world: World, alice: Visitor) -> object:
    (key,) = (await alice.get("/v1/keys")).json["keys"]
    return await alice.delete(f"/v1/keys/{key['id']}")


async def remove_anothers_key(world: World, alice: Visitor) -> object:
    (key,) = (await (await world.enter("bob")).get("/v1/keys")).json["keys"]
    return await alice.delete(f"/v1/keys/{key['id']}")


async def open_grant(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/grants", {"host": "web2", "reason": "ticket 7"})


async def ask_for_a_host_of_no_role(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/grants", {"host": "db1", "reason": "ticket 7"})


async def ask_for_a_host_of_nobody(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/grants", {"host": "nothing"})


async def ask_while_denied(world: World, alice: Visitor) -> object:
    await world.apply(ROLES, NEVER)
    return await alice.post("/v1/grants", {"host": "web1", "login": "ubuntu"})


async def end_grant(_world: World, alice: Visitor) -> object:
    return await alice.post(f"/v1/grants/{alice.granted}/end")


async def end_anothers_grant(world: World, alice: Visitor) -> object:
    return await (await world.enter("bob")).post(f"/v1/grants/{alice.granted}/end")


async def certificate(_world: World, alice: Visitor) -> object:
    return await alice.certificate()


async def certificate_of_no_grant(_world: World, alice: Visitor) -> object:
    return await alice.certificate(grant=NOBODYS)


async def certificate_after_the_grant(world: World, alice: Visitor) -> object:
    world.clock.advance(61 * MINUTE)
    return await alice.certificate()


async def unproved(_world: World, alice: Visitor) -> object:
    return await alice.certificate(headers={"jitgate-proof": ""})


async def person(world: World, _alice: Visitor) -> object:
    return await add_person(world.outside, OPERATOR, "dave", groups=["engineers"], admin=True)


async def disable(world: World, _alice: Visitor) -> object:
    return await disable_person(world.outside, OPERATOR, "alice")


async def enable(world: World, alice: Visitor) -> object:
    await disable(world, alice)
    return await enable_person(world.outside, OPERATOR, "alice")


async def host(world: World, _alice: Visitor) -> object:
    line = generate_ed25519().public.line()
    more: dict[str, Any] = {"address": "web9.internal", "port": 22, "labels": {"a": "b"}, "host_key_line": line}
    return await add_host(world.outside, OPERATOR, name="web9", logins=["ubuntu"], **more)


async def forget_host(world: World, _alice: Visitor) -> object:
    return await remove_host(world.outside, OPERATOR, "web2")


async def policy(world: World, _alice: Visitor) -> object:
    return await world.apply(ROLES, NEVER)


async def list_keys_again(world: World, _alice: Visitor) -> None:
    await list_held_keys(world.outside, OPERATOR)


async def look(_world: World, alice: Visitor) -> object:
    for path in ("/v1/me", "/v1/keys", "/v1/hosts", "/v1/grants?all=1", "/v1/audit", "/v1/explain?host=db1", "/readyz"):
        assert (await alice.get(path)).status == 200
    for path in ("/v1/explain?host=nothing", "/v1/grants?everybody=1", "/v1/audit?person=" + NOBODYS, "/v1/none"):
        assert (await alice.get(path)).status in (403, 404)
    return (await alice.post("/v1/grants", {"host": "web1"})).status == 200  # the one that runs already


async def fail(world: World, alice: Visitor) -> object:
    """What is malformed decides nothing."""
    for body in (b"{", b"[]", b'{"host": 1}'):
        assert (await alice.post("/v1/grants", body)).status == 400
    for name in ("alice", "Bad Name"):
        with pytest.raises(Error):
            await add_person(world.outside, OPERATOR, name)
    return None


PERSONS = [
    (sign_in, ["key.registered", "sign_in.succeeded"]),
    (sign_in_with_a_known_key, ["sign_in.succeeded"]),
    (sign_in_wrongly, ["sign_in.refused wrong_password"]),
    (sign_in_without_a_proof, ["sign_in.refused bad_proof"]),
    (sign_in_with_anothers_key, ["sign_in.refused conflict"]),
    (sign_out, ["sign_in.ended"]),
    (add_key, ["key.registered"]),
    (add_key_that_did_not_sign, ["key.refused bad_input"]),
    (add_anothers_key, ["key.refused conflict"]),
    (add_text_as_a_key, ["key.refused bad_input"]),
    (remove_key, ["key.removed"]),
    (remove_anothers_key, ["request.refused not_found"]),
    (open_grant, ["grant.opened"]),
    (ask_for_a_host_of_no_role, ["grant.refused no_role"]),
    (ask_for_a_host_of_nobody, ["grant.refused not_found"]),
    (ask_while_denied, ["policy.applied", "grant.refused denied_by_rule"]),
    (end_grant, ["grant.ended"]),
    (end_anothers_grant, ["request.refused not_found"]),
    (certificate, ["certificate.issued"]),
    (certificate_of_no_grant, ["certificate.refused not_found"]),
    (certificate_after_the_grant, ["certificate.refused conflict"]),
    (unproved, ["request.refused bad_proof"]),
    (look, []),
    (fail, []),
]
OPERATORS = [
    (person, ["person.added"]),
    (disable, ["person.disabled", "grant.ended"]),
    (enable, ["person.disabled", "grant.ended", "person.enabled"]),
    (host, ["host.added", "certificate.issued"]),
    (forget_host, ["host.removed"]),
    (policy, ["policy.applied"]),
    (list_keys_again, []),
]


async def left_by(world: World, act: Act) -> list[dict[str, Any]]:
    alice = await world.enter("alice")
    await alice.grant()
    world.clock.advance(STEP)
    before = await world.size()
    await act(world, alice)
    return await world.events(after=before)


def words(event: dict[str, Any]) -> str:
    return f"{event['type']} {event['detail']['code']}" if event["outcome"] == "refused" else str(event["type"])


@pytest.mark.parametrize(("act", "expected"), PERSONS, ids=[act.__name__ for act, _ in PERSONS])
async def test_what_a_person_does_is_in_the_log(world: World, act: Act, expected: list[str]):
    events = await left_by(world, act)
    assert [words(event) for event in events] == expected
    for event in events:
        assert event["time"]
        if event["actor"]["kind"] == "operator":
            continue
        assert event["source"] == HOME
        if event["type"] != "sign_in.refused":
            assert event["actor"]["kind"] == "person"
            assert event["actor"]["name"] in ("alice", "bob")
        if event["type"].startswith(("grant", "certificate")) and "not_found" not in words(event):
            assert event["target"].endswith(("host:web1", "host:web2", "host:db1"))


@pytest.mark.parametrize(("act", "expected"), OPERATORS, ids=[act.__name__ for act, _ in OPERATORS])
async def test_what_an_operator_does_is_in_the_log(world: World, act: Act, expected: list[str]):
    events = await left_by(world, act)
    assert [words(event) for event in events] == expected
    assert all(event["actor"] == {"kind": "operator", "id": "", "name": "ops"} for event in events)


async def test_the_reason_of_a_grant_is_in_the_log_whatever_is_decided(world: World):
    for name, kind in (("alice", "grant.opened"), ("carol", "grant.refused")):
        await (await world.enter(name)).post("/v1/grants", {"host": "web1", "reason": "ticket 7"})
        (event,) = await world.events(kind)
        assert (event["actor"]["name"], event["reason"]) == (name, "ticket 7")
        assert event["checks"]


async def test_no_secret_is_in_the_log(world: World):
    alice = world.stranger()
    await alice.sign_in("alice")
    made = await add_person(world.outside, OPERATOR, "dave")
    await world.stranger("198.51.100.1").sign_in("hunter2-typed-as-a-name", "hunter2")

    def job(tx: Any) -> str:
        rows = tx.connection.exec_driver_sql("SELECT leaf, personal FROM event").all()
        return "\n".join(f"{row.leaf.decode()}{row.personal}" for row in rows)

    text = await world.store.read(job)
    secrets = [alice.signer.token, made.password.reveal(), made.seed.reveal().hex(), SEED.reveal().hex()]
    for secret in (*secrets, made.uri.reveal(), "hunter2", "Correct-Horse", world.code()):
        assert secret not in text


# --- floods ---


async def flush(world: World) -> None:
    """What the service's timer does."""

    def job(tx: Tx) -> None:
        for event in world.outside.floods.take_due(world.clock()):
            tx.log.append(event)

    await world.store.write(job)


async def test_a_flood_of_refusals_is_two_entries(world: World):
    stranger, before = world.stranger(), await world.size()
    for _ in range(1000):
        await stranger.sign_in("alice", subject="bob")
    await flush(world)
    assert len(await world.events(after=before)) == 1
    world.clock.advance(MINUTE)
    await flush(world)
    first, flood = await world.events(after=before)
    assert (first["type"], flood["type"]) == ("sign_in.refused", "sign_in.flood")
    assert (flood["source"], flood["detail"]["count"]) == (HOME, 999)
    await flush(world)
    assert len(await world.events(after=before)) == 2


async def test_floods_are_counted_for_each_address_and_begin_anew(world: World):
    addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    networks = [*addresses[:2], "2001:db8::/64"]
    before = await world.size()
    for _ in range(3):
        for address in addresses:
            await world.stranger(address).sign_in("alice", subject="bob")
    world.clock.advance(MINUTE)
    await flush(world)
    await world.stranger(addresses[0]).sign_in("alice", subject="bob")
    events = await world.events(after=before)
    assert [(event["type"], event["source"]) for event in events[:3]] == [("sign_in.refused", a) for a in addresses]
    assert [(event["source"], event["detail"]["count"]) for event in events[3:6]] == [(a, 2) for a in networks]
    assert (events[6]["type"], events[6]["source"]) == ("sign_in.refused", addresses[0])


async def test_failed_sign_ins_do_not_hide_the_use_of_a_stolen_token(world: World):
    alice = await world.enter("alice")
    for _ in range(5):
        await world.stranger().sign_in("alice", subject="bob")
    for _ in range(3):
        await alice.certificate(headers={"jitgate-proof": ""})
    assert len(await world.events("request.refused")) == 1
    world.clock.advance(MINUTE)
    await flush(world)
    floods = {event["detail"]["code"]: event["detail"]["count"] for event in await world.events("sign_in.flood")}
    assert floods == {"sign_in.refused": 4, "request.refused": 2}


async def test_one_persons_noise_does_not_hide_the_use_of_anothers_token(world: World):
    mallory, alice = await world.enter("bob"), await world.enter("alice")
    for _ in range(3):
        await mallory.certificate(headers={"jitgate-proof": ""})
    stolen = mallory.signer.call("POST", "/v1/grants", {"host": "web1"}, headers={"authorization": ""})
    stolen.headers["authorization"] = f"Bearer {alice.signer.token}"
    for _ in range(3):
        assert (await mallory.send(stolen)).code == "bad_proof"
    assert [event["actor"]["name"] for event in await world.events("request.refused")] == ["bob", "alice"]
    world.clock.advance(MINUTE)
    await flush(world)
    floods = await world.events("sign_in.flood")
    assert [(event["actor"]["name"], event["detail"]["count"]) for event in floods] == [("bob", 2), ("alice", 2)]


async def test_all_addresses_of_one_ipv6_customer_are_counted_together(world: World):
    before = await world.size()
    for at in range(1, 51):
        await world.stranger(f"2001:db8::{at:x}").sign_in("alice", subject="bob")
    world.clock.advance(MINUTE)
    await flush(world)
    first, flood = await world.events(after=before)
    assert (first["source"], flood["source"], flood["detail"]["count"]) == ("2001:db8::1", "2001:db8::/64", 49)


async def test_a_flood_from_everywhere_does_not_fill_the_memory(world: World):
    floods = world.outside.floods
    firsts = 0
    for at in range(20_000):
        firsts += floods.is_first(f"10.{at >> 8 & 255}.{at & 255}.9", EventType.SIGN_IN_REFUSED, world.clock())
    assert firsts <= 10_001
    assert len(floods._counts) <= 10_001
    world.clock.advance(MINUTE + SECOND)
    (event,) = floods.take_due(world.clock())
    assert (event.source, dict(event.detail)["count"]) == ("10.0.0.0/8", 9_999)


async def test_decisions_at_the_same_time_have_each_its_entry(world: World):
    visitors = [await world.enter(name) for name in ("alice", "bob", "carol") for _ in range(5)]
    before = await world.size()
    ask = {"host": "web1", "minutes": 5}
    answers = await asyncio.gather(*(visitor.post("/v1/grants", ask) for visitor in visitors))
    events = await world.events(after=before)
    assert [event["index"] for event in events] == list(range(before + 1, before + 16))
    opened = {answer.json["grant"]["id"] for answer in answers if answer.status == 201}
    assert {event["grant"] for event in events if event["type"] == "grant.opened"} == opened
    assert (len(opened), len(events)) == (10, 15)
    frontier = await world.store.read(lambda tx: tx.log.frontier())
    assert frontier.size == before + 16
    assert frontier != EMPTY


async def test_a_role_file_event_names_what_changed(world: World):
    await world.apply(ROLES, NEVER)
    before = load_files({"0.yaml": ROLES, "1.yaml": NEVER}).digest
    await world.apply(ROLES.replace(b"15m", b"10m"))
    event = (await world.events("policy.applied"))[-1]
    detail = event["detail"]
    assert (detail["previous"], detail["changed"], detail["removed"], detail["removed_deny"]) == (
        before,
        "web",
        "never",
        "never",
    )
