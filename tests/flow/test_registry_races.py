"""Row and entry come and go in two places: what is seen in between opens nothing, and nobody is half registered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.openbao import registry_for
from tests.world import HOME, Visitor, World

from jitgate.adapters.vault.keys import VaultKeys, open_registry
from jitgate.app.demo.openbao import MOUNT, PREFIX, OpenBao
from jitgate.core.clock import MINUTE, SECOND
from jitgate.core.errors import Unreachable
from jitgate.flow.registry import SETTLING
from jitgate.ssh.private import SoftwareKey, generate_ed25519


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@asynccontextmanager
async def with_registry(world: World, openbao: OpenBao, folder: Path) -> AsyncIterator[VaultKeys]:
    settings = registry_for(openbao, folder / "bao", prefix=f"{PREFIX}/{folder.name}")
    async with open_registry(settings) as registry:
        world.change(key_registry=registry)
        yield registry


def path_of(folder: Path, name: str, key: SoftwareKey) -> str:
    mark = key.public.fingerprint.removeprefix("SHA256:").replace("+", "-").replace("/", "_")
    return f"{MOUNT}/data/{PREFIX}/{folder.name}/{name}/{mark}"


async def enter_again(world: World, name: str, key: SoftwareKey) -> tuple[int, str]:
    world.clock.advance(MINUTE)
    visitor = Visitor(world, world.stranger().signer, HOME)
    visitor.signer.key = key
    answer = await visitor.sign_in(name)
    return answer.status, answer.code


async def test_a_row_whose_entry_is_on_its_way_is_left_and_later_is_not(world, openbao, folder):
    async with with_registry(world, openbao, folder):
        alice = await world.enter("alice")  # the row, and no entry
        early = await alice.post("/v1/grants", {"host": "web1"})
        assert (early.status, early.code) == (503, "registry_unreachable")
        assert await world.events("key.removed") == []
        world.clock.advance(SETTLING)
        late = await alice.post("/v1/grants", {"host": "web1"})
        assert (late.status, late.code) == (403, "key_not_registered")
        assert len(await world.events("key.removed")) == 1


async def test_signing_in_brings_back_an_entry_that_was_gone_and_says_so(world, openbao, folder):
    key = generate_ed25519()
    async with with_registry(world, openbao, folder):
        assert await enter_again(world, "alice", key) == (201, "")
        openbao.ask("DELETE", path_of(folder, "alice", key))
        assert await enter_again(world, "alice", key) == (201, "")
        said = [event["detail"]["how"] for event in await world.events("key.registered")]
        assert said == ["sign-in", "registered anew: its entry was gone from the key registry"]
        assert openbao.ask("GET", path_of(folder, "alice", key))["data"]["data"]["name"] == "alice"


async def test_nobody_signs_in_by_a_key_whose_entry_is_another_persons(world, openbao, folder):
    key = generate_ed25519()
    async with with_registry(world, openbao, folder):
        assert await enter_again(world, "alice", key) == (201, "")
        entry = openbao.ask("GET", path_of(folder, "alice", key))["data"]["data"]
        bob = await world.person("bob")
        openbao.ask("POST", path_of(folder, "alice", key), {"data": entry | {"person": bob.id}})
        assert await enter_again(world, "alice", key) == (409, "registry_differs")
        assert openbao.ask("GET", path_of(folder, "alice", key))["data"]["data"]["person"] == bob.id
        ended = (await world.events("sign_in.ended"))[-1]["detail"]["why"]
        assert ended == "the key registry has something else under this key's name"
        assert (await world.events("sign_in.refused"))[-1]["detail"]["code"] == "registry_differs"


async def test_a_key_that_could_not_be_published_is_not_registered(world, openbao, folder, monkeypatch):
    async def away(*_: object) -> bool:
        raise Unreachable("the key registry does not answer", code="registry_unreachable")

    key = generate_ed25519()
    async with with_registry(world, openbao, folder) as registry:
        monkeypatch.setattr(registry, "put", away)  # it goes away after the sign-in has begun
        assert await enter_again(world, "alice", key) == (503, "registry_unreachable")
        assert await world.store.read(lambda tx: tx.keys.current(key.public)) is None
        monkeypatch.undo()
        world.clock.advance(SECOND)
        assert await enter_again(world, "alice", key) == (201, "")
