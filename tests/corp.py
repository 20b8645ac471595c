"""The world of tests with one provider, `corp`, whose `u-1` is alice: tokens made for it, good and bad."""

import asyncio
from typing import Any

from tests.client import Answer, Signer
from tests.providers import CLIENT, ISSUER, SECRET, SERVICE_CLIENT, FakeProvider
from tests.world import OPERATOR, URL, Visitor, World

from jitgate.adapters.oidc.provider import HttpProvider
from jitgate.core.errors import Unreachable
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.flow.identities import link_identity
from jitgate.identity.nonce import nonce_for
from jitgate.identity.providers import ProviderSettings

SALT = "5a" * 32


class FakeDirectory:
    """`people`: the groups of each name. `away`: why it does not answer."""

    def __init__(self) -> None:
        self.people: dict[str, tuple[str, ...]] = {}
        self.away = ""
        self.asked: list[str] = []

    async def groups(self, name: str, now: int, *, fresh: bool = False) -> tuple[str, ...] | None:
        del now, fresh
        self.asked.append(name)
        if self.away:
            raise Unreachable(self.away)
        return self.people.get(name)


class Corp:
    def __init__(self, world: World, **settings: Any) -> None:
        self.world, self.fake, self.directory = world, FakeProvider(clock=world.clock), FakeDirectory()
        self.set_up(**settings)
        asyncio.run(link_identity(world.outside, OPERATOR, "alice", "corp", "u-1"))

    def set_up(self, *others: HttpProvider, **settings: Any) -> None:
        """The service with these settings of the provider, as after a restart; its people and sign-ins stay."""
        given = {"name": "corp", "issuer": ISSUER, "client_id": CLIENT} | settings
        known = HttpProvider(ProviderSettings(**given), Secret(SECRET), self.fake.client(), self.world.clock)
        every = {each.settings.name: each for each in (known, *others)}
        self.world.change(elsewhere=Elsewhere(every, self.directory))

    def with_devices(self, **more: Any) -> None:
        self.set_up(service_client_id=SERVICE_CLIENT, client_secret_file="/secret", **more)

    def token(self, signer: Signer, **more: Any) -> str:
        """A good token for this key but for what is said."""
        return self.fake.token(**({"nonce": self.nonce(signer)} | more))

    def nonce(self, signer: Signer, **other: str) -> str:
        given = {"origin": URL, "provider": "corp", "fingerprint": signer.key.public.fingerprint, "salt": SALT} | other
        return nonce_for(**given)

    async def sign_in(
        self, visitor: Visitor, token: str | None = None, *, provider: str = "corp", salt: str = SALT, **wrong: Any
    ) -> Answer:
        signer = visitor.signer
        text = self.token(signer) if token is None else token
        body = {"provider": provider, "id_token": text, "salt": salt, "key": signer.key.public.line("a@b")}
        subject = wrong.pop("subject", f"oidc:{provider}")
        answer = await visitor.send(signer.call("POST", "/v1/sign-in/oidc", body, subject=subject, **wrong))
        if answer.status == 201:
            signer.signed_in(answer)
        return answer

    async def enter(self, **claims: Any) -> Visitor:
        """Alice, or whom the claims name, signed in by the provider."""
        visitor = self.world.stranger()
        answer = await self.sign_in(visitor, self.token(visitor.signer, **claims))
        assert answer.status == 201, answer
        return visitor
