"""Real tokens of Dex, taken and refused: the same rules as for tokens made in tests, at the service's own clock."""

import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.corp import SALT
from tests.dex import PASSWORDS, Provider
from tests.world import Visitor, World

from jitgate.adapters.oidc.provider import open_providers
from jitgate.app.demo.dex import OTHER_CLIENT, OTHER_REDIRECT, PUBLIC_CLIENT
from jitgate.app.demo.person import get_token
from jitgate.core.clock import MINUTE, SECOND, system_clock
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.identity.jwks import KeySet, parse_key_set
from jitgate.identity.nonce import nonce_for
from jitgate.identity.oidc import TokenRefused, read_header, token_rules, verify_id_token
from jitgate.identity.providers import ProviderSettings

REDIRECT = "http://127.0.0.1:9/callback"
Change = Callable[[Provider, str], str]


@asynccontextmanager
async def signing_in(provider: Provider, world: World) -> AsyncIterator[ProviderSettings]:
    """The world at this very moment, with Dex as its provider; who is not known becomes a person."""
    world.clock.advance(system_clock() - world.clock())
    settings = ProviderSettings(name="dex", issuer=provider.dex.issuer, client_id=PUBLIC_CLIENT, people="create")
    async with open_providers((settings,), world.clock) as known:
        world.change(elsewhere=Elsewhere(known))
        yield settings


def nonce(visitor: Visitor) -> str:
    return nonce_for(visitor.signer.origin, "dex", visitor.signer.key.public.fingerprint, SALT)


def token(provider: Provider, said: str, client: str = PUBLIC_CLIENT, redirect: str = REDIRECT) -> str:
    return get_token(provider.dex.issuer, client, redirect, said, "nora", Secret(PASSWORDS["nora"]))


async def present(visitor: Visitor, text: str) -> str:
    """The answer's code; empty for a sign-in."""
    body = {"provider": "dex", "id_token": text, "salt": SALT, "key": visitor.signer.key.public.line("a@b")}
    answer = await visitor.post("/v1/sign-in/oidc", body, subject="oidc:dex")
    assert (answer.status == 201) == (answer.code == ""), answer
    return answer.code


def keys_of(provider: Provider) -> KeySet:
    return parse_key_set(httpx2.get(f"{provider.dex.issuer}/keys", trust_env=False).content)


def part(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def key_id(text: str) -> str:
    return str(jwt.get_unverified_header(text)["kid"])


def unsigned(_provider: Provider, text: str) -> str:
    return f"{part({'alg': 'none', 'kid': key_id(text)})}.{text.split('.')[1]}."


def with_public_key_as_secret(provider: Provider, text: str) -> str:
    known = keys_of(provider)[key_id(text)].key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'kid': key_id(text)})}.{text.split('.')[1]}"
    mac = hmac.digest(known, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def of_somebody_else(_provider: Provider, text: str) -> str:
    head, body, signature = text.split(".")
    claims = json.loads(jwt.utils.base64url_decode(body)) | {"sub": "CgVhbGljZRIEbGRhcA"}
    return f"{head}.{part(claims)}.{signature}"


def with_an_unknown_key_id(_provider: Provider, text: str) -> str:
    _, body, signature = text.split(".")
    return f"{part({'alg': 'RS256', 'kid': 'k9'})}.{body}.{signature}"


CHANGED: dict[str, tuple[Change, str]] = {
    "alg none": (unsigned, "token_algorithm"),
    "HMAC with the public key": (with_public_key_as_secret, "token_algorithm"),
    "another subject": (of_somebody_else, "token_signature"),
    "unknown key id": (with_an_unknown_key_id, "token_key_unknown"),
}


@pytest.mark.parametrize(("change", "code"), CHANGED.values(), ids=CHANGED)
async def test_a_token_that_was_changed(provider: Provider, world: World, change: Change, code: str):
    async with signing_in(provider, world):
        visitor = world.stranger()
        text = token(provider, nonce(visitor))
        assert await present(visitor, change(provider, text)) == code
        assert await present(visitor, text) == ""  # it was good until then
        (event,) = await world.events("sign_in.refused")
        assert event["detail"] == {"code": code, "provider": "dex"}


async def test_a_token_without_nonce_or_with_a_foreign_one(provider: Provider, world: World):
    async with signing_in(provider, world):
        visitor = world.stranger()
        assert await present(visitor, token(provider, "")) == "token_nonce_missing"
        assert await present(visitor, token(provider, "n-0S6_WzA2Mj")) == "token_nonce"
        assert await present(visitor, token(provider, nonce(world.stranger()))) == "token_nonce"


async def test_a_token_for_another_audience(provider: Provider, world: World):
    async with signing_in(provider, world):
        visitor = world.stranger()
        assert await present(visitor, token(provider, nonce(visitor), OTHER_CLIENT, OTHER_REDIRECT)) == "token_audience"


@pytest.mark.parametrize(
    ("off", "code"),
    [(-5 * MINUTE, "token_not_yet"), (5 * MINUTE, "token_old"), (12 * MINUTE, "token_expired"), (30 * SECOND, "")],
)
async def test_a_clock_that_is_off(provider: Provider, world: World, off: int, code: str):
    async with signing_in(provider, world):
        visitor = world.stranger()
        text = token(provider, nonce(visitor))
        world.clock.advance(off)
        assert await present(visitor, text) == code


async def test_a_token_of_another_issuer(provider: Provider, world: World):
    """Dex's own, with Dex's own keys, where another issuer is expected byte for byte."""
    async with signing_in(provider, world) as settings:
        said = nonce(world.stranger())
        text, rules = token(provider, said), token_rules(settings, PUBLIC_CLIENT)
        key = keys_of(provider)[read_header(text, rules).key_id]
        assert verify_id_token(text, key, rules, nonce=said, now=system_clock()).name == "nora"
        for issuer in (f"{settings.issuer}/", settings.issuer.replace("127.0.0.1", "localhost")):
            with pytest.raises(TokenRefused) as raised:
                verify_id_token(text, key, replace(rules, issuer=issuer), nonce=said, now=system_clock())
            assert raised.value.code == "token_issuer"


async def test_a_provider_that_is_down_and_keys_that_become_stale(provider: Provider, world: World):
    async with signing_in(provider, world):
        early, late, new = world.stranger(), world.stranger(), world.stranger()
        first, second = token(provider, nonce(early)), token(provider, nonce(late))
        assert await present(early, first) == ""
        provider.dex.stop()
        assert await present(late, second) == ""  # its keys are known and fresh
        world.clock.advance(60 * MINUTE + SECOND)
        assert await present(new, second) == "provider_keys_stale"
        provider.rotate()
        world.clock.advance(system_clock() - world.clock() + 6 * MINUTE)
        assert await present(new, second) == "token_key_unknown"  # of before the rotation


async def test_a_provider_that_was_never_there(provider: Provider, world: World):
    async with signing_in(provider, world):
        visitor = world.stranger()
        text = token(provider, nonce(visitor))
        provider.dex.stop()
        assert await present(visitor, text) == "provider_unreachable"
        provider.rotate()
