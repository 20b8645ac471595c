"""Tokens that tokens made: however many and however deep, they end with the one above, all of them and each once."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from tests.vault_world import Vault, open_vault
from tests.world import World

from jitgate.adapters.db.vault import AT_ONCE
from jitgate.audit.events import EventType
from jitgate.flow.ports import Tx
from jitgate.flow.vault.tokens import GENERATIONS_MAX
from jitgate.identity.vault import TOKEN, new_secret, parse_secret, secret_hash

pytestmark = pytest.mark.databases

DEEP = 1200  # more than Python calls itself; older installations may hold such a chain
POLICIES = ["ssh-access", "makers"]


async def opened(world: World) -> Vault:
    vault = await open_vault(world)
    await vault.ok(
        "PUT", "sys/policies/acl/makers", {"policy": 'path "auth/token/create" { capabilities = ["update"] }'}
    )
    return vault


async def child_of(vault: Vault, token: str) -> str:
    made = await vault.ok("PUT", "auth/token/create", {"policies": POLICIES}, token)
    return str(made["auth"]["client_token"])


async def chain_below(vault: Vault, token: str, count: int) -> str:
    """Rows of so many tokens below one, each made by the one before; the last token."""
    world = vault.world
    secrets = [new_secret(TOKEN, world.outside.random) for _ in range(count)]

    def job(tx: Tx) -> None:
        above = tx.vault.token_by_hash(secret_hash(parse_secret(token, TOKEN)))
        assert above is not None
        for secret in secrets:
            row = replace(above, id=world.new_id(), token_hash=secret_hash(secret), parent_id=above.id)
            tx.vault.add_token(row)
            above = row

    await world.store.write(job)
    return secrets[-1].reveal()


async def ended(world: World) -> Counter[str]:
    """How often the log says of each token that it ended."""
    found = await world.store.read(lambda tx: [json.loads(leaf) for _, leaf, _ in tx.log.entries()])
    return Counter(each["detail"]["token"] for each in found if each["type"] == EventType.VAULT_TOKEN_ENDED)


async def in_force(world: World, name: str = "testuser@userpass") -> int:
    person = await world.person(name)
    return await world.store.read(lambda tx: tx.vault.count_tokens(world.clock(), person.id))


@pytest.mark.parametrize(
    ("method", "path", "body", "by"),
    [
        ("PUT", "auth/token/revoke", {}, "root"),
        ("PUT", "auth/token/revoke-self", {}, "first"),
        ("DELETE", "auth/userpass/users/testuser", None, "root"),
        ("PUT", "auth/userpass/users/testuser", {"password": "anOther-1-secret"}, "root"),
        ("DELETE", "sys/auth/userpass", None, "root"),
    ],
)
async def test_all_below_a_token_end_with_it(
    world: World, method: str, path: str, body: dict[str, str] | None, by: str
):
    vault = await opened(world)
    first = await vault.user(policies="ssh-access,makers")
    last = await chain_below(vault, first, DEEP)
    assert DEEP > AT_ONCE
    assert (await vault.sign(token=last)).status == 200
    if path == "auth/token/revoke":
        body = {"token": first}
    await vault.ok(method, path, body, first if by == "first" else None)
    for token in (first, last):
        assert (await vault.sign(token=token)).status == 403
    assert await in_force(world) == 0
    said = await ended(world)
    assert (len(said), set(said.values())) == (DEEP + 1, {1})


async def test_a_chain_has_an_end(world: World):
    vault = await opened(world)
    token = await vault.user(policies="ssh-access,makers")
    for _ in range(GENERATIONS_MAX):
        token = await child_of(vault, token)
    status, words = await vault.refused("PUT", "auth/token/create", {"policies": POLICIES}, token)
    assert (status, "makes no other" in words) == (400, True)
    assert (await vault.sign(token=token)).status == 200
    assert await in_force(world) == GENERATIONS_MAX + 1


async def test_what_is_above_or_beside_goes_on(world: World):
    vault = await opened(world)
    top, other = await vault.user(policies="ssh-access,makers"), await vault.user("other", "ssh-access,makers")
    middle, beside = await child_of(vault, top), await child_of(vault, top)
    below, theirs = await child_of(vault, middle), await child_of(vault, other)
    await vault.ok("PUT", "auth/token/revoke", {"token": middle})
    for token, status in ((top, 200), (beside, 200), (middle, 403), (below, 403), (other, 200), (theirs, 200)):
        assert (await vault.sign(token=token)).status == status
    before = await ended(world)
    await vault.ok("DELETE", "auth/userpass/users/testuser")
    after = await ended(world)
    assert (len(before), len(after), set(after.values())) == (2, 4, {1})


async def test_more_tokens_than_a_person_may_have_are_not_made(world: World, monkeypatch: pytest.MonkeyPatch):
    vault = await opened(world)
    monkeypatch.setattr("jitgate.flow.vault.tokens.TOKENS_MAX", 3)
    token = await vault.user(policies="ssh-access,makers")
    for _ in range(2):
        await child_of(vault, token)
    assert (await vault.refused("PUT", "auth/token/create", {"policies": POLICIES}, token))[0] == 409
    assert await in_force(world) == 3
