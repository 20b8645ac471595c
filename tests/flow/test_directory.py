"""Groups from the directory: asked when something is decided; slow, down, gone or disabled there means no."""

from dataclasses import replace

import pytest
from tests.corp import Corp
from tests.world import HOME, OPERATOR, ROLES, Visitor, World

from jitgate.adapters.oidc.provider import HttpProvider
from jitgate.core.clock import MINUTE
from jitgate.core.errors import Error, NotSignedIn, Unreachable
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.flow.identities import link_identity, unlink_identity
from jitgate.flow.leavers import look_for_leavers
from jitgate.flow.people import add_plain_person
from jitgate.flow.sessions import ask_session, node_seen, open_session, sessions_to_end
from jitgate.sessions.path import GatewayPath
from jitgate.sessions.session import Why

pytestmark = pytest.mark.databases

DENY = b"""
role: freeze
effect: deny
who: {groups: [suspended]}
what: {hosts: [web1]}
"""

KEEP = b"""
role: keep
effect: allow
who: {groups: [engineers]}
what: {hosts: [web1]}
as: [ubuntu]
how_long: {grant: 10m, certificate: 5m}
on_expiry: keep
max_session: 8h
"""


@pytest.fixture
def corp(world: World) -> Corp:
    made = Corp(world, groups="directory")
    made.directory.people["dora"] = ("engineers",)
    return made


async def dora(corp: Corp) -> Visitor:
    """She has no groups of her own."""
    found = await corp.world.store.read(lambda tx: tx.people.by_name("dora"))
    if found is None:
        await add_plain_person(corp.world.outside, OPERATOR, "dora")
        await link_identity(corp.world.outside, OPERATOR, "dora", "corp", "u-3")
    return await corp.enter(sub="u-3", preferred_username="dora")


async def test_groups_are_the_directorys_and_not_the_tokens(corp: Corp):
    visitor = corp.world.stranger()
    await dora(corp)
    token = corp.token(visitor.signer, sub="u-3", preferred_username="dora", groups=["dba", "admins"])
    assert (await corp.sign_in(visitor, token)).status == 201
    assert (await visitor.get("/v1/me")).json["person"]["groups"] == ["engineers"]
    await visitor.grant("web1")
    assert (await visitor.certificate("web1")).status == 201
    explained = (await visitor.get("/v1/explain?host=web1")).json
    assert explained["decision"] == "permit"
    assert [host["name"] for host in (await visitor.get("/v1/hosts")).json["hosts"]] == ["web1", "web2"]


async def test_a_group_that_is_lost_there_is_lost_here(corp: Corp):
    visitor = await dora(corp)
    await visitor.grant("web1")
    assert (await visitor.certificate("web1")).status == 201
    corp.directory.people["dora"] = ()
    refused = await visitor.certificate("web1")
    assert (refused.status, refused.code) == (403, "no_role")
    assert (await visitor.post("/v1/grants", {"host": "web2"})).code == "no_role"


async def test_a_deny_rule_by_a_group_of_the_directory_holds(corp: Corp):
    await corp.world.apply(ROLES, DENY)
    visitor = await dora(corp)
    await visitor.grant("web1")
    corp.directory.people["dora"] = ("engineers", "suspended")
    assert (await visitor.certificate("web1")).status == 403
    assert (await visitor.post("/v1/grants", {"host": "web1", "minutes": 5})).code == "denied_by_rule"


async def test_somebody_gone_or_disabled_there_gets_nothing(corp: Corp):
    visitor = await dora(corp)
    await visitor.grant("web1")
    del corp.directory.people["dora"]
    answers = [await visitor.certificate("web1"), await visitor.post("/v1/grants", {"host": "web2"})]
    answers += [await visitor.get("/v1/explain?host=web1"), await visitor.get("/v1/hosts")]
    assert {(answer.status, answer.code) for answer in answers} == {(403, "directory_gone")}
    new = corp.world.stranger()
    refused = await corp.sign_in(new, corp.token(new.signer, sub="u-3", preferred_username="dora"))
    assert (refused.status, refused.code) == (403, "directory_gone")
    told = {
        event["type"]: event["detail"]["code"] for event in await corp.world.events() if event["outcome"] == "refused"
    }
    assert told == dict.fromkeys(["certificate.refused", "grant.refused", "sign_in.refused"], "directory_gone")


