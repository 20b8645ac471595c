"""Signing in by a provider: a token is good for one key, one sign-in and one person; all else is refused and told."""

import asyncio
from typing import Any

import pytest
from tests.client import Answer, Signer
from tests.providers import CLIENT, ISSUER, SECRET, FakeProvider
from tests.world import OPERATOR, URL, Visitor, World

from jitgate.adapters.oidc.provider import HttpProvider
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.flow.identities import link_identity
from jitgate.identity.nonce import nonce_for
from jitgate.identity.providers import ProviderSettings

SALT = "5a" * 32


class Corp:
    """The world with one provider, `corp`, whose u-1 is alice."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world, self.fake = world, FakeProvider(clock=world.clock)
        self.set_up(**settings)

    def set_up(self, **settings: Any) -> None:
        given = {"name": "corp", "issuer": ISSUER, "client_id": CLIENT} | settings
        known = HttpProvider(ProviderSettings(**given), Secret(SECRET), self.fake.client(), self.world.clock)
        self.world.change(elsewhere=Elsewhere({"corp": known}))

    async def sign_in(
        self, visitor: Visitor, token: str | None = None, *, provider: str = "corp", **wrong: Any
    ) -> Answer:
        signer = visitor.signer
        text = self.token(signer) if token is None else token
        body = {"provider": provider, "id_token": text, "salt": SALT, "key": signer.key.public.line("a@b")}
        subject = wrong.pop("subject", f"oidc:{provider}")
        answer = await visitor.send(signer.call("POST", "/v1/sign-in/oidc", body, subject=subject, **wrong))
        if answer.status == 201:
            signer.signed_in(answer)
        return answer

    def token(self, signer: Signer, **more: Any) -> str:
        return self.fake.token(**({"nonce": self.nonce(signer)} | more))

    def nonce(self, signer: Signer, **other: str) -> str:
        given = {"origin": URL, "provider": "corp", "fingerprint": signer.key.public.fingerprint, "salt": SALT} | other
        return nonce_for(**given)


@pytest.fixture
def corp(world: World) -> Corp:
    made = Corp(world)
    asyncio.run(link_identity(world.outside, OPERATOR, "alice", "corp", "u-1"))
    return made


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
    assert event["detail"]["provider"] == "corp"
    assert event["detail"]["issuer"] == ISSUER
    assert event["detail"]["groups"] == "engineers"
    assert event["detail"]["dropped"] == 1
    assert event["detail"]["factors"] == "oidc"
