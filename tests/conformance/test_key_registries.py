"""What the registry of people's keys does, whichever store keeps it: the rows alone, or rows and a Vault's KV v2.

Written against the acts, as `jitctl` calls them: one suite for `[keys] store = "database"` and `"vault"`.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest
from tests.client import Answer
from tests.openbao import registry_for
from tests.world import Visitor, World

from jitgate.adapters.vault.keys import open_registry
from jitgate.app.demo.openbao import OpenBao
from jitgate.core.clock import MINUTE
from jitgate.flow.ports import KeyRegistry, RowsAlone
from jitgate.ssh.private import SoftwareKey, generate_ed25519

Open = Callable[[], AbstractAsyncContextManager[KeyRegistry]]


@pytest.fixture(params=["database", "vault"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    if request.param == "database":
        yield lambda: nullcontext(RowsAlone())
        return
    bao: OpenBao = request.getfixturevalue("openbao")
    settings = registry_for(bao, tmp_path / "bao", prefix=f"jitgate/keys/{tmp_path.name}")
    yield lambda: open_registry(settings)


async def entered(world: World, name: str, key: SoftwareKey | None = None) -> Visitor:
    """Signed in as `jitctl login` does, with the key registered inside it."""
    world.clock.advance(MINUTE)  # a one-time code works once
    visitor = world.stranger()
    if key is not None:
        visitor.signer.key = key
    answer = await visitor.sign_in(name)
    assert answer.status == 201, answer
    return visitor


async def use(visitor: Visitor) -> Answer:
    """An act that needs the key: the certificate of a new grant."""
    await visitor.grant("web1")
    return await visitor.certificate()


async def key_ids(visitor: Visitor) -> list[str]:
    return [key["id"] for key in (await visitor.get("/v1/keys")).json["keys"]]


async def add(visitor: Visitor, key: SoftwareKey, comment: str = "second") -> Answer:
    call = visitor.signer.call("POST", "/v1/keys", {"key": key.public.line(comment)}, new_key=key)
    return await visitor.send(call)


async def test_a_key_that_signed_in_serves(world: World, registry: Open):
    async with registry() as opened:
        world.change(key_registry=opened)
        alice = await entered(world, "alice")
        assert (await use(alice)).status == 201
        assert len(await key_ids(alice)) == 1


async def test_signing_in_again_leaves_one_key(world: World, registry: Open):
    async with registry() as opened:
        world.change(key_registry=opened)
        alice = await entered(world, "alice")
        again = await entered(world, "alice", alice.signer.key)
        assert await key_ids(again) == await key_ids(alice)
        assert (await use(alice)).status == (await use(again)).status == 201
        assert len(await world.events("key.registered")) == 1


async def test_a_second_key_serves_until_it_is_removed_and_may_come_back(world: World, registry: Open):
    async with registry() as opened:
        world.change(key_registry=opened)
        alice, second = await entered(world, "alice"), generate_ed25519()
        added = await add(alice, second)
        assert added.status == 201, added
        other = await entered(world, "alice", second)
        assert (await use(other)).status == 201
        assert (await alice.delete(f"/v1/keys/{added.json['id']}")).status == 204
        refused = await other.certificate()
        assert (refused.status, refused.json["code"]) == (403, "key_not_registered")
        assert (await use(alice)).status == 201
        back = await entered(world, "alice", second)
        assert (await use(back)).status == 201
        assert added.json["id"] not in await key_ids(back)


async def test_a_key_has_one_owner(world: World, registry: Open):
    async with registry() as opened:
        world.change(key_registry=opened)
        alice = await entered(world, "alice")
        world.clock.advance(MINUTE)
        thief = world.stranger()
        thief.signer.key = alice.signer.key
        answer = await thief.sign_in("bob")
        assert (answer.status, answer.json["code"]) == (409, "conflict")
        bob = await entered(world, "bob")
        assert (await add(bob, alice.signer.key)).status == 409
        assert (await use(alice)).status == 201


async def test_many_at_once_with_one_new_key_make_one_registration(world: World, registry: Open):
    async with registry() as opened:
        world.change(key_registry=opened)
        alice, second = await entered(world, "alice"), generate_ed25519()
        others = [alice, *[await entered(world, "alice") for _ in range(3)]]
        answers = await asyncio.gather(*(add(each, second, f"request {at}") for at, each in enumerate(others)))
        assert {answer.status for answer in answers} == {201}
        assert len({answer.json["id"] for answer in answers}) == 1
        assert (await use(await entered(world, "alice", second))).status == 201