@pytest.mark.parametrize(
    "why", ["the directory takes longer than 3 s", "the directory ldap.example.com does not answer"]
)
async def test_a_directory_that_is_slow_or_down_means_no_with_a_clear_word(corp: Corp, why: str):
    visitor = await dora(corp)
    await visitor.grant("web1")
    corp.directory.away = why
    answers = [await visitor.certificate("web1"), await visitor.post("/v1/grants", {"host": "web2"})]
    assert {(answer.status, answer.code) for answer in answers} == {(503, "directory_unreachable")}
    assert answers[0].json["detail"] == f"your groups are not known: {why}"
    me = (await visitor.get("/v1/me")).json["person"]
    assert (me["groups"], me["groups_unknown"]) == ([], f"your groups are not known: {why}")
    new = corp.world.stranger()
    assert (await corp.sign_in(new, corp.token(new.signer, sub="u-3", preferred_username="dora"))).status == 503
    told = {
        event["type"]: event["detail"]["code"] for event in await corp.world.events() if event["outcome"] == "refused"
    }
    codes = ["certificate.refused", "grant.refused", "sign_in.refused"]
    assert told == dict.fromkeys(codes, "directory_unreachable")
    assert (await visitor.post("/v1/sign-out")).status == 204  # that needs no directory


async def test_who_signs_in_with_a_password_does_not_need_it(corp: Corp):
    corp.directory.away = "away"
    bob = await corp.world.enter("bob")
    await bob.grant("web1")
    assert (await bob.certificate("web1")).status == 201
    assert not corp.directory.asked


async def test_a_token_that_does_not_say_who_it_is_there(corp: Corp):
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, corp.token(visitor.signer, preferred_username=None))
    assert (answer.status, answer.code) == (401, "token_claims")


async def test_a_directory_that_is_not_set_up_any_more_knows_nobody(corp: Corp):
    visitor = await dora(corp)
    corp.world.change(elsewhere=Elsewhere(corp.world.outside.elsewhere.providers))
    assert (await visitor.post("/v1/grants", {"host": "web1"})).code == "directory_gone"


# --- who has left ---


async def test_a_leaver_loses_sign_in_and_grants(corp: Corp):
    visitor, bob = await dora(corp), await corp.world.enter("bob")
    await visitor.grant("web1")
    await bob.grant("web1")
    await look_for_leavers(corp.world.outside)
    assert (await visitor.get("/v1/me")).status == 200
    del corp.directory.people["dora"]
    await look_for_leavers(corp.world.outside)
    assert (await visitor.get("/v1/me")).status == 401
    (ended,) = await corp.world.events("grant.ended")
    assert ended["detail"]["why"] == "the directory does not vouch for its person any more"
    (sign_in,) = await corp.world.events("sign_in.ended")
    assert sign_in["detail"]["why"] == "directory_gone"
    assert (await bob.certificate("web1")).status == 201


async def test_who_is_in_none_of_the_roles_groups_any_more_loses_the_grant(corp: Corp):
    visitor = await dora(corp)
    grant = await visitor.grant("web1")
    corp.directory.people["dora"] = ("dba",)
    await look_for_leavers(corp.world.outside)
    (ended,) = await corp.world.events("grant.ended")
    assert (ended["grant"], ended["actor"]["kind"]) == (grant, "service")
    assert (await visitor.get("/v1/me")).status == 200  # she is still somebody


async def test_an_issue_in_the_making_does_not_survive_a_leaver(corp: Corp):
    visitor = await dora(corp)
    await visitor.grant("web1")

    async def leave() -> None:
        del corp.directory.people["dora"]
        await look_for_leavers(corp.world.outside)

    corp.world.signer.hook = leave
    assert (await visitor.certificate("web1")).status == 401
    assert await corp.world.events("certificate.unreleased")


async def test_a_directory_that_does_not_answer_ends_nothing_that_runs(corp: Corp):
    visitor = await dora(corp)
    await visitor.grant("web1")
    corp.directory.away = "away"
    with pytest.raises(Unreachable):
        await look_for_leavers(corp.world.outside)
    assert not await corp.world.events("grant.ended")
    corp.directory.away = ""
    corp.world.clock.advance(MINUTE)
    assert (await visitor.certificate("web1")).status == 201


async def test_a_ticket_is_worth_what_the_directory_says_when_it_is_used(corp: Corp):
    path = GatewayPath("127.0.0.1", 1, "127.0.0.1", keep_tls=False, networks=(), only=False, key=Secret(b"k" * 32))
    corp.world.change(gateway=path)
    visitor = await dora(corp)
    await visitor.grant("web1")
    ticket = (await visitor.certificate("web1")).json["tunnel"]["ticket"]

    async def use() -> str:
        try:
            await ask_session(corp.world.outside, ticket, "web1", "192.0.2.1")
        except Error as error:
            return error.code
        return ""

    assert await use() == ""
    codes = []
    corp.directory.away = "the directory is slow"
    codes.append(await use())
    corp.directory.away, corp.directory.people["dora"] = "", ()
    codes.append(await use())
    del corp.directory.people["dora"]
    codes.append(await use())
    assert codes == ["directory_unreachable", "no_role", "directory_gone"]
    first, *_ = await corp.world.events("session.refused")  # the others are counted with it
    assert (first["detail"]["code"], first["actor"]["name"]) == ("directory_unreachable", "dora")


