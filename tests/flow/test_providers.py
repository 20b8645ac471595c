"""Signing in by a provider: a token is good for one key, one sign-in and one person; all else is refused and told."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.client import Signer
from tests.corp import Corp
from tests.providers import ISSUER, SERVICE_CLIENT, FakeProvider, rsa_key
from tests.world import OPERATOR, ROLES, World

from jitgate.adapters.oidc.keys import RENEW, WINDOW
from jitgate.adapters.oidc.provider import HttpProvider
from jitgate.core.clock import MINUTE, SECOND
from jitgate.core.secret import Secret
from jitgate.flow.people import disable_person
from jitgate.identity.oidc import TOKEN_MAX
from jitgate.identity.providers import ProviderSettings
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases


@pytest.fixture
def corp(world: World) -> Corp:
    return Corp(world)


async def test_a_good_token_signs_in_and_registers_its_key(corp: Corp):
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, corp.token(visitor.signer, groups=["engineers", "Domain Admins"]))
    assert answer.status == 201, answer
    assert answer.json["person"]["name"] == "alice"
    assert answer.json["person"]["groups"] == ["engineers"]
    await visitor.grant("web1")
    certificate = await visitor.certificate("web1")
    assert certificate.status == 201, certificate
    (event,) = await corp.world.events("sign_in.succeeded")
    said = {name: event["detail"][name] for name in ("provider", "issuer", "groups", "dropped", "factors")}
    assert said == {"provider": "corp", "issuer": ISSUER, "groups": "engineers", "dropped": 1, "factors": "oidc"}
    me = (await visitor.get("/v1/me")).json
    assert me["sign_in"]["issuer"] == ISSUER
    assert me["person"]["groups"] == ["engineers"]
    assert me["person"]["groups_unknown"] == ""


def unsigned(corp: Corp, signer: Signer) -> str:
    head, body, _ = corp.token(signer).split(".")
    assert head
    return f"{part({'alg': 'none', 'kid': 'k1'})}.{body}."


def with_public_key_as_secret(corp: Corp, signer: Signer) -> str:
    """The confusion of RFC 8725, 2.1: HMAC under what everybody knows. PyJWT does not make it, so it is made here."""
    body = corp.token(signer).split(".")[1]
    known = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'kid': 'k1', 'typ': 'JWT'})}.{body}"
    mac = hmac.digest(known, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def by_another_key(corp: Corp, signer: Signer) -> str:
    return corp.token(signer, key=rsa_key(1))


def changed_after_signing(corp: Corp, signer: Signer) -> str:
    head, body, signature = corp.token(signer).split(".")
    claims = json.loads(jwt.utils.base64url_decode(body)) | {"sub": "u-2"}
    return f"{head}.{part(claims)}.{signature}"


def twice_signed(corp: Corp, signer: Signer) -> str:
    """The JSON form of RFC 7515, 7.2.1, which may hold several signatures."""
    head, body, signature = corp.token(signer).split(".")
    other = corp.token(signer, key=rsa_key(1)).split(".")[2]
    signatures = [{"protected": head, "signature": each} for each in (other, signature)]
    return json.dumps({"payload": body, "signatures": signatures})


def encrypted(corp: Corp, signer: Signer) -> str:
    return corp.token(signer) + ".AAAA.AAAA"


def for_another_key(corp: Corp, _: Signer) -> str:
    return corp.token(Signer("https://jit.example.com"))


def for_another_service(corp: Corp, signer: Signer) -> str:
    return corp.token(signer, nonce=corp.nonce(signer, origin="https://other.example.com"))


def for_another_sign_in(corp: Corp, signer: Signer) -> str:
    return corp.token(signer, nonce=corp.nonce(signer, salt="0f" * 32))


def for_another_provider(corp: Corp, signer: Signer) -> str:
    return corp.token(signer, nonce=corp.nonce(signer, provider="other"))


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def claims(**wrong: Any) -> Callable[[Corp, Signer], str]:
    return lambda corp, signer: corp.token(signer, **wrong)


def seconds(**wrong: int) -> Callable[[Corp, Signer], str]:
    """Claims that are so many seconds from now."""
    return lambda corp, signer: corp.token(
        signer, **{name: corp.world.clock() // SECOND + each for name, each in wrong.items()}
    )


REFUSED: dict[str, tuple[Callable[[Corp, Signer], str], str]] = {
    "expired": (seconds(exp=-61, iat=-200), "token_expired"),
    "not yet valid": (seconds(nbf=61), "token_not_yet"),
    "made in the future": (seconds(iat=61, exp=900), "token_not_yet"),
    "the provider's clock 5 minutes ahead": (seconds(iat=300, exp=900), "token_not_yet"),
    "the provider's clock 5 minutes behind": (seconds(iat=-300, exp=600), "token_old"),
    "no expiry": (claims(exp=None), "token_claims"),
    "no time": (claims(iat=None), "token_claims"),
    "wrong audience": (claims(aud="wiki"), "token_audience"),
    "another audience beside ours": (claims(aud=["jitctl", "wiki"]), "token_audience"),
    "no audience": (claims(aud=None), "token_audience"),
    "the service's own client": (claims(aud=SERVICE_CLIENT), "token_audience"),
    "given to another client": (claims(azp="wiki"), "token_party"),
    "wrong issuer": (claims(iss="https://evil.example.com/dex"), "token_issuer"),
    "issuer with a slash more": (claims(iss=ISSUER + "/"), "token_issuer"),
    "no issuer": (claims(iss=None), "token_issuer"),
    "alg none": (unsigned, "token_algorithm"),
    "HMAC with the public key": (with_public_key_as_secret, "token_algorithm"),
    "an algorithm that is not pinned": (claims(algorithm="RS512"), "token_algorithm"),
    "unknown key id": (claims(header={"kid": "k9"}), "token_key_unknown"),
    "no key id": (claims(header={"kid": None}), "token_key_unknown"),
    "another key under a known id": (by_another_key, "token_signature"),
    "changed after it was signed": (changed_after_signing, "token_signature"),
    "two signatures": (twice_signed, "token_malformed"),
    "five parts": (encrypted, "token_malformed"),
    "nothing": (lambda _c, _s: "", "token_malformed"),
    "an access token": (claims(header={"typ": "at+jwt"}), "token_type"),
    "an access token of Keycloak": (claims(typ="Bearer"), "token_type"),
    "something critical in its header": (claims(header={"crit": ["b64"], "b64": True}), "token_type"),
    "missing nonce": (claims(nonce=None), "token_nonce_missing"),
    "empty nonce": (claims(nonce=""), "token_nonce_missing"),
    "foreign nonce": (claims(nonce="n-0S6_WzA2Mj"), "token_nonce"),
    "a nonce that is no text": (claims(nonce=["n"]), "token_nonce"),
    "for another key": (for_another_key, "token_nonce"),
    "for another service": (for_another_service, "token_nonce"),
    "from another sign-in": (for_another_sign_in, "token_nonce"),
    "for another provider": (for_another_provider, "token_nonce"),
    "no subject": (claims(sub=None), "token_subject"),
    "an endless subject": (claims(sub="u" * 256), "token_subject"),
    "a subject with a line in it": (claims(sub="u-1\nroot"), "token_subject"),
    "groups elsewhere": (claims(groups=None, _claim_names={"groups": "src1"}), "token_groups"),
    "too many groups": (claims(groups=[f"g{n}" for n in range(257)]), "token_groups"),
    "groups that are none": (claims(groups={"a": 1}), "token_groups"),
    "larger than any": (claims(groups=["g" * 100] * 450), "token_too_large"),
}


@pytest.mark.parametrize(("make", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_token_that_is_not_right_is_refused_and_told(
    corp: Corp, make: Callable[[Corp, Signer], str], code: str
):
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, make(corp, visitor.signer))
    assert (answer.status, answer.code) == (401, code), answer
    assert answer.json["detail"]
    assert answer.json["hint"]
    (event,) = await corp.world.events("sign_in.refused")
    assert event["detail"] == {"code": code, "provider": "corp"}
    assert not await corp.world.events("key.registered")
    assert len(make(corp, visitor.signer)) <= TOKEN_MAX or code == "token_too_large"


async def test_a_token_of_1_mb_is_not_even_read(corp: Corp):
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, corp.token(visitor.signer, filler="x" * (1 << 20)))
    assert (answer.status, answer.code) == (413, "too_large")
    assert answer.json["hint"] == "at most 64 KiB"
    (event,) = await corp.world.events("request.refused")
    assert event["detail"] == {"code": "too_large", "method": "POST", "route": "/v1/sign-in/oidc"}


@pytest.mark.parametrize("times", [{"exp": -59, "iat": -120}, {"iat": 59}, {"nbf": 59}, {"iat": -239}])
async def test_clocks_may_be_a_minute_apart(corp: Corp, times: dict[str, int]):
    visitor = corp.world.stranger()
    assert (await corp.sign_in(visitor, seconds(**times)(corp, visitor.signer))).status == 201


async def test_a_token_works_once(corp: Corp):
    visitor = corp.world.stranger()
    token = corp.token(visitor.signer)
    assert (await corp.sign_in(visitor, token)).status == 201
    again = await corp.sign_in(visitor, token)
    assert (again.status, again.code) == (401, "token_used")


async def test_a_token_that_was_refused_afterwards_is_used_up(corp: Corp):
    visitor = corp.world.stranger()
    token = corp.token(visitor.signer, sub="u-9")
    assert (await corp.sign_in(visitor, token)).code == "identity_unknown"
    assert (await corp.sign_in(visitor, token)).code == "token_used"


async def test_the_key_has_to_prove_the_request(corp: Corp):
    visitor, other = corp.world.stranger(), generate_ed25519()
    by_another = await corp.sign_in(visitor, signed={"key": other})
    for_a_name = await corp.sign_in(visitor, subject="alice")
    of_another_body = await corp.sign_in(visitor, signed={"body": b"{}"})
    assert {answer.code for answer in (by_another, for_a_name, of_another_body)} == {"bad_proof"}


async def test_a_key_of_somebody_else_is_not_taken_over(corp: Corp):
    bob = await corp.world.enter("bob")
    thief = corp.world.stranger()
    thief.signer.key = bob.signer.key
    answer = await corp.sign_in(thief)
    assert (answer.status, answer.code) == (409, "conflict")


async def test_whom_nobody_has_linked_is_told_their_subject(corp: Corp):
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, corp.token(visitor.signer, sub="u-9"))
    assert (answer.status, answer.code) == (403, "identity_unknown")
    assert "'u-9'" in answer.json["detail"]


async def test_a_person_who_is_disabled_here_does_not_come_in(corp: Corp):
    await disable_person(corp.world.outside, OPERATOR, "alice")
    answer = await corp.sign_in(corp.world.stranger())
    assert (answer.status, answer.code) == (403, "person_disabled")


async def test_an_unknown_provider(corp: Corp):
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, provider="elsewhere")
    assert (answer.status, answer.code) == (404, "no_provider")


async def test_two_providers_do_not_speak_for_each_other(corp: Corp):
    """The same subject of another issuer is another person; and each one's tokens are for its own name."""
    other = FakeProvider(issuer="https://other.example.com", clock=corp.world.clock, key=rsa_key(1))
    settings = ProviderSettings(name="other", issuer=other.issuer, client_id="jitctl")
    corp.set_up(HttpProvider(settings, Secret(""), other.client(), corp.world.clock))
    visitor = corp.world.stranger()
    nonce = corp.nonce(visitor.signer, provider="other")
    assert (await corp.sign_in(visitor, other.token(nonce=nonce), provider="other")).code == "identity_unknown"
    crossed = await corp.sign_in(visitor, other.token(nonce=corp.nonce(visitor.signer), iss=ISSUER))
    assert crossed.code == "token_signature"
    about = (await visitor.get("/.well-known/jitgate")).json
    assert about["sign_in"] == ["local", "oidc"]
    assert [each["name"] for each in about["providers"]] == ["corp", "other"]


