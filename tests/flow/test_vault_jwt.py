"""Workloads that come with a provider's token: the provider's own keys, one audience, one use, what the role binds."""

from typing import Any

import pytest
from tests.corp import Corp
from tests.providers import ISSUER, rsa_key
from tests.vault_world import Vault, open_vault
from tests.world import World

from jitgate.core.clock import MINUTE
from jitgate.flow.vault.settings import VaultSettings

AUDIENCE = "https://jit.example.com/vault"
ROLE = {
    "role_type": "jwt",
    "bound_audiences": [AUDIENCE],
    "bound_claims": {"repository": "acme/app"},
    "user_claim": "sub",
    "policies": "ssh-access",
}


@pytest.fixture
def corp(world: World) -> Corp:
    return Corp(world)


async def opened(corp: Corp) -> Vault:
    vault = await open_vault(corp.world)
    await vault.ok("POST", "sys/auth/jwt", {"type": "jwt"})
    await vault.ok("PUT", "auth/jwt/config", {"bound_issuer": ISSUER})
    await vault.ok("PUT", "auth/jwt/role/ci", ROLE)
    return vault


def token(corp: Corp, **claims: Any) -> str:
    """A job's token, good but for what is said."""
    return corp.fake.token(**({"sub": "repo:acme/app", "aud": AUDIENCE, "repository": "acme/app"} | claims))


async def test_a_job_signs_once_a_token(corp: Corp):
    vault, text = await opened(corp), token(corp)
    auth = (await vault.ok("PUT", "auth/jwt/login", {"role": "ci", "jwt": text}, ""))["auth"]
    assert (await vault.sign(token=auth["client_token"])).status == 200
    grant = (await corp.world.store.read(lambda tx: tx.grants.latest(1)))[0]
    assert (grant.holder.kind, grant.holder.name.partition("-")[0]) == ("robot", "ci")
    answer = await vault.send("PUT", "auth/jwt/login", {"role": "ci", "jwt": text}, "")
    assert (answer.status, "used before" in answer.json["errors"][0]) == (400, True)


async def test_a_role_that_is_deleted_takes_its_tokens_with_it(corp: Corp):
    vault = await opened(corp)
    await vault.ok("PUT", "auth/jwt/role/other", ROLE)
    tokens = {}
    for role in ("ci", "other"):
        body = {"role": role, "jwt": token(corp, jti=role)}
        tokens[role] = (await vault.ok("PUT", "auth/jwt/login", body, ""))["auth"]["client_token"]
        assert (await vault.sign(token=tokens[role])).status == 200
    await vault.ok("DELETE", "auth/jwt/role/ci")
    assert [(await vault.sign(token=each)).status for each in tokens.values()] == [403, 200]
    grants = await corp.world.store.read(lambda tx: tx.grants.latest(3))
    assert [each.holder.name.partition("-")[0] for each in grants if each.ended_at is not None] == ["ci"]


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": [AUDIENCE, "other"]},
        {"aud": "jitctl"},
        {"iss": "https://evil.example.com"},
        {"repository": "acme/other"},
        {"repository": None},
        {"repository": ["acme/other"]},
        {"repository": "ACME/app"},
        {"exp": 1},
        {"iat": 1},
        {"sub": None},
        {"nonce": "x"},
    ],
)
async def test_another_token_is_refused(corp: Corp, claims: dict[str, Any]):
    vault = await opened(corp)
    answer = await vault.send("PUT", "auth/jwt/login", {"role": "ci", "jwt": token(corp, **claims)}, "")
    assert answer.status == 400
    assert await corp.world.events("vault.refused")


async def test_another_key_is_refused(corp: Corp):
    vault = await opened(corp)
    forged = token(corp, key=rsa_key(1))
    unsigned = token(corp).rpartition(".")[0] + "."
    for text in (forged, unsigned, "", "a.b.c", token(corp) + "x"):
        assert (await vault.send("PUT", "auth/jwt/login", {"role": "ci", "jwt": text}, "")).status == 400


async def test_a_provider_that_does_not_answer_is_said(corp: Corp):
    vault, text = await opened(corp), token(corp)
    corp.fake.down = "refuse"
    assert (await vault.send("PUT", "auth/jwt/login", {"role": "ci", "jwt": text}, "")).status == 503


async def test_an_old_token_is_refused(corp: Corp):
    vault, text = await opened(corp), token(corp)
    corp.world.clock.advance(5 * MINUTE)
    assert (await vault.send("PUT", "auth/jwt/login", {"role": "ci", "jwt": text}, "")).status == 400


async def test_no_address_of_a_client_is_fetched(corp: Corp):
    """A mount's configuration names a provider of the service's own settings; nothing else is asked for keys."""
    vault = await opened(corp)
    before = list(corp.fake.requests)
    for config in (
        {"oidc_discovery_url": "https://169.254.169.254/latest"},
        {"bound_issuer": "http://127.0.0.1:1"},
        {"bound_issuer": ISSUER, "oidc_discovery_url": "https://evil.example.com"},
        {"jwks_url": "https://evil.example.com/keys"},
        {"jwt_validation_pubkeys": "x"},
        {},
    ):
        assert (await vault.refused("PUT", "auth/jwt/config", config))[0] == 400
    assert corp.fake.requests == before


@pytest.mark.parametrize(
    "change",
    [
        {"role_type": "oidc"},
        {"bound_audiences": []},
        {"bound_audiences": "a,b"},
        {"user_claim": "email"},
        {"bound_claims": {}},
        {"bound_claims": {"repository": ""}},
        {"bound_claims": {"repository": 1}},
        {"bound_claims_type": "glob"},
        {"policies": "root"},
        {"token_ttl": "9h"},
    ],
)
async def test_a_role_that_would_let_more_in_is_refused(corp: Corp, change: dict[str, Any]):
    vault = await opened(corp)
    assert (await vault.refused("PUT", "auth/jwt/role/ci", ROLE | change))[0] == 400


async def test_a_provider_that_was_taken_out_lets_nobody_in(corp: Corp):
    vault, text = await opened(corp), token(corp)
    corp.set_up(name="other", issuer="https://other.example.com")
    corp.world.change(vault=VaultSettings(plain_logins_unregistered_keys=True))
    assert (await vault.send("PUT", "auth/jwt/login", {"role": "ci", "jwt": text}, "")).status == 400
