"""Reading the log: one's own entries and no others, whatever is asked; and waiting for the next one."""

import asyncio
from typing import Any

import pytest
from tests.world import OPERATOR, Visitor, World, sql

from jitgate.api import routes_audit
from jitgate.ca.model import SignerRefusal
from jitgate.core.clock import HOUR, SECOND
from jitgate.core.errors import Denied
from jitgate.flow import audit
from jitgate.flow.audit import publish_checkpoint
from jitgate.flow.people import disable_person

pytestmark = pytest.mark.databases

FILTERS = {
    "all": "",
    "from the beginning": "after=-1&limit=1000",
    "bob by id": "person={bob}",
    "nobody": "person=",
    "bob, then oneself": "person={bob}&person={alice}",
    "oneself, then bob": "person={alice}&person={bob}",
    "his grant": "grant={grant}",
    "his certificate": "serial={serial}",
    "the host": "host=web2",
    "every type": "type=certificate",
    "a text of his": "q=his%20reason",
    "any text": "q=%25",
    "any other text": "q=_",
    "every outcome": "outcome=allowed",
}


async def two_people(world: World) -> tuple[Visitor, dict[str, str]]:
    """Alice, and the names of what bob did."""
    alice, bob = await world.enter("alice"), await world.enter("bob")
    await alice.grant()
    await bob.grant("web2", reason="his reason")
    issued = await bob.certificate("web2")
    ids = {"bob": bob.signer.person_id, "alice": alice.signer.person_id}
    return alice, ids | {"grant": bob.granted, "serial": issued.json["serial"]}


@pytest.mark.parametrize("query", FILTERS.values(), ids=FILTERS)
async def test_other_peoples_entries_are_never_shown(world: World, query: str):
    alice, names = await two_people(world)
    answer = await alice.get("/v1/audit?" + query.format(**names))
    assert answer.status in (200, 403)
    for event in answer.json.get("events", []):
        assert names["alice"] in (event["actor"]["id"], event["subject"]["id"])
    assert b"his reason" not in answer.body
    assert names["serial"].encode() not in answer.body


async def test_an_admin_sees_all_and_finds_by_each_filter(world: World):
    _, names = await two_people(world)
    olga = await world.enter("olga")
    for query, types in {
        "grant={grant}": ["grant.opened", "certificate.issued"],
        "serial={serial}": ["certificate.issued"],
        "person={bob}&type=grant.opened": ["grant.opened"],
        "q=his+REASON": ["grant.opened"],
        "host=web2&type=certificate&outcome=allowed": ["certificate.issued", "certificate.issued"],
        "q=%25": [],
        "outcome=refused": [],
    }.items():
        answer = await olga.get("/v1/audit?" + query.format(**names))
        assert [event["type"] for event in answer.json["events"]] == types, query


async def test_what_an_admin_did_to_somebody_is_shown_to_them(world: World):
    alice, olga = await world.enter("alice"), await world.enter("olga")
    await alice.grant()
    await olga.post(f"/v1/grants/{alice.granted}/end")
    shown = (await alice.get("/v1/audit?type=grant.ended")).json["events"]
    assert [event["actor"]["name"] for event in shown] == ["olga"]


async def test_pages_follow_one_another_without_gap(world: World):
    olga = await world.enter("olga")
    for _ in range(7):
        await olga.post("/v1/grants", {"host": "db1"})
    everything = await world.events()
    seen: list[int] = []
    after: Any = -1
    while True:
        answer = (await olga.get(f"/v1/audit?after={after}&limit=3")).json
        if not answer["events"]:
            break
        seen += [event["index"] for event in answer["events"]]
        after = answer["next"]
    assert seen == [event["index"] for event in everything] == list(range(len(everything)))
    newest = (await olga.get("/v1/audit?limit=3")).json["events"]
    assert [event["index"] for event in newest] == seen[-3:]


@pytest.mark.parametrize(
    "query",
    [
        "after=x", "after=-2", "after=9" + "9" * 30, "limit=0", "limit=1001", "limit=-1", "serial=0", "serial=-1",
        "serial=9223372036854775808", "person=alice", "grant=1", "host=*", "type=nothing", "outcome=maybe", "wait=31",
        "wait=-1", "wait=x", "wait=", "q=" + "x" * 101, "q=%00", "unknown=1", "after=%C2%B2",
    ],
)  # fmt: skip
async def test_a_question_that_is_none_is_refused(world: World, query: str):
    olga = await world.enter("olga")
    answer = await olga.get("/v1/audit?" + query)
    assert (answer.status, answer.code) == (400, "bad_input")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_audit, "POLL_S", 0.001)


