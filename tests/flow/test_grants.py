"""Grants and the certificates under them: never wider, never longer, never for somebody else; and never in the way."""

from typing import Any

import pytest
from tests.client import Answer
from tests.world import OPERATOR, ROLES, Visitor, World, sql

from jitgate.core.clock import HOUR, MINUTE, SECOND, rfc3339
from jitgate.flow.hosts import add_host, remove_host
from jitgate.flow.ports import Tx
from jitgate.ssh.cert import CertificateBody, parse_certificate_line
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases

SHORT = ROLES.replace(b"grant: 1h", b"grant: 10m").replace(b"certificate: 15m", b"certificate: 5m")
FROM_HERE = ROLES + b"options: {source_address: [client]}\n"
NEVER = b"role: never\neffect: deny\nwho: {users: [alice]}\nwhat: {hosts: [web1]}\n"


def body(answer: Answer) -> CertificateBody:
    assert answer.status == 201, answer
    return parse_certificate_line(answer.json["certificate"]).body


async def change_groups(world: World, name: str, *groups: str) -> None:
    person = await world.person(name)

    def job(tx: Any) -> None:
        sql(tx, "DELETE FROM person_group WHERE person_id = :id", id=person.id)
        for group in groups:
            insert = "INSERT INTO person_group (person_id, name, realm_id) VALUES (:id, :name, 'default')"
            sql(tx, insert, id=person.id, name=group)
        tx.move_epoch()  # as every act that changes what somebody is does

    await world.store.write(job)


async def test_a_certificate_says_what_its_grant_says_and_no_more(world: World):
    alice = await world.enter("alice")
    grant = await alice.grant(reason="ticket 7")
    answer = await alice.certificate()
    said = body(answer)
    now = world.clock() // SECOND
    assert said.key == alice.signer.key.public
    assert said.principals == ("ubuntu@host:web1",)
    assert (said.valid_after, said.valid_before) == (now - 60, now + 15 * 60)
    assert said.key_id == f"jitgate grant={grant} person=alice"
    assert (said.critical_options, said.extensions) == ((), (("permit-pty", ""),))
    assert answer.json["host"]["alias"] == "web1.default.jitgate"
    (event,) = await world.events("certificate.issued", after=await world.size() - 1)
    assert (event["serial"], event["key_id"], event["grant"]) == (str(said.serial), said.key_id, grant)
    assert (event["target"], event["source"]) == ("ubuntu@host:web1", "192.0.2.7")
    assert event["detail"]["fingerprint"] == said.key.fingerprint
    assert event["detail"]["role"] == "web"


