"""Hosts join by a token, by their key, and by their owner's word; and strangers do not."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.hosts import NewHost, checked
from tests.unit.ca.samples import public
from tests.world import Visitor, World

from jitgate.core.clock import HOUR, MINUTE
from jitgate.core.secret import Secret
from jitgate.hosts.joining import JoinToken, read_token
from jitgate.sessions.path import AgentGateway, AgentWay
from jitgate.ssh.private import generate_ed25519

WAY = AgentWay("https://jit.example.com", "", (AgentGateway("jit.example.com", 443, "jit.example.com"),))


@pytest.fixture
def world(world: World) -> World:
    world.change(agents=WAY)
    return world


async def invite(admin: Visitor, name: str = "new1", **more: Any) -> JoinToken:
    answer = await admin.post("/v1/hosts/tokens", {"name": name, "logins": ["ubuntu"], **more})
    assert answer.status == 201, answer
    return read_token(answer.json["token"])


async def names(world: World) -> dict[str, str]:
    found = await world.store.read(lambda tx: tx.hosts.all())
    return {host.name: host.key.fingerprint for host in found}


async def test_a_host_joins_by_its_token_and_believes_only_what_the_root_key_vouches_for(world: World):
    token = await invite(await world.enter("olga"), labels={"env": "prod"})
    web = NewHost(world)
    answer = await web.join(token)
    assert answer.status == 201, answer
    certificate, bundle = checked(answer, token)
    assert certificate.body.key == web.key.public
    assert set(certificate.body.principals) == {"new1", "new1.default.jitgate"}
    assert bundle.host == "new1"
    told = answer.json
    assert told["host"]["address"] == web.source
    assert told["host"]["logins"] == ["ubuntu"]
    assert told["gateways"] == [{"address": "jit.example.com", "port": 443, "server_name": "jit.example.com"}]
    assert (await names(world))["new1"] == web.key.public.fingerprint
    (invited,) = await world.events("host.invited")
    assert (invited["actor"]["name"], invited["target"]) == ("olga", "host:new1")
    added = (await world.events("host.added"))[-1]
    assert added["detail"]["how"] == "token"


async def test_only_an_admin_invites_and_approves(world: World):
    alice = await world.enter("alice")
    for path, body in (
        ("/v1/hosts/tokens", {"name": "new1", "logins": ["ubuntu"]}),
        ("/v1/hosts/web1/approve", {"fingerprint": public("mine").fingerprint}),
        ("/v1/hosts/web1/labels", {"set": {"env": "prod"}}),
    ):
        assert (await alice.post(path, body)).status == 403
    assert (await alice.delete("/v1/hosts/web1")).status == 403
    assert (await alice.get("/v1/hosts/agents")).status == 403
    assert "web1" in await names(world)
    refused = await world.events("request.refused")
    assert [(each["actor"]["name"], each["detail"]["code"]) for each in refused] == [("alice", "not_admin")] * 4


async def test_a_token_is_used_once_and_a_second_host_waits_for_the_owner(world: World):
    olga = await world.enter("olga")
    token = await invite(olga)
    first, second = NewHost(world), NewHost(world)
    assert (await first.join(token)).status == 201
    answer = await second.join(token)
    assert answer.status == 202
    assert answer.json["state"] == "pending"
    assert (await names(world))["new1"] == first.key.public.fingerprint
    other = await olga.post("/v1/hosts/new1/approve", {"fingerprint": first.key.public.fingerprint})
    assert other.status == 409
    assert (await second.join(token)).status == 202
    approved = await olga.post("/v1/hosts/new1/approve", {"fingerprint": second.key.public.fingerprint})
    assert approved.status == 200, approved
    assert (await second.join(token)).status == 201
    assert (await names(world))["new1"] == second.key.public.fingerprint
    assert [e["target"] for e in await world.events("host.waiting")] == ["host:new1"]


async def test_who_was_approved_does_not_pass_it_on_to_another_key(world: World):
    olga = await world.enter("olga")
    token = await invite(olga)
    first, second, third = NewHost(world), NewHost(world), NewHost(world)
    await first.join(token)
    await second.join(token)
    assert (await third.join(token)).status == 202  # takes the place in the queue
    answer = await olga.post("/v1/hosts/new1/approve", {"fingerprint": second.key.public.fingerprint})
    assert answer.status == 409  # the owner compared another key
    assert (await second.join(token)).status == 202
    await olga.post("/v1/hosts/new1/approve", {"fingerprint": second.key.public.fingerprint})
    assert (await third.join(token)).status == 202
    assert (await names(world))["new1"] == first.key.public.fingerprint
    assert (await second.join(token)).status == 201


async def test_a_lost_answer_is_asked_for_again_by_the_same_key(world: World):
    token = await invite(await world.enter("olga"))
    web = NewHost(world)
    one, two = await web.join(token), await web.join(token)
    assert (one.status, two.status) == (201, 201)
    assert one.json["host"]["id"] == two.json["host"]["id"]
    assert len(await world.events("host.added")) == len(await names(world))


async def test_two_at_once_with_one_token_are_not_both_let_in(world: World):
    token = await invite(await world.enter("olga"))
    hosts = [NewHost(world) for _ in range(4)]
    answers = await asyncio.gather(*(each.join(token) for each in hosts))
    assert sorted(answer.status for answer in answers).count(201) == 1
    joined = next(host for host, answer in zip(hosts, answers, strict=True) if answer.status == 201)
    assert (await names(world))["new1"] == joined.key.public.fingerprint


@pytest.mark.parametrize("what", ["token", "key"])
async def test_what_is_taken_back_while_its_certificate_is_signed_lets_nobody_in(world: World, what: str):
    olga, web = await world.enter("olga"), NewHost(world)
    token = await invite(olga)

    async def meanwhile() -> None:
        if what == "token":
            await invite(olga)  # ends the one before
        else:
            order = {"what": "key", "subject": web.key.public.line()}
            assert (await olga.post("/v1/revocations", order)).status == 201

    world.signer.hook = meanwhile
    assert (await web.join(token)).status in (403, 503)
    assert "new1" not in await names(world)
    assert (await web.join(token)).status == 403


async def test_a_host_key_that_was_revoked_joins_nowhere(world: World):
    olga, web = await world.enter("olga"), NewHost(world)
    assert (await web.join(await invite(olga))).status == 201
    assert (await olga.post("/v1/revocations", {"what": "host", "subject": "new1"})).status == 201
    for name in ("new1", "new2"):
        assert (await web.join(await invite(olga, name))).status == 403
        assert name not in await names(world)
    (event,) = await world.events("host.refused")
    assert event["detail"]["code"] == "key_revoked"


@pytest.mark.parametrize("off", [6 * MINUTE, -6 * MINUTE])
async def test_a_proof_is_good_for_minutes(world: World, off: int):
    token, web = await invite(await world.enter("olga")), NewHost(world)
    body = web.body(token)
    world.clock.advance(off)
    assert (await world.stranger(web.source).post("/v1/hosts/join", body)).status == 403
    (event,) = await world.events("host.refused")
    assert event["detail"]["code"] == "clock"
    world.clock.advance(-off)
    assert (await world.stranger(web.source).post("/v1/hosts/join", body)).status == 201


async def test_a_token_with_again_takes_the_place_of_the_host_that_stands(world: World):
    olga = await world.enter("olga")
    refused = await olga.post("/v1/hosts/tokens", {"name": "web1", "logins": ["ubuntu"]})
    assert refused.status == 409
    token = await invite(olga, "web1", again=True)
    web = NewHost(world)
    assert (await web.join(token)).status == 201
    assert (await names(world))["web1"] == web.key.public.fingerprint
    assert [e["target"] for e in await world.events("host.removed")] == ["host:web1"]


async def test_a_known_host_joins_by_its_key_and_the_owners_word(world: World):
    olga = await world.enter("olga")
    installation = (await invite(olga)).installation
    web = NewHost(world)
    token = await invite(olga, "old1")
    await web.join(token)
    world.clock.advance(2 * HOUR)
    olga = await world.enter("olga")
    answer = await web.join_by_key(installation, "old1")
    assert answer.status == 202, answer
    await olga.post("/v1/hosts/old1/approve", {"fingerprint": web.key.public.fingerprint})
    assert (await web.join_by_key(installation, "old1")).status == 201
    assert (await NewHost(world).join_by_key(installation, "old1")).status == 403


async def test_an_owners_word_ends_with_the_host_that_is_taken_out(world: World):
    olga = await world.enter("olga")
    token = await invite(olga, "old1")
    web = NewHost(world)
    await web.join(token)
    assert (await web.join_by_key(token.installation, "old1")).status == 202
    await olga.post("/v1/hosts/old1/approve", {"fingerprint": web.key.public.fingerprint})
    assert (await olga.delete("/v1/hosts/old1")).status == 204
    assert (await web.join_by_key(token.installation, "old1")).status == 403
    assert (await web.join(token)).status == 202


async def test_an_owners_word_ends_after_a_week(world: World):
    olga = await world.enter("olga")
    token = await invite(olga, "old1")
    web = NewHost(world)
    await web.join(token)
    assert (await web.join_by_key(token.installation, "old1")).status == 202
    await olga.post("/v1/hosts/old1/approve", {"fingerprint": web.key.public.fingerprint})
    world.clock.advance(8 * 24 * HOUR)
    assert (await web.join_by_key(token.installation, "old1")).status == 202


async def test_whatever_is_wrong_the_answer_is_the_same_and_nothing_is_made(world: World):
    token = await invite(await world.enter("olga"))
    before = await names(world)
    web = NewHost(world)
    wrong: list[dict[str, object]] = [
        {"token": "0" * 64},
        {"token": ""},
        {"token": "é" * 60},
        {"name": "new2"},
        {"name": "web1"},
        {"name": "../etc"},
        {"realm": "other"},
        {"host_key": generate_ed25519().public.line()},
        {"host_key": "nonsense"},
        {"signature": "AAAA"},
        {"signature": "~"},
        {"time": world.clock() - 6 * MINUTE},
        {"time": world.clock() + 1},
    ]
    answers = [await web.join(token, **each) for each in wrong]
    others = replace(token, name="new2"), replace(token, name="web1"), replace(token, realm="other")
    answers += [await web.join(each) for each in others]  # a sound proof, with another host's token
    assert {answer.status for answer in answers} == {403}
    assert len({answer.json["detail"] for answer in answers}) == 1
    assert await names(world) == before
    assert len(await world.events("host.refused")) == 1  # the others are counted
    assert (await web.join(token)).status == 201


async def test_a_token_ends(world: World):
    token = await invite(await world.enter("olga"))
    world.clock.advance(HOUR)
    assert (await NewHost(world).join(token)).status == 403


async def test_a_new_token_ends_the_one_before(world: World):
    olga = await world.enter("olga")
    old, new = await invite(olga), await invite(olga)
    assert (await NewHost(world).join(old)).status == 403
    assert (await NewHost(world).join(new)).status == 201


async def test_the_database_holds_no_token(world: World):
    token = await invite(await world.enter("olga"))
    data = (world.folder / "jitgate.db").read_bytes() + (world.folder / "jitgate.db-wal").read_bytes()
    assert token.secret.reveal().encode() not in data
    assert (await NewHost(world).join(replace(token, secret=Secret("00" * 32)))).status == 403


async def test_labels_are_changed_by_an_owner(world: World):
    olga = await world.enter("olga")
    answer = await olga.post("/v1/hosts/web1/labels", {"set": {"env": "prod"}, "unset": ["tier"]})
    assert answer.status == 200, answer
    assert answer.json["host"]["labels"] == {"env": "prod"}
    assert (await world.events("host.changed"))[-1]["detail"]["labels"] == "env=prod"
    assert (await olga.post("/v1/hosts/web1/labels", {"set": {"Env": "x y"}})).status == 400
    assert (await olga.delete("/v1/hosts/web1")).status == 204
    assert "web1" not in await names(world)


async def test_hosts_are_listed_with_what_their_agents_said(world: World):
    olga = await world.enter("olga")
    token = await invite(olga)
    await NewHost(world).join(token)
    await NewHost(world).join(token)
    answer = await olga.get("/v1/hosts/agents")
    assert answer.status == 200, answer
    rows = {row["name"]: row for row in answer.json["hosts"]}
    assert rows["web1"]["agent"] is None
    assert rows["new1"]["agent"]["connected"] is False
    (waiting,) = answer.json["waiting"]
    assert (waiting["name"], waiting["how"]) == ("new1", "token")
