"""The registry of keys against a real OpenBao: tokens that end, mounts that are wrong, entries that others wrote."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conformance.stores import key, person
from tests.openbao import registry_for

from jitgate.adapters.vault.client import ENTER_AGAIN_S, PAUSE_S
from jitgate.adapters.vault.keys import AGE_S, VaultKeys, open_registry
from jitgate.adapters.vault.settings import KeysSettings
from jitgate.app.demo.openbao import MOUNT, PREFIX, ROLE, OpenBao
from jitgate.core.errors import Conflict, Error, Unreachable
from jitgate.core.secret import Secret
from jitgate.identity.keys import Standing

ALICE = person("alice")
KEY = key(ALICE)
NAME = "alice+ops@example.org"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(openbao: OpenBao, tmp_path: Path) -> KeysSettings:
    return registry_for(openbao, tmp_path, prefix=f"{PREFIX}/{tmp_path.name}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(clock: Clock) -> Callable[[KeysSettings], AbstractAsyncContextManager[VaultKeys]]:
    return lambda settings: open_registry(settings, clock)


def new_token(bao: OpenBao, path: Path, **more: object) -> str:
    """A token with the service's policy, written as Vault Agent writes one; its accessor."""
    made = bao.ask("POST", "auth/token/create", {"policies": [ROLE], "ttl": "1h", **more})["auth"]
    path.touch(0o600)
    path.write_text(made["client_token"])
    return str(made["accessor"])


async def test_an_entry_is_where_people_find_it_and_says_whose_it_is(opened, settings, openbao):
    async with opened(settings) as registry:
        assert await registry.put(NAME, KEY) is True
        assert await registry.put(NAME, KEY) is False
        (mark,) = openbao.ask("GET", f"{MOUNT}/metadata/{settings.prefix}/{NAME}?list=true")["data"]["keys"]
        entry = openbao.ask("GET", f"{MOUNT}/data/{settings.prefix}/{NAME}/{mark}")["data"]["data"]
        assert f"SHA256:{mark.replace('-', '+').replace('_', '/')}" == KEY.key.fingerprint
        assert entry == {
            "key": KEY.key.line("laptop"),
            "person": ALICE.id,
            "name": NAME,
            "added_at": "2023-11-14T22:13:20Z",
        }
        await registry.remove(NAME, KEY)
        assert await registry.confirm(NAME, KEY) is Standing.GONE
        assert await registry.put(NAME, KEY) is True  # over a deleted version


async def test_what_somebody_else_wrote_is_never_written_over(opened, settings):
    async with opened(settings) as registry:
        await registry.put(NAME, KEY)
        with pytest.raises(Conflict) as caught:
            await registry.put(NAME, replace(KEY, person_id=person("bob").id))
        assert caught.value.code == "registry_differs"
        assert await registry.confirm(NAME, KEY) is Standing.AGREES


def test_the_services_token_reaches_its_entries_and_nothing_else(settings, openbao):
    secret_id = Path(settings.secret_id_file).read_text()
    login = {"role_id": settings.role_id, "secret_id": secret_id}
    token = Secret(openbao.ask("POST", "auth/approle/login", login)["auth"]["client_token"])
    for method, path in (
        ("GET", f"{MOUNT}/data/other"),
        ("GET", f"{MOUNT}/metadata/{PREFIX}?list=true"),
        ("DELETE", f"{MOUNT}/metadata/{PREFIX}/alice/x"),
        ("GET", "sys/mounts"),
    ):
        with pytest.raises(Unreachable, match="403"):
            openbao.ask(method, path, token=token)


async def test_a_token_from_a_file_is_taken_and_another_one_when_it_was_revoked(
    opened, settings, openbao, clock, tmp_path
):
    path = tmp_path / "token"
    accessor = new_token(openbao, path)
    by_token = replace(settings, role_id="", secret_id_file="", token_file=str(path))
    async with opened(by_token) as registry:
        assert await registry.put(NAME, KEY)
        openbao.ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})
        clock.now += max(AGE_S, ENTER_AGAIN_S)
        with pytest.raises(Unreachable):
            await registry.confirm(NAME, KEY)
        new_token(openbao, path)
        clock.now += PAUSE_S
        assert await registry.confirm(NAME, KEY) is Standing.AGREES


async def test_a_secret_id_that_was_replaced_is_used_when_the_token_ends(opened, settings, openbao, clock):
    async with opened(settings) as registry:
        assert await registry.put(NAME, KEY)
        secret_id = openbao.ask("POST", f"auth/approle/role/{ROLE}/secret-id", {})["data"]["secret_id"]
        Path(settings.secret_id_file).write_text(secret_id)  # noqa: ASYNC240  # a moment
        clock.now += 1300  # longer than the token lives
        assert await registry.confirm(NAME, KEY) is Standing.AGREES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prefix": "elsewhere"}, "does not answer"),
        ({"mount": "nothing"}, "does not answer"),
        ({"auth_mount": "nothing"}, "does not answer"),
        ({"role_id": "another"}, "does not answer"),
        ({"ca_file": ""}, "does not answer"),
        ({"namespace": "nothing"}, "does not answer"),
    ],
)
async def test_what_is_set_up_wrongly_confirms_nothing(opened, settings, change, words):
    async with opened(replace(settings, **change)) as registry:
        for ask in (registry.confirm, registry.put):
            with pytest.raises(Unreachable, match=words):
                await ask(NAME, KEY)


async def test_a_mount_of_kv_version_1_takes_no_entry(opened, settings, openbao, tmp_path):
    mount = "kv1"
    openbao.ask("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "1"}})
    rules = f'path "{mount}/*" {{ capabilities = ["create", "read", "update", "delete"] }}'
    openbao.ask("POST", f"sys/policies/acl/{mount}", {"policy": rules})
    path = tmp_path / "token"
    new_token(openbao, path, policies=[mount, "default"])
    there = replace(settings, mount=mount, role_id="", secret_id_file="", token_file=str(path))
    async with opened(there) as registry:
        with pytest.raises(Error, match="not KV version 2"):
            await registry.put(NAME, KEY)
