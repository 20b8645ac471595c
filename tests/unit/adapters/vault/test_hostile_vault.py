"""A Vault that answers with anything: no key counts, the wording is one, and no secret is in any log."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from tests.conformance.stores import key, person

from jitgate.adapters.vault.client import ANSWER_MAX, PAUSE_S, Vault
from jitgate.adapters.vault.keys import AGE_S, VaultKeys
from jitgate.adapters.vault.settings import KeysSettings
from jitgate.core.errors import Unreachable
from jitgate.identity.keys import Standing

TOKEN, SECRET_ID = "s.TopSecretToken", "top-secret-id"
ALICE = person("alice")
KEY = key(ALICE)
ENTERED = {"auth": {"client_token": TOKEN, "lease_duration": 60, "renewable": True}}
ENTRY = {"data": {"data": {"key": KEY.key.line(), "person": ALICE.id}, "metadata": {"version": 3}}}

Handler = Callable[[httpx2.Request], httpx2.Response]


class Fake:
    """Answers entries with what a test says; counts what it was asked."""

    def __init__(self, answer: Handler | None = None) -> None:
        self.answer = answer or (lambda _: httpx2.Response(200, json=ENTRY))
        self.asked: list[str] = []
        self.enter: Handler = lambda _: httpx2.Response(200, json=ENTERED)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        return self.enter(request) if "/auth/" in request.url.path else self.answer(request)

    @property
    def reads(self) -> int:
        return sum("/data/" in each for each in self.asked)


@pytest.fixture
def settings(tmp_path: Path) -> KeysSettings:
    secret = tmp_path / "secret_id"
    secret.touch(mode=0o600)
    secret.write_text(SECRET_ID + "\n")
    return KeysSettings(
        store="vault", url="https://vault.example", role_id="r", secret_id_file=str(secret), timeout_ms=100
    )


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def registry(fake: Fake, settings: KeysSettings, clock: Clock) -> VaultKeys:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(fake))
    return VaultKeys(Vault(settings, client, clock), "secret", "jitgate/keys", clock)


async def endless() -> AsyncIterator[bytes]:
    for _ in range(2 * ANSWER_MAX // 1024):
        yield b" " * 1024


ANSWERS: dict[str, Handler] = {
    "not JSON": lambda _: httpx2.Response(200, content=b"<html>"),
    "no object": lambda _: httpx2.Response(200, json=[1]),
    "deep": lambda _: httpx2.Response(200, content=b"[" * 60_000),
    "no data": lambda _: httpx2.Response(200, json={}),
    "KV version 1": lambda _: httpx2.Response(200, json={"data": {"key": KEY.key.line(), "person": ALICE.id}}),
    "no version": lambda _: httpx2.Response(200, json={"data": {"data": ENTRY["data"]["data"]}}),
    "endless": lambda _: httpx2.Response(200, content=endless()),
    "redirect": lambda _: httpx2.Response(307, headers={"location": "https://evil.example/"}),
    "no such mount": lambda _: httpx2.Response(404, json={"errors": ["no handler for route"]}),
    "404 of something else": lambda _: httpx2.Response(404, content=b"not here"),
    "sealed": lambda _: httpx2.Response(503, json={"errors": ["Vault is sealed"]}),
    "crashed": lambda _: httpx2.Response(500),
    "refused": lambda _: httpx2.Response(403, json={"errors": ["permission denied"]}),
    "packed": lambda _: httpx2.Response(200, headers={"content-encoding": "identity"}, json=ENTRY),
    "empty": lambda _: httpx2.Response(200),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_is_none_is_no_confirmation(answer, settings, caplog):
    caplog.set_level(logging.DEBUG)
    found = registry(Fake(answer), settings, Clock())
    with pytest.raises(Unreachable) as caught:
        await found.confirm("alice", KEY)
    assert caught.value.code == "registry_unreachable"
    assert TOKEN not in caplog.text + str(caught.value)
    assert SECRET_ID not in caplog.text + str(caught.value)


@pytest.mark.parametrize(
    "entered",
    [
        lambda _: httpx2.Response(400, json={"errors": ["invalid role or secret ID"]}),
        lambda _: httpx2.Response(200, json={"auth": None}),
        lambda _: httpx2.Response(200, json={"auth": {"client_token": TOKEN, "lease_duration": "1h"}}),
        lambda _: httpx2.Response(200, json={"auth": {"client_token": "", "lease_duration": 1, "renewable": True}}),
        lambda _: httpx2.Response(200, json={}),
    ],
)
async def test_who_is_not_let_in_confirms_nothing(entered, settings, caplog):
    fake = Fake()
    fake.enter = entered
    found = registry(fake, settings, Clock())
    with pytest.raises(Unreachable):
        await found.confirm("alice", KEY)
    assert fake.reads == 0
    assert SECRET_ID not in caplog.text


async def test_a_vault_that_hangs_costs_one_wait_and_not_one_for_each(settings):
    async def hang(_: httpx2.Request) -> httpx2.Response:
        hung.append(1)
        await asyncio.sleep(60)
        raise AssertionError

    hung: list[int] = []
    clock = Clock()
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(hang))
    found = VaultKeys(Vault(settings, client, clock), "secret", "jitgate/keys", clock)
    for _ in range(20):
        with pytest.raises(Unreachable):
            await found.confirm("alice", KEY)
    assert len(hung) == 1
    clock.now += PAUSE_S
    with pytest.raises(Unreachable):
        await found.confirm("alice", KEY)
    assert len(hung) == 2


async def test_what_was_confirmed_is_believed_for_its_age_and_no_longer(settings):
    fake, clock = Fake(), Clock()
    found = registry(fake, settings, clock)
    for _ in range(10):
        assert await found.confirm("alice", KEY) is Standing.AGREES
    assert fake.reads == 1
    clock.now += AGE_S - 0.01
    assert await found.confirm("alice", KEY) is Standing.AGREES
    assert fake.reads == 1
    fake.answer = lambda _: httpx2.Response(404, json={"errors": []})
    clock.now += 0.01
    assert await found.confirm("alice", KEY) is Standing.GONE
    fake.answer = ANSWERS["sealed"]
    with pytest.raises(Unreachable):
        await found.confirm("alice", KEY)


async def test_the_age_counts_from_the_question_and_not_from_a_late_answer(settings):
    clock = Clock()

    def late(_: httpx2.Request) -> httpx2.Response:
        clock.now += AGE_S
        return httpx2.Response(200, json=ENTRY)

    fake = Fake(late)
    found = registry(fake, settings, clock)
    await found.confirm("alice", KEY)
    await found.confirm("alice", KEY)
    assert fake.reads == 2


async def test_many_who_wait_for_one_key_ask_once(settings):
    fake = Fake()
    found = registry(fake, settings, Clock())
    answers = await asyncio.gather(*(found.confirm("alice", KEY) for _ in range(50)))
    assert set(answers) == {Standing.AGREES}
    assert fake.reads == 1


async def test_who_gives_up_waiting_does_not_take_the_answer_from_the_others(settings):
    found = registry(Fake(), settings, Clock())
    first = asyncio.create_task(found.confirm("alice", KEY))
    second = asyncio.create_task(found.confirm("alice", KEY))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is Standing.AGREES


@pytest.mark.parametrize(
    "change",
    [
        {"person": person("bob").id},
        {"person": None},
        {"key": key(ALICE, "phone").key.line()},
        {"key": "ssh-ed25519 AAAA"},
        {"key": 7},
        {"key": 'command="x" ' + KEY.key.line()},
    ],
)
async def test_an_entry_that_says_something_else_differs(change, settings):
    entry = json.loads(json.dumps(ENTRY))
    entry["data"]["data"] |= change
    found = registry(Fake(lambda _: httpx2.Response(200, json=entry)), settings, Clock())
    assert await found.confirm("alice", KEY) is Standing.DIFFERS


async def test_a_token_is_renewed_at_half_its_life_and_replaced_at_the_end(settings):
    fake, clock = Fake(), Clock()
    found = registry(fake, settings, clock)
    await found.confirm("alice", KEY)
    clock.now += 31
    await found.confirm("alice", KEY)
    clock.now += 61
    await found.confirm("alice", KEY)
    entered = [each for each in fake.asked if "/auth/" in each]
    assert entered == [
        "POST /v1/auth/approle/login",
        "POST /v1/auth/token/renew-self",
        "POST /v1/auth/approle/login",
    ]


async def test_a_token_that_is_refused_is_replaced_once(settings):
    """A new token with the same policy would be refused too: it is not asked for again and again."""
    fake, clock = Fake(), Clock()
    found = registry(fake, settings, clock)
    await found.confirm("alice", KEY)
    fake.answer = ANSWERS["refused"]
    for _ in range(5):
        clock.now += AGE_S
        with pytest.raises(Unreachable):
            await found.confirm("alice", KEY)
    assert fake.asked.count("POST /v1/auth/approle/login") <= 3


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_not_sent(mode, settings):
    Path(settings.secret_id_file).chmod(mode)
    fake = Fake()
    with pytest.raises(Unreachable):
        asyncio.run(registry(fake, settings, Clock()).confirm("alice", KEY))
    assert fake.asked == []
