"""What is known of a provider: when it is asked again, how often at most, and what counts as no answer."""

import asyncio
from typing import Any

import pytest
from tests.providers import ISSUER, SECRET, SERVICE_CLIENT, FakeProvider, jwk, rsa_key
from tests.world import Clock

from jitgate.adapters.oidc.keys import RENEW, WINDOW, Keys
from jitgate.adapters.oidc.provider import HttpProvider, open_providers
from jitgate.core.clock import MINUTE, SECOND
from jitgate.core.errors import BadInput, Denied, NotFound, Unreachable, Unsafe
from jitgate.core.secret import Secret
from jitgate.identity.oidc import Header, TokenRefused
from jitgate.identity.providers import NotYet, ProviderSettings

NOW = 1_700_000_000 * SECOND
DISCOVERY, KEYS = "/dex/.well-known/openid-configuration", "/dex/keys"


class Known:
    def __init__(self, **more: Any) -> None:
        self.clock = Clock(NOW)
        self.fake = FakeProvider(clock=self.clock)
        given: dict[str, Any] = {"name": "corp", "issuer": ISSUER, "client_id": "jitctl"} | more
        self.settings = ProviderSettings(**given)
        self.keys = Keys(self.settings, self.fake.client(), self.clock)

    async def has(self, key_id: str = "k1") -> bool:
        """Whether the key is found; False for one that the provider does not list."""
        try:
            found = await self.keys.find(Header("RS256", key_id))
        except TokenRefused:
            return False
        return found.key_id == key_id

    async def problem(self) -> str:
        with pytest.raises(Unreachable) as raised:
            await self.keys.find(Header("RS256", "k1"))
        assert raised.value.hint
        return raised.value.code


async def test_it_is_asked_once_and_again_after_a_while():
    known = Known()
    assert [await known.has() for _ in range(9)] == [True] * 9
    assert known.fake.requests == [DISCOVERY, KEYS]
    known.clock.advance(RENEW + 1)
    assert await known.has()
    assert known.fake.requests == [DISCOVERY, KEYS] * 2


async def test_many_that_come_at_once_ask_once():
    known = Known()
    assert all(await asyncio.gather(*(known.has() for _ in range(100))))
    assert known.fake.requests == [DISCOVERY, KEYS]


async def test_a_key_that_was_withdrawn_is_forgotten():
    known = Known()
    assert await known.has()
    known.fake.rotate()
    known.clock.advance(RENEW + 1)
    assert not await known.has("k1")
    assert await known.has("k2")


async def test_a_flood_of_unknown_keys_is_a_trickle_at_the_provider():
    known = Known()
    for number in range(100):
        assert not await known.has(f"x{number}")
        known.clock.advance(WINDOW // 20)
    assert known.fake.requests.count(KEYS) <= 2 * (100 // 20 + 1)


async def test_a_flood_does_not_keep_a_rotated_key_out():
    known = Known()
    for number in range(10):
        await known.has(f"x{number}")
    known.fake.rotate()
    known.clock.advance(WINDOW)
    assert await known.has("k2")


@pytest.mark.parametrize("how", ["refuse", "timeout", "error", "redirect", "html", "endless", "compressed"])
async def test_what_is_no_answer(how: str):
    known = Known()
    known.fake.down = how
    assert await known.problem() == "provider_unreachable"
    known.fake.down = ""
    known.clock.advance(WINDOW)
    assert await known.has()
    known.fake.down = how
    known.clock.advance(RENEW + 1)
    assert await known.has()  # still fresh enough
    known.clock.advance(60 * MINUTE)
    assert await known.problem() == "provider_keys_stale"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": ISSUER + "/"},
        {"issuer": "https://evil.example.com"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://idp.example.com/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://[x/keys"},
        {"jwks_uri": "https://idp.example.com:99999/keys"},
    ],
)
async def test_a_document_that_is_not_this_providers(document: dict[str, Any]):
    known = Known()
    known.fake.document = document
    assert await known.problem() == "provider_unreachable"


async def test_a_set_with_a_broken_key_leaves_the_one_before():
    known = Known()
    assert await known.has()
    known.fake.listed = [jwk(rsa_key(), "k1") | {"n": "AQAB"}]
    known.clock.advance(RENEW + 1)
    assert await known.has()


async def test_a_provider_that_is_down_is_not_asked_by_everybody():
    known = Known()
    known.fake.down = "error"
    for _ in range(50):
        await known.problem()
    assert len(known.fake.requests) == 2


async def test_a_clock_that_was_set_back_makes_no_old_set_fresh():
    known = Known()
    assert await known.has()
    known.fake.down = "error"
    known.clock.advance(-MINUTE)
    assert await known.problem() == "provider_keys_stale"


# --- the device flow's client ---


def provider(known: Known, secret: str = SECRET) -> HttpProvider:
    given: dict[str, Any] = {"service_client_id": SERVICE_CLIENT, "client_secret_file": "/secret"}
    settings = ProviderSettings(name="corp", issuer=ISSUER, client_id="jitctl", **given)
    return HttpProvider(settings, Secret(secret), known.fake.client(), known.clock)


async def test_the_client_shows_its_secret_in_the_head_form_encoded():
    """RFC 6749, 2.3.1: a secret with signs that mean something in a form arrives as it is."""
    known = Known()
    start = await provider(known).begin_device()
    assert isinstance(await provider(known).ask_device(start.device_code), NotYet)


async def test_what_the_provider_says_of_times_is_bounded():
    known = Known()
    known.fake.device_interval = 86_400
    assert (await provider(known).begin_device()).interval == MINUTE
    known.fake.device_interval = None
    start = await provider(known).begin_device()
    assert (start.interval, start.lifetime) == (5 * SECOND, 5 * MINUTE)


async def test_a_wrong_secret_is_told_without_it():
    known = Known()
    with pytest.raises(Unreachable, match="invalid_client") as raised:
        await provider(known, "wrong").begin_device()
    assert "wrong" not in f"{raised.value.what}{raised.value.hint}"


async def test_a_code_that_is_not_known():
    known = Known()
    with pytest.raises(Denied) as raised:
        await provider(known).ask_device(Secret("x"))
    assert raised.value.code == "device_expired"


async def test_files_of_the_settings(tmp_path: Any):
    secret, authority = tmp_path / "secret", tmp_path / "ca.pem"
    given: dict[str, Any] = {"name": "corp", "issuer": ISSUER, "client_id": "jitctl"}
    devices = {"service_client_id": "jitgate", "client_secret_file": str(secret)}

    async def opened(**more: Any) -> None:
        async with open_providers([ProviderSettings(**given, **more)], Clock(NOW)) as found:
            assert list(found) == ["corp"]

    await opened()
    with pytest.raises(NotFound):
        await opened(**devices)
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    with pytest.raises(Unsafe):
        await opened(**devices)
    secret.chmod(0o600)
    await opened(**devices)
    secret.write_text("")
    with pytest.raises(BadInput):
        await opened(**devices)
    authority.write_text("no certificate")
    with pytest.raises(BadInput):
        await opened(ca_file=str(authority))
    with pytest.raises(BadInput):
        await opened(ca_file=str(tmp_path / "none"))