async def test_a_provider_that_is_taken_out_of_the_settings_ends_its_sign_ins(corp: Corp):
    visitor = await corp.enter()
    assert (await visitor.get("/v1/me")).status == 200
    corp.set_up(issuer="https://new.example.com")
    assert (await visitor.get("/v1/me")).status == 401


async def test_a_sign_in_lasts_as_long_as_the_settings_say(corp: Corp):
    corp.set_up(sign_in_minutes=30)
    visitor = await corp.enter()
    corp.world.clock.advance(30 * MINUTE - SECOND)
    assert (await visitor.get("/v1/me")).status == 200
    corp.world.clock.advance(SECOND)
    assert (await visitor.get("/v1/me")).status == 401


async def test_access_ends_with_the_token_where_the_role_says_so(corp: Corp):
    await corp.world.apply(ROLES.replace(b"certificate: 15m", b"certificate: 15m, within_token: true"))
    begun = corp.world.clock() // SECOND
    visitor = await corp.enter(groups=["engineers"], exp=begun + 20 * 60)
    answer = await visitor.post("/v1/grants", {"host": "web1", "minutes": 30})
    assert (answer.status, answer.code) == (403, "too_long")
    grant = await visitor.grant("web1")
    corp.world.clock.advance(10 * MINUTE)
    issued = await visitor.certificate("web1", grant)
    assert issued.status == 201, issued
    body = parse_certificate_line(issued.json["certificate"]).body
    assert body.valid_before == begun + 20 * 60
    corp.world.clock.advance(10 * MINUTE)
    assert (await visitor.get("/v1/me")).status == 200  # the sign-in goes on
    assert (await visitor.certificate("web1", grant)).status == 409
    answer = await visitor.post("/v1/grants", {"host": "web1"})
    assert (answer.status, answer.code) == (403, "token_ended")


