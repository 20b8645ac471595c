"""A machine that an identity provider vouches for joins by its own token, where an owner has named it."""

from typing import Any

import pytest
from tests.corp import Corp
from tests.flow.test_joining import WAY, names
from tests.hosts import NewHost, checked, signed
from tests.providers import CLIENT, ISSUER
from tests.world import Visitor, World

from jitgate.core.errors import BadInput
from jitgate.core.fields import canonical
from jitgate.core.secret import Secret
from jitgate.hosts.joining import NAMESPACE, JoinToken, identity_hash, join_bytes, read_token, secret_hash
from jitgate.identity.providers import ProviderSettings

AUDIENCE = "jitgate-hosts"
SUBJECT = "system:node:web7"


@pytest.fixture
def corp(world: World) -> Corp:
    made = Corp(world, host_audience=AUDIENCE)
    world.change(agents=WAY)
    return made


async def invited(admin: Visitor, name: str = "web7", subject: str = SUBJECT, **more: Any) -> JoinToken:
    body = {"name": name, "logins": ["ubuntu"], "provider": "corp", "subject": subject, **more}
    answer = await admin.post("/v1/hosts/tokens", body)
    assert answer.status == 201, answer
    return read_token(answer.json["token"])


def of_machine(corp: Corp, **claims: Any) -> str:
    return corp.fake.token(**({"sub": SUBJECT, "aud": AUDIENCE, "preferred_username": None, "groups": None} | claims))


async def test_a_machine_joins_by_its_own_token(corp: Corp):
    way = await invited(await corp.world.enter("olga"))
    web = NewHost(corp.world)
    answer = await web.join_by_identity(way, of_machine(corp))
    assert answer.status == 201, answer
    checked(answer, way)
    assert (await corp.world.events("host.added"))[-1]["detail"]["how"] == "oidc"


async def test_the_way_there_lets_nobody_in_by_itself(corp: Corp):
    way = await invited(await corp.world.enter("olga"))
    assert (await NewHost(corp.world).join(way)).status == 403


async def test_what_an_owner_named_is_no_secret_of_a_token(corp: Corp):
    """A stranger knows issuer and subject: the text that is hashed for them, sent as if it were a token's secret."""
    way = await invited(await corp.world.enter("olga"), subject="web7")
    guess = "jitgate-join-identity-v1\n" + canonical([ISSUER, "web7"]).decode()
    assert len(guess) <= 64
    assert secret_hash(Secret(guess)) == identity_hash(ISSUER, "web7")
    web, now = NewHost(corp.world), corp.world.clock()
    said = join_bytes(way.installation, way.realm, way.name, secret_hash(Secret(guess)), now)
    assert (await web.join(way, token=guess, signature=signed(web.key, NAMESPACE, said))).status == 403
    assert "web7" not in await names(corp.world)


async def test_the_token_is_used_once_and_another_key_waits_for_the_owner(corp: Corp):
    way = await invited(await corp.world.enter("olga"))
    token, first, second = of_machine(corp), NewHost(corp.world), NewHost(corp.world)
    assert (await first.join_by_identity(way, token)).status == 201
    assert (await second.join_by_identity(way, token)).status == 202  # as who stole it would ask
    assert (await names(corp.world))["web7"] == first.key.public.fingerprint
    assert (await first.join_by_identity(way, token)).status == 201  # a lost answer


async def test_what_is_no_machines_token_lets_nobody_in(corp: Corp):
    way = await invited(await corp.world.enter("olga"))
    web, other = NewHost(corp.world), NewHost(corp.world)
    wrong = [
        of_machine(corp, aud=CLIENT),  # a person's
        of_machine(corp, aud=[AUDIENCE, "another"]),
        of_machine(corp, sub="system:node:web8"),
        of_machine(corp, exp=corp.world.clock() // 1_000_000 - 3600),
        of_machine(corp, iss="https://elsewhere.example"),
        of_machine(corp, nonce="n"),
        of_machine(corp)[:-4] + "AAAA",
        "nonsense",
        "é",
        "",
    ]
    for token in wrong:
        answer = (
            await web.join_by_identity(way, token)
            if token.isascii()
            else await web.join(way, id_token=token, provider="corp")
        )
        assert answer.status == 403, token
    assert (await web.join_by_identity(way, of_machine(corp), provider="nobody")).status == 403
    good = of_machine(corp)
    assert (await web.join_by_identity(way, good, signature="AAAA")).status == 403
    assert (await web.join_by_identity(way, good, host_key=other.key.public.line())).status == 403
    assert "web7" not in await names(corp.world)


async def test_one_subject_is_for_one_name_at_a_time(corp: Corp):
    olga = await corp.world.enter("olga")
    await invited(olga)
    body = {"name": "web8", "logins": ["ubuntu"], "provider": "corp", "subject": SUBJECT}
    assert (await olga.post("/v1/hosts/tokens", body)).status == 409
    assert (await olga.post("/v1/hosts/tokens", body | {"provider": "nobody"})).status == 400
    assert (await olga.post("/v1/hosts/tokens", body | {"subject": ""})).status == 400


async def test_without_the_setting_no_provider_vouches_for_hosts(corp: Corp):
    way = await invited(await corp.world.enter("olga"))
    corp.set_up()
    corp.world.change(agents=WAY)
    assert (await NewHost(corp.world).join_by_identity(way, of_machine(corp))).status == 403


def test_a_persons_audience_is_not_a_machines():
    with pytest.raises(BadInput):
        ProviderSettings(name="corp", issuer=ISSUER, client_id=CLIENT, host_audience=CLIENT)