async def test_the_certificate_is_for_the_key_that_signed_the_request(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    second = await world.enter("alice")
    second.granted = alice.granted
    assert body(await second.certificate()).key == second.signer.key.public


async def test_a_key_that_is_listed_as_compromised_is_taken_nowhere(world: World):
    """Not by a sign-in, not as a further key; and one that was listed later, once it was registered, not certified."""
    alice, leaked = await world.enter("alice"), generate_ed25519()
    await alice.grant()
    before = await world.size()
    world.change(refused_keys=frozenset({alice.signer.key.public.fingerprint, leaked.public.fingerprint}))
    stranger = world.stranger()
    stranger.signer.key = leaked
    for answer in (
        await alice.certificate(),
        await alice.post("/v1/keys", {"key": leaked.public.line()}, new_key=leaked),
        await stranger.sign_in("bob"),
    ):
        assert (answer.status, answer.code) == (400, "unsafe"), answer
    kinds = [event["type"] for event in await world.events(after=before)]
    assert not {"certificate.issued", "key.registered", "sign_in.succeeded"} & set(kinds)


async def test_a_certificate_ends_with_its_grant(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    world.clock.advance(HOUR - 5 * MINUTE)
    assert body(await alice.certificate()).valid_before == (world.clock() + 5 * MINUTE) // SECOND
    world.clock.advance(5 * MINUTE - 1)
    assert body(await alice.certificate()).valid_before == (world.clock() + 1) // SECOND
    world.clock.advance(1)
    answer = await alice.certificate()
    assert (answer.status, answer.code) == (409, "conflict")
    assert (await alice.get("/v1/grants")).json["grants"] == []
    assert [each["state"] for each in (await alice.get("/v1/grants?all=1")).json["grants"]] == ["expired"]


async def test_an_ended_grant_gives_nothing_and_says_what_is_still_out(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    first, second = body(await alice.certificate()), body(await alice.certificate())
    ended = await alice.post(f"/v1/grants/{alice.granted}/end", {"reason": "done"})
    assert ended.status == 200
    until = rfc3339(first.valid_before * SECOND)
    assert ended.json["certificates"] == [
        {"serial": str(first.serial), "valid_before": until},
        {"serial": str(second.serial), "valid_before": until},
    ]
    assert (await alice.certificate()).code == "conflict"
    assert (await alice.post(f"/v1/grants/{alice.granted}/end")).code == "conflict"
    (event,) = await world.events("grant.ended")
    assert (event["reason"], event["detail"], event["actor"]["name"]) == ("done", {"why": "by its person"}, "alice")


async def test_somebody_elses_grant_does_not_exist(world: World):
    alice, bob = await world.enter("alice"), await world.enter("bob")
    await alice.grant()
    bob.granted = alice.granted
    unknown = await bob.certificate(grant="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    theirs = await bob.certificate()
    assert (theirs.status, unknown.status) == (404, 404)
    assert theirs.json["detail"].replace(alice.granted, "") == unknown.json["detail"].replace(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV", ""
    )
    assert (await bob.post(f"/v1/grants/{alice.granted}/end")).status == 404
    assert not await world.events("grant.ended")


@pytest.mark.parametrize("host", ["web2", "db1", "web1.default.jitgate", "WEB1", "web1,web2", "*", "", "web1\n"])
async def test_a_grant_opens_its_own_host_only(world: World, host: str):
    alice = await world.enter("alice")
    await alice.grant()
    answer = await alice.certificate(host)
    assert answer.status == 404
    refused = (await world.events("certificate.refused"))[-1]
    assert (refused["grant"], refused["target"]) == (alice.granted, "")


# --- renewal ---


async def test_renewal_follows_the_policy_of_today(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    await world.apply(SHORT)
    assert body(await alice.certificate()).valid_before == (world.clock() + 5 * MINUTE) // SECOND
    world.clock.advance(8 * MINUTE)
    assert body(await alice.certificate()).valid_before == (world.clock() + 2 * MINUTE) // SECOND
    world.clock.advance(2 * MINUTE)
    assert (await alice.certificate()).status == 403


async def test_renewal_never_gives_more_than_the_grant(world: World):
    await world.apply(SHORT)
    alice = await world.enter("alice")
    await alice.grant()
    await world.apply(ROLES.replace(b"[permit-pty]", b"[permit-pty, permit-agent-forwarding]"))
    said = body(await alice.certificate())
    assert said.valid_before == (world.clock() + 5 * MINUTE) // SECOND
    assert said.extensions == (("permit-pty", ""),)
    world.clock.advance(10 * MINUTE)
    assert (await alice.certificate()).status == 409


@pytest.mark.parametrize(
    ("roles", "code"),
    [
        ((ROLES.replace(b"role: web", b"role: other"),), "no_role"),
        ((ROLES.replace(b"engineers", b"dba"),), "no_role"),
        ((ROLES.replace(b"[web1, web2]", b"[web2]"),), "no_role"),
        ((ROLES.replace(b"[ubuntu]", b"[deploy]"),), "login_refused"),
        ((ROLES + b"approval: {groups: [leads]}\n",), "not_available"),
        ((FROM_HERE,), "denied"),
        ((ROLES, NEVER), "denied_by_rule"),
    ],
    ids=["role gone", "another group", "another host", "another login", "approval needed", "other options", "denied"],
)
async def test_renewal_is_refused_when_the_policy_says_so_now(world: World, roles: tuple[bytes, ...], code: str):
    alice = await world.enter("alice")
    await alice.grant()
    assert (await alice.certificate()).status == 201
    await world.apply(*roles)
    answer = await alice.certificate()
    assert (answer.status, answer.json["code"]) == (403, code)
    (event,) = await world.events("certificate.refused")
    assert (event["actor"]["name"], event["grant"], event["detail"]["code"]) == ("alice", alice.granted, code)
    assert event["checks"] == answer.json.get("checks", [])


async def test_renewal_is_refused_to_who_left_the_group(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    await change_groups(world, "alice", "dba")
    assert (await alice.certificate()).status == 403
    await change_groups(world, "alice", "engineers")
    assert (await alice.certificate()).status == 201


async def test_a_host_of_the_same_name_is_another_host(world: World):
    """The grant names the host by its name: whoever makes a name known again gives it to those who had it."""
    alice = await world.enter("alice")
    await alice.grant()
    await remove_host(world.outside, OPERATOR, "web1")
    assert (await alice.certificate()).status == 404
    line = generate_ed25519().public.line()
    more: dict[str, Any] = {"address": "web1.internal", "port": 22, "labels": {}, "host_key_line": line}
    await add_host(world.outside, OPERATOR, name="web1", logins=["deploy"], **more)
    assert (await alice.certificate()).status == 403  # which has no such login any more


# --- asking again ---


async def test_asking_again_gives_the_same_grant(world: World):
    alice = await world.enter("alice")
    first = await alice.post("/v1/grants", {"host": "web1"})
    again = await alice.post("/v1/grants", {"host": "web1", "login": "ubuntu"})
    assert (first.status, again.status) == (201, 200)
    assert first.json["grant"]["id"] == again.json["grant"]["id"]
    other_host = await alice.post("/v1/grants", {"host": "web2"})
    other_time = await alice.post("/v1/grants", {"host": "web1", "minutes": 5})
    bob = await (await world.enter("bob")).post("/v1/grants", {"host": "web1"})
    assert len({answer.json["grant"]["id"] for answer in (first, other_host, other_time, bob)}) == 4
    await alice.post(f"/v1/grants/{first.json['grant']['id']}/end")
    await alice.post(f"/v1/grants/{other_time.json['grant']['id']}/end")
    assert (await alice.post("/v1/grants", {"host": "web1"})).status == 201


async def test_asking_again_helps_where_the_running_grant_does_not(world: World):
    """The error says "ask for a new grant", so asking has to give one: here the address changed."""
    await world.apply(FROM_HERE)
    home, cafe = await world.enter("alice"), await world.enter("alice", "198.51.100.9")
    first = await home.grant()
    cafe.granted = first
    assert (await cafe.certificate()).status == 403
    assert await cafe.grant() != first
    said = body(await cafe.certificate())
    assert said.critical_options == (("source-address", "198.51.100.9/32"),)
    assert await home.grant() == first  # which still is the one for home


async def test_asking_again_helps_when_the_role_became_shorter(world: World):
    alice = await world.enter("alice")
    first = await alice.grant()
    world.clock.advance(20 * MINUTE)
    await world.apply(SHORT)
    assert (await alice.certificate()).status == 403
    assert await alice.grant() != first
    assert body(await alice.certificate()).valid_before == (world.clock() + 5 * MINUTE) // SECOND


async def test_minutes_narrow_and_never_widen(world: World):
    alice = await world.enter("alice")
    five = await alice.post("/v1/grants", {"host": "web1", "minutes": 5})
    assert five.json["grant"]["ends_at"] == rfc3339(world.clock() + 5 * MINUTE)
    assert (
        body(await alice.certificate(grant=five.json["grant"]["id"])).valid_before
        == (world.clock() + 5 * MINUTE) // SECOND
    )
    longer = await alice.post("/v1/grants", {"host": "web1", "minutes": 61})
    assert (longer.status, longer.code) == (403, "too_long")
    for minutes in (0, -1, 10**30, True, 5.5, "5", [5]):
        assert (await alice.post("/v1/grants", {"host": "web1", "minutes": minutes})).status == 400


async def test_a_role_that_is_named_narrows_too(world: World):
    both = b"---".join([ROLES, ROLES.replace(b"role: web", b"role: short").replace(b"1h", b"15m")])
    await world.apply(both)
    alice = await world.enter("alice")
    answer = await alice.post("/v1/grants", {"host": "web1", "role": "short"})
    assert answer.json["grant"]["role"] == "short"
    assert (await alice.post("/v1/grants", {"host": "web1", "role": "never"})).status == 403


@pytest.mark.parametrize(
    "ask",
    [
        {"host": "web1\n"},
        {"host": "web1,web2"},
        {"host": "*"},
        {"host": ""},
        {"host": "web1", "login": "root,ubuntu"},
        {"host": "web1", "login": "ubuntu@host:web2"},
        {"host": "web1", "login": ""},
        {"host": "web1", "role": "we*"},
        {"host": "web1", "reason": "line\nbreak"},
        {"host": "web1", "reason": "right\u202eto left"},
        {"host": "web1", "reason": "x" * 501},
        {"host": "web1", "reason": "\ud800"},
        {"host": "web1", "principals": ["root"]},
        {"host": "web1", "extensions": ["permit-x11"]},
        {"host": ["web1"]},
        {"host": None},
        {},
        [],
        "web1",
        None,
    ],
    ids=repr,
)
async def test_an_ask_that_is_none_opens_nothing(world: World, ask: object):
    alice = await world.enter("alice")
    answer = await alice.post("/v1/grants", b"null" if ask is None else ask)
    assert (answer.status, answer.code) == (400, "bad_input")
    assert not await world.events("grant.opened")


async def test_nobody_without_a_role_gets_in_however_they_ask(world: World):
    carol, olga = await world.enter("carol"), await world.enter("olga")
    for visitor in (carol, olga):  # an admin has no more access than a role gives
        for ask in ({}, {"login": "ubuntu"}, {"role": "web"}, {"host": "db1"}):
            answer = await visitor.post("/v1/grants", {"host": "web1"} | ask)
            assert answer.status == 403, answer
    alice = await world.enter("alice")
    for ask in ({"host": "web1", "login": "deploy"}, {"host": "web1", "login": "root"}, {"host": "db1"}):
        assert (await alice.post("/v1/grants", ask)).status == 403
    assert not await world.events("grant.opened")


async def test_without_a_policy_nothing_opens(world: World):
    alice = await world.enter("alice")
    await alice.grant()

    def job(tx: Tx) -> None:
        sql(tx, "DELETE FROM policy")

    await world.store.write(job)
    answer = await alice.post("/v1/grants", {"host": "web1"})
    assert (answer.status, answer.code) == (403, "no_policy")
    assert (await alice.certificate()).status == 403
    assert (await alice.get("/v1/explain?host=web1")).json["decision"] == "deny"
    assert (await alice.get("/v1/hosts")).json["hosts"] == []


async def test_a_bundle_that_does_not_load_leaves_the_old_one(world: World):
    alice = await world.enter("alice")
    for bad in (b"role: [", b"role: x\neffect: allow\n", b"", ROLES + b"unknown: 1\n"):
        with pytest.raises(Exception, match=r"."):
            await world.apply(ROLES, bad)
    assert (await alice.post("/v1/grants", {"host": "web1"})).status == 201


async def listed(visitor: Visitor, query: str) -> list[str]:
    answer = await visitor.get(f"/v1/grants{query}")
    assert answer.status == 200, answer
    return [grant["person"] for grant in answer.json["grants"]]


async def test_grants_of_others_are_for_admins(world: World):
    alice, bob, olga = await world.enter("alice"), await world.enter("bob"), await world.enter("olga")
    await alice.grant()
    await bob.grant()
    assert await listed(alice, "") == await listed(alice, "?all=1") == ["alice"]
    assert (await alice.get("/v1/grants?everybody=1")).status == 403
    assert (await alice.get("/v1/grants?all=1&everybody=1")).status == 403
    assert await listed(olga, "") == []
    assert sorted(await listed(olga, "?everybody=1")) == ["alice", "bob"]
    ended = await olga.post(f"/v1/grants/{alice.granted}/end", {"reason": "left"})
    assert ended.status == 200
    (event,) = await world.events("grant.ended")
    assert (event["actor"]["name"], event["subject"]["name"]) == ("olga", "alice")
    assert (event["detail"]["why"], event["reason"]) == ("by an admin", "left")
    assert (await alice.certificate()).status == 409
    assert (await olga.certificate(grant=bob.granted)).status == 404  # an admin ends, and gets nothing by it
