"""Who a person is elsewhere: linked by the person with both at hand, or by an operator; taken away at once."""

import pytest
from tests.client import Answer
from tests.corp import SALT, Corp
from tests.providers import ISSUER
from tests.world import OPERATOR, Visitor, World

from jitgate.core.errors import BadInput, Conflict, NotFound
from jitgate.flow.identities import link_identity, unlink_identity
from jitgate.flow.people import add_plain_person
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases


@pytest.fixture
def corp(world: World) -> Corp:
    return Corp(world)


async def link(visitor: Visitor, token: str) -> Answer:
    line = visitor.signer.key.public.line("a@b")
    body = {"provider": "corp", "id_token": token, "salt": SALT, "key": line}
    return await visitor.post("/v1/identities", body)


async def test_a_person_links_an_identity_and_signs_in_by_it(corp: Corp):
    bob = await corp.world.enter("bob")
    linked = await link(bob, corp.token(bob.signer, sub="u-2"))
    assert linked.status == 201, linked
    assert (linked.json["provider"], linked.json["subject"]) == ("corp", "u-2")
    (event,) = (await corp.world.events("identity.linked"))[1:]
    assert event["detail"]["how"] == "by its person"
    elsewhere = corp.world.stranger()
    answer = await corp.sign_in(elsewhere, corp.token(elsewhere.signer, sub="u-2"))
    assert answer.json["person"]["id"] == bob.signer.person_id
    listed = (await bob.get("/v1/identities")).json["identities"]
    assert {each["provider"] for each in listed} == {"local", "corp"}


async def test_an_identity_is_one_persons(corp: Corp):
    bob = await corp.world.enter("bob")
    answer = await link(bob, corp.token(bob.signer))  # u-1, who is alice
    assert (answer.status, answer.code) == (409, "conflict")
    with pytest.raises(Conflict):
        await link_identity(corp.world.outside, OPERATOR, "bob", "corp", "u-1")


async def test_a_link_needs_a_token_made_for_the_key_that_asks(corp: Corp):
    bob, thief = await corp.world.enter("bob"), corp.world.stranger()
    stolen = await link(bob, corp.token(thief.signer, sub="u-2"))
    token = corp.token(bob.signer, sub="u-2")
    line = generate_ed25519().public.line("a@b")
    other_key = await bob.post("/v1/identities", {"provider": "corp", "id_token": token, "salt": SALT, "key": line})
    assert (stolen.code, other_key.code) == ("token_nonce", "bad_proof")
    assert (await link(bob, token)).status == 201
    assert (await link(bob, token)).code == "token_used"
    assert len(await corp.world.events("request.refused")) == 3


async def test_a_session_token_alone_links_nothing(corp: Corp):
    bob = await corp.world.enter("bob")
    bob.signer.key = generate_ed25519()
    assert (await link(bob, corp.token(bob.signer, sub="u-2"))).code == "key_not_registered"


async def test_unlinking_ends_what_the_identity_opened(corp: Corp):
    visitor = await corp.enter(groups=["engineers"])
    local = await corp.world.enter("alice")
    theirs, mine = await visitor.grant("web1"), await local.grant("web2")
    await unlink_identity(corp.world.outside, OPERATOR, "alice", "corp", "")
    assert (await visitor.get("/v1/me")).status == 401
    grants = {each["id"]: each["state"] for each in (await local.get("/v1/grants?all=1")).json["grants"]}
    assert grants == {theirs: "ended", mine: "active"}
    refused = await corp.sign_in(corp.world.stranger())
    assert refused.code == "identity_unknown"
    assert [event["detail"]["issuer"] for event in await corp.world.events("identity.unlinked")] == [ISSUER]


async def test_an_issue_that_began_before_does_not_commit_after(corp: Corp):
    visitor = await corp.enter(groups=["engineers"])
    await visitor.grant("web1")

    async def unlink() -> None:
        await unlink_identity(corp.world.outside, OPERATOR, "alice", "corp", "u-1")

    corp.world.signer.hook = unlink
    answer = await visitor.certificate("web1")
    assert answer.status == 401
    mine = [event["type"] for event in await corp.world.events("certificate.") if event["actor"]["kind"] != "operator"]
    assert mine[0] == "certificate.unreleased"


async def test_the_last_way_in_stays(corp: Corp):
    await add_plain_person(corp.world.outside, OPERATOR, "dora", groups=["engineers"])
    await link_identity(corp.world.outside, OPERATOR, "dora", "corp", "u-3")
    dora = await corp.enter(sub="u-3")
    (only,) = (await dora.get("/v1/identities")).json["identities"]
    answer = await dora.delete(f"/v1/identities/{only['id']}")
    assert (answer.status, answer.code) == (409, "conflict")
    await link_identity(corp.world.outside, OPERATOR, "dora", "corp", "u-4")
    assert (await dora.delete(f"/v1/identities/{only['id']}")).status == 204
    assert (await dora.get("/v1/me")).status == 401


async def test_a_password_is_not_unlinked(corp: Corp):
    alice = await corp.enter()
    local = next(each for each in (await alice.get("/v1/identities")).json["identities"] if each["provider"] == "local")
    assert (await alice.delete(f"/v1/identities/{local['id']}")).status == 409


async def test_nobody_unlinks_for_others(corp: Corp):
    bob, alice = await corp.world.enter("bob"), await corp.enter()
    mine = next(each for each in (await alice.get("/v1/identities")).json["identities"] if each["provider"] == "corp")
    assert (await bob.delete(f"/v1/identities/{mine['id']}")).status == 404


async def test_somebody_without_a_password_has_no_local_sign_in(corp: Corp):
    await add_plain_person(corp.world.outside, OPERATOR, "dora")
    answer = await corp.world.stranger().sign_in("dora")
    assert (answer.status, answer.code) == (401, "not_signed_in")
    (event,) = await corp.world.events("sign_in.refused")
    assert event["detail"]["code"] == "no_credential"


async def test_what_an_operator_may_not_link(corp: Corp):
    outside = corp.world.outside
    with pytest.raises(NotFound):
        await link_identity(outside, OPERATOR, "nobody", "corp", "u-5")
    with pytest.raises(NotFound):
        await link_identity(outside, OPERATOR, "bob", "elsewhere", "u-5")
    for subject in ("", "u\n5", "ü", "u" * 256):
        with pytest.raises(BadInput):
            await link_identity(outside, OPERATOR, "bob", "corp", subject)
    with pytest.raises(NotFound):
        await unlink_identity(outside, OPERATOR, "bob", "corp", "")