async def test_for_a_password_it_ends_with_the_sign_in(corp: Corp):
    await corp.world.apply(ROLES.replace(b"grant: 1h, certificate: 15m", b"grant: 30d, within_token: true"))
    visitor = await corp.world.enter("alice")
    answer = await visitor.post("/v1/grants", {"host": "web1"})
    assert answer.json["grant"]["ends_at"] == (await visitor.get("/v1/me")).json["sign_in"]["expires_at"]


# --- the provider's keys ---


async def test_a_provider_that_is_down_lets_nobody_in(corp: Corp):
    corp.fake.down = "refuse"
    answer = await corp.sign_in(corp.world.stranger())
    assert (answer.status, answer.code) == (503, "provider_unreachable")
    (event,) = await corp.world.events("sign_in.refused")
    assert event["detail"]["code"] == "provider_unreachable"


async def test_keys_that_are_known_and_fresh_are_used_while_it_is_down(corp: Corp):
    await corp.enter()
    corp.fake.down = "timeout"
    corp.world.clock.advance(RENEW + MINUTE)
    await corp.enter()


async def test_a_stale_key_set_is_not_used(corp: Corp):
    await corp.enter()
    corp.fake.down = "error"
    corp.world.clock.advance(60 * MINUTE + SECOND)
    answer = await corp.sign_in(corp.world.stranger())
    assert (answer.status, answer.code) == (503, "provider_keys_stale")
    corp.fake.down = ""
    corp.world.clock.advance(WINDOW)
    await corp.enter()