async def waiting(visitor: Visitor, world: World) -> "asyncio.Task[Any]":
    """Somebody who waits for the next entry, and has looked at least once."""
    person, others = visitor.signer.person_id, world.outside.waiting[visitor.signer.person_id]
    task = asyncio.create_task(visitor.get(f"/v1/audit?after={await world.size()}&wait=20"))
    while world.outside.waiting[person] == others:
        assert not task.done()
        await asyncio.sleep(0.001)
    return task


@pytest.mark.usefixtures("quick")
async def test_who_waits_gets_the_next_entry_and_only_their_own(world: World):
    alice, bob = await world.enter("alice"), await world.enter("bob")
    task = await waiting(alice, world)
    await bob.grant()
    await asyncio.sleep(0.05)
    assert not task.done()
    await alice.grant()
    answer = (await task).json
    assert [event["actor"]["name"] for event in answer["events"]] == ["alice"]
    assert answer["next"] == answer["events"][0]["index"]


@pytest.mark.usefixtures("quick")
async def test_waiting_ends_with_nothing_and_goes_on_where_it_was(world: World):
    alice = await world.enter("alice")
    newest = await world.size()
    task = await waiting(alice, world)
    world.clock.advance(20 * SECOND)
    assert (await task).json == {"events": [], "next": newest}


@pytest.mark.usefixtures("quick")
async def test_who_is_disabled_while_waiting_sees_nothing_more(world: World):
    olga = await world.enter("olga")
    task = await waiting(olga, world)
    await disable_person(world.outside, OPERATOR, "olga")
    answer = await task
    assert answer.status == 401


@pytest.mark.usefixtures("quick")
async def test_a_sign_in_that_ends_while_waiting_sees_nothing_more(world: World):
    olga = await world.enter("olga")
    world.clock.advance(8 * HOUR - SECOND)
    task = await waiting(olga, world)
    world.clock.advance(SECOND)
    answer = await task
    assert answer.status == 401


@pytest.mark.usefixtures("quick")
async def test_one_persons_questions_that_wait_are_few(world: World):
    """A token alone asks them, and each is a search four times a second."""
    alice, bob = await world.enter("alice"), await world.enter("bob")
    tasks = [await waiting(alice, world) for _ in range(audit.WAITING_MAX)]
    path = f"/v1/audit?after={await world.size()}&wait=20"
    answer = await (await world.enter("alice")).get(path)
    assert (answer.status, answer.code) == (429, "too_many")
    assert (await alice.get("/v1/audit")).status == 200  # what has its answer at once
    others = await waiting(bob, world)
    await alice.grant()
    assert [(await task).status for task in tasks] == [200] * audit.WAITING_MAX
    again = await waiting(alice, world)
    again.cancel()
    others.cancel()
    await asyncio.gather(again, others, return_exceptions=True)
    assert not world.outside.waiting


async def test_a_checkpoint_is_for_everybody_and_says_what_the_log_says(world: World):
    assert (await world.stranger().get("/v1/checkpoint")).status == 404
    text = await publish_checkpoint(world.outside)
    assert text is not None
    answer = await world.stranger().get("/v1/checkpoint")
    assert (answer.status, answer.body.decode()) == (200, text)
    assert await publish_checkpoint(world.outside) is None  # nothing new, nothing signed
    assert text.split("\n")[1] == str(await world.size() + 1)


async def test_a_log_that_lost_entries_is_not_signed_again(world: World):
    """As after an old backup was put back: the signer knows better, and its refusal is in the log."""
    before = await world.store.read(lambda tx: tx.log.frontier())
    alice = await world.enter("alice")
    await alice.grant()
    await alice.certificate()
    await publish_checkpoint(world.outside)

    def roll_back(tx: Any) -> None:
        sql(tx, 'DELETE FROM event WHERE "index" >= :size', size=before.size)
        sql(tx, "UPDATE log_state SET frontier = :frontier", frontier=before.encode())
        sql(tx, "DELETE FROM checkpoint")

    await world.store.write(roll_back)
    with pytest.raises(Denied, match="the signer does not sign the log"):
        await publish_checkpoint(world.outside)
    (event,) = await world.events("checkpoint.refused")
    assert event["detail"]["size"] == before.size
    assert (await world.stranger().get("/v1/checkpoint")).status == 404


async def test_a_log_that_the_signer_will_not_sign_does_not_outgrow_the_refusal(world: World, monkeypatch: Any):
    """A log that was rolled back is shorter than what was signed; refusing it again and again must not lengthen it."""

    async def refuse(_body: bytes) -> SignerRefusal:
        return SignerRefusal("checkpoint", "a longer log was signed before")

    monkeypatch.setattr(world.signer, "checkpoint", refuse)
    before = await world.size()
    for _ in range(5):
        with pytest.raises(Denied):
            await publish_checkpoint(world.outside)
    assert [event["type"] for event in await world.events(after=before)] == ["checkpoint.refused"]
