"""Groups from the directory: asked when something is decided; slow, down, gone or disabled there means no."""

import pytest
from tests.corp import Corp
from tests.world import OPERATOR, ROLES, Visitor, World

from jitgate.core.clock import MINUTE
from jitgate.core.errors import Error, Unreachable
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.flow.identities import link_identity
from jitgate.flow.leavers import look_for_leavers
from jitgate.flow.people import add_plain_person
from jitgate.flow.sessions import ask_session
from jitgate.sessions.path import GatewayPath

pytestmark = pytest.mark.databases

DENY = b"""
role: freeze
effect: deny
who: {groups: [suspended]}
what: {hosts: [web1]}
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
    assert (refused.status, refused.code) == (403, "denied")
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