async def test_keys_that_are_rotated_in_the_middle(corp: Corp):
    await corp.enter()
    visitor, early = corp.world.stranger(), corp.world.stranger()
    before = corp.token(early.signer)
    corp.fake.rotate()
    assert (await corp.sign_in(visitor)).status == 201
    assert (await corp.sign_in(early, before)).code == "token_key_unknown"  # that key was withdrawn


async def test_invented_key_ids_cost_the_provider_little(corp: Corp):
    visitor = await corp.enter()
    for number in range(50):
        token = corp.token(visitor.signer, header={"kid": f"x{number}"})
        assert (await corp.sign_in(visitor, token)).code == "token_key_unknown"
    assert corp.fake.requests.count("/dex/keys") == 2
    await corp.enter()


# --- whose it is ---


async def test_an_unknown_person_is_made_where_the_settings_say_so(corp: Corp):
    corp.set_up(people="create")
    visitor = await corp.enter(sub="u-7", preferred_username="Dora")
    assert (await visitor.get("/v1/me")).json["person"]["name"] == "dora"
    again = await corp.enter(sub="u-7", preferred_username="renamed")
    assert again.signer.person_id == visitor.signer.person_id
    kinds = [event["type"] for event in await corp.world.events() if event["type"].startswith(("person", "identity"))]
    assert kinds[-2:] == ["person.added", "identity.linked"]


@pytest.mark.parametrize(
    ("name", "code"),
    [("bob", "person_taken"), ("BOB", "person_taken"), ("d ora", "person_name"), (None, "person_name")],
)
async def test_no_name_of_a_provider_takes_over_a_person(corp: Corp, name: str | None, code: str):
    corp.set_up(people="create")
    visitor = corp.world.stranger()
    answer = await corp.sign_in(visitor, corp.token(visitor.signer, sub="u-8", preferred_username=name))
    assert (answer.status, answer.code) == (403, code)


async def test_an_address_that_nobody_verified_is_no_name(corp: Corp):
    corp.set_up(people="create", name_claim="email")
    visitor = corp.world.stranger()
    said = {"sub": "u-8", "email": "dora@example.com"}
    assert (await corp.sign_in(visitor, corp.token(visitor.signer, **said))).code == "token_email"
    word = corp.token(visitor.signer, **said, email_verified="true")
    assert (await corp.sign_in(visitor, word)).code == "token_email"
    assert (await corp.sign_in(visitor, corp.token(visitor.signer, **said, email_verified=True))).status == 201


async def test_a_prefix_keeps_a_providers_groups_apart(corp: Corp):
    corp.set_up(people="create", group_prefix="corp:")
    visitor = await corp.enter(sub="u-7", preferred_username="dora", groups=["engineers"])
    assert (await visitor.get("/v1/me")).json["person"]["groups"] == ["corp:engineers"]
    answer = await visitor.post("/v1/grants", {"host": "web1"})
    assert (answer.status, answer.code) == (403, "no_role")


async def test_a_grant_does_not_go_on_under_another_sign_in(corp: Corp):
    """Who alice is at the provider and who she is here are never mixed."""
    visitor = await corp.enter(groups=["engineers"])
    grant = await visitor.grant("web1")
    local = await corp.world.enter("alice", key=visitor.signer.key)
    answer = await local.certificate("web1", grant)
    assert (answer.status, answer.code) == (403, "denied")
    assert "another way of signing in" in answer.json["detail"]
    assert (await visitor.certificate("web1", grant)).status == 201