@pytest.mark.parametrize("how", ["signed out", "ran out"])
async def test_who_is_not_signed_in_any_more_is_a_leaver_too(corp: Corp, how: str):
    corp.set_up(groups="directory", sign_in_minutes=5)
    visitor = await dora(corp)
    grant = await visitor.grant("web1")
    if how == "signed out":
        assert (await visitor.post("/v1/sign-out")).status == 204
    else:
        corp.world.clock.advance(6 * MINUTE)
    await look_for_leavers(corp.world.outside)
    assert not await corp.world.events("grant.ended")
    del corp.directory.people["dora"]
    before = await corp.world.size()
    for _ in range(2):
        await look_for_leavers(corp.world.outside)
    (ended,) = await corp.world.events(after=before)
    assert (ended["type"], ended["grant"]) == ("grant.ended", grant)
    corp.directory.asked.clear()
    await look_for_leavers(corp.world.outside)
    assert not corp.directory.asked  # nothing of hers runs


async def test_who_is_not_signed_in_any_more_and_in_none_of_the_roles_groups(corp: Corp):
    visitor = await dora(corp)
    grant = await visitor.grant("web1")
    assert (await visitor.post("/v1/sign-out")).status == 204
    corp.directory.people["dora"] = ("dba",)
    await look_for_leavers(corp.world.outside)
    (ended,) = await corp.world.events("grant.ended")
    assert ended["grant"] == grant


@pytest.mark.parametrize("how", ["leaves", "is unlinked"])
async def test_a_session_that_outlives_its_grant_does_not_outlive_its_person(corp: Corp, how: str):
    world = corp.world
    path = GatewayPath("127.0.0.1", 1, "127.0.0.1", keep_tls=False, networks=(), only=False, key=Secret(b"k" * 32))
    world.change(gateway=path, node=world.new_id())
    await world.apply(KEEP)
    await node_seen(world.outside, "node1")
    visitor, bob = await dora(corp), await world.enter("bob")
    opened = []
    for each in (visitor, bob):
        await each.grant("web1")
        ticket = (await each.certificate("web1")).json["tunnel"]["ticket"]
        opened.append(await open_session(world.outside, await ask_session(world.outside, ticket, "web1", HOME), 40_000))
    world.clock.advance(20 * MINUTE)  # both grants have run out, and both sessions go on
    assert await sessions_to_end(world.outside, afresh=True) == []
    before = await world.size()
    if how == "leaves":
        del corp.directory.people["dora"]
        await look_for_leavers(world.outside)
        await look_for_leavers(world.outside)
    else:
        await unlink_identity(world.outside, OPERATOR, "dora", "corp", "u-3")
    assert await sessions_to_end(world.outside, afresh=True) == [(opened[0].id, Why.KILLED)]
    (killed,) = [each for each in await world.events(after=before) if each["type"] == "session.killed"]
    assert (killed["session"], killed["grant"]) == (opened[0].id, opened[0].grant_id)


@pytest.mark.parametrize("groups", ["directory", "token", "none"])
async def test_a_ticket_of_a_provider_that_was_taken_out_of_the_settings_opens_nothing(corp: Corp, groups: str):
    """As after a restart: what the provider said goes on nowhere, or a broken one could not be shut out."""
    corp.set_up(groups=groups)
    path = GatewayPath("127.0.0.1", 1, "127.0.0.1", keep_tls=False, networks=(), only=False, key=Secret(b"k" * 32))
    corp.world.change(gateway=path)
    visitor = await corp.enter(groups=["engineers"], preferred_username="dora")
    await visitor.grant("web1")
    ticket = (await visitor.certificate("web1")).json["tunnel"]["ticket"]
    await ask_session(corp.world.outside, ticket, "web1", HOME)
    for left in ({}, {"corp": replace_issuer(corp)}):
        corp.world.change(elsewhere=Elsewhere(left, corp.directory))
        assert (await visitor.certificate("web1")).status == 401
        with pytest.raises(NotSignedIn):
            await ask_session(corp.world.outside, ticket, "web1", HOME)
    (refused,) = await corp.world.events("session.refused")
    assert refused["actor"]["name"] == "alice"


def replace_issuer(corp: Corp) -> HttpProvider:
    """Another provider under the same name."""
    settings = replace(corp.world.outside.elsewhere.providers["corp"].settings, issuer="https://other.example.com")
    return HttpProvider(settings, Secret(""), corp.fake.client(), corp.world.clock)
