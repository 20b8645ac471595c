"""Signing in: one answer for all that is wrong, a code works once, guesses are counted, keys are bound."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from typing import Any

import argon2
import pytest
from tests.client import PASSWORD, Answer
from tests.world import OPERATOR, World, sql

from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.flow.people import disable_person, enable_person
from jitgate.flow.ports import Tx
from jitgate.identity.model import Credential
from jitgate.identity.totp import STEP
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases

Attempt = Callable[[World], Awaitable[Answer]]


async def unknown_user(world: World) -> Answer:
    return await world.stranger().sign_in("nobody")


async def wrong_password(world: World) -> Answer:
    return await world.stranger().sign_in("alice", PASSWORD + "x")


async def empty_password(world: World) -> Answer:
    return await world.stranger().sign_in("alice", "")


async def endless_password(world: World) -> Answer:
    return await world.stranger().sign_in("alice", PASSWORD + "x" * 900)


async def wrong_code(world: World) -> Answer:
    return await world.stranger().sign_in("alice", code="000000")


async def no_code(world: World) -> Answer:
    return await world.stranger().sign_in("alice", code="")


async def code_of_another_alphabet(world: World) -> Answer:
    return await world.stranger().sign_in("alice", code="".join(chr(0x0660 + int(each)) for each in world.code()))


async def old_code(world: World) -> Answer:
    return await world.stranger().sign_in("alice", code=world.code(-2))


async def replayed_code(world: World) -> Answer:
    assert (await world.stranger("198.51.100.1").sign_in("alice")).status == 201
    return await world.stranger().sign_in("alice")


async def code_before_the_one_that_was_used(world: World) -> Answer:
    assert (await world.stranger("198.51.100.1").sign_in("alice", code=world.code(1))).status == 201
    return await world.stranger().sign_in("alice")


async def disabled(world: World) -> Answer:
    await disable_person(world.outside, OPERATOR, "alice")
    return await world.stranger().sign_in("alice")


async def seed_that_does_not_open(world: World) -> Answer:
    alice = await world.person("alice")

    def job(tx: Tx) -> None:
        bob = tx.people.by_name("bob")
        assert bob is not None
        mine, his = tx.people.credential(alice.id), tx.people.credential(bob.id)
        assert isinstance(mine, Credential)
        assert isinstance(his, Credential)
        update = "UPDATE credential SET totp_sealed = :sealed WHERE person_id = :id"
        sql(tx, update, sealed=his.totp_sealed, id=alice.id)

    await world.store.write(job)
    return await world.stranger().sign_in("alice")


REFUSED: list[tuple[Attempt, str]] = [
    (unknown_user, "unknown_user"),
    (wrong_password, "wrong_password"),
    (empty_password, "wrong_password"),
    (endless_password, "wrong_password"),
    (wrong_code, "wrong_code"),
    (no_code, "wrong_code"),
    (code_of_another_alphabet, "wrong_code"),
    (old_code, "wrong_code"),
    (replayed_code, "replayed_code"),
    (code_before_the_one_that_was_used, "replayed_code"),
    (disabled, "disabled"),
    (seed_that_does_not_open, "unreadable_credential"),
]


@pytest.mark.parametrize(("attempt", "why"), REFUSED, ids=[attempt.__name__ for attempt, _ in REFUSED])
async def test_all_that_is_wrong_gets_one_answer_and_the_log_knows_which(world: World, attempt: Attempt, why: str):
    answer = await attempt(world)
    said = answer.json
    assert said.pop("request_id")
    assert (answer.status, said) == (
        401,
        {
            "type": "urn:jitgate:problem:not_signed_in",
            "title": "not signed in",
            "status": 401,
            "code": "not_signed_in",
            "detail": "the name, password or code is wrong",
            "hint": "check them; each code works once, so wait for the next",
        },
    )
    (event,) = await world.events("sign_in.refused")
    known = "" if why == "unknown_user" else (await world.person("alice")).id
    assert (event["detail"], event["subject"]["id"]) == ({"code": why}, known)
    assert event["actor"] == {"kind": "unknown", "id": "", "name": ""}  # a stranger's words are kept nowhere
    assert len(await world.events("key.registered")) == len(await world.events("sign_in.succeeded"))


async def test_a_sign_in_registers_the_key_and_says_so(world: World):
    alice = world.stranger()
    before = await world.size()
    answer = await alice.sign_in("alice")
    assert answer.status == 201
    registered, succeeded = await world.events(after=before)
    fingerprint = alice.signer.key.public.fingerprint
    assert (registered["type"], registered["detail"]["fingerprint"]) == ("key.registered", fingerprint)
    assert (succeeded["type"], succeeded["actor"]["name"]) == ("sign_in.succeeded", "alice")
    assert (succeeded["source"], succeeded["detail"]["factors"]) == ("192.0.2.7", "password totp")
    assert (await alice.get("/v1/me")).json["person"]["name"] == "alice"
    assert (await alice.get("/v1/keys")).json["keys"][0]["fingerprint"] == fingerprint
    assert alice.signer.token not in str(await world.events())


async def test_the_same_key_signs_in_again_without_another_registration(world: World):
    alice = world.stranger()
    await alice.sign_in("alice")
    world.clock.advance(STEP)
    assert (await alice.sign_in("alice")).status == 201
    assert len((await alice.get("/v1/keys")).json["keys"]) == 1
    assert len(await world.events("key.registered")) == 1


async def test_a_code_works_once_whoever_is_first(world: World):
    attempts = [world.stranger(f"198.51.100.{at}").sign_in("alice") for at in range(20)]
    # All are counted before any is looked at, so most are slowed down; those that are looked at get one success.
    statuses = sorted((await asyncio.gather(*(attempt for attempt in attempts))), key=lambda answer: answer.status)
    assert [answer.status for answer in statuses].count(201) == 1
    assert {answer.status for answer in statuses} == {201, 401, 429}
    assert len(await world.events("sign_in.succeeded")) == 1
    assert len(await world.events("key.registered")) == 1


async def test_a_code_works_once_when_every_attempt_is_looked_at(world: World):
    keys = [generate_ed25519() for _ in range(5)]
    alice = await world.person("alice")
    for key in keys:  # devices that are known have a count of their own
        await world.enter("alice", key=key)
    visitors = [world.stranger() for _ in keys]
    for visitor, key in zip(visitors, keys, strict=True):
        visitor.signer.key = key
    answers = await asyncio.gather(*(visitor.sign_in("alice") for visitor in visitors))
    assert sorted(answer.status for answer in answers) == [201, 401, 401, 401, 401]
    replayed = [event for event in await world.events("sign_in") if event["subject"]["id"] == alice.id]
    assert len(replayed) == 1  # the others of that minute are counted


async def test_guesses_are_slowed_down_and_a_success_forgives(world: World):
    for at in range(4):
        assert (await world.stranger(f"198.51.100.{at}").sign_in("alice", "wrong")).status == 401
    answer = await world.stranger("203.0.113.9").sign_in("alice")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "throttled", "1")
    unknown = [await world.stranger(f"198.51.100.{at}").sign_in("nobody") for at in range(5)]
    assert [each.status for each in unknown] == [401, 401, 401, 401, 429]  # who has no account waits as long
    assert unknown[-1].json["detail"] == answer.json["detail"]
    world.clock.advance(SECOND)
    assert (await world.stranger("203.0.113.9").sign_in("alice")).status == 201
    world.clock.advance(STEP)
    assert (await world.stranger("203.0.113.9").sign_in("alice", "wrong")).status == 401  # counted anew


async def test_parallel_guesses_are_not_free(world: World):
    guesses = [world.stranger(f"198.51.100.{at}").sign_in("alice", code=f"{at:06}") for at in range(20)]
    statuses = [answer.status for answer in await asyncio.gather(*guesses)]
    assert statuses.count(429) >= 16  # three slips are free, and one more is looked at


async def test_one_address_cannot_guess_at_many_accounts(world: World):
    statuses = [(await world.stranger().sign_in(f"user{at}")).status for at in range(24)]
    assert statuses.count(401) == 21
    assert statuses[-1] == 429
    assert (await world.stranger("198.51.100.1").sign_in("alice")).status == 201


async def test_strangers_cannot_lock_somebody_out_of_their_own_machine(world: World):
    known = await world.enter("alice", "203.0.113.1")
    for at in range(8):
        await world.stranger(f"198.51.100.{at}").sign_in("alice", "wrong")
    assert (await world.stranger("203.0.113.1").sign_in("alice")).code == "throttled"
    assert (await known.sign_in("alice")).status == 201


async def test_somebody_elses_key_is_not_taken(world: World):
    bob = await world.enter("bob")
    thief = world.stranger()
    thief.signer.key = bob.signer.key
    answer = await thief.sign_in("alice")
    assert (answer.status, answer.code) == (409, "conflict")
    registered = await world.store.read(lambda tx: tx.keys.current(bob.signer.key.public))
    assert registered is not None
    assert registered.person_id == bob.signer.person_id
    (event,) = await world.events("sign_in.refused")
    assert event["detail"] == {"code": "conflict"}
    again = await world.stranger("198.51.100.1").sign_in("alice")
    assert again.json["detail"] == "the name, password or code is wrong"  # the code is used up all the same


async def test_the_key_that_is_sent_must_be_the_one_that_signs(world: World):
    answer = await world.stranger().sign_in("alice", sent=generate_ed25519())
    assert (answer.status, answer.code) == (400, "bad_proof")
    assert (await world.stranger("198.51.100.1").sign_in("alice")).status == 201  # and the code was not looked at


WRONG_PROOFS: dict[str, dict[str, Any]] = {
    "for another name": {"subject": "bob"},
    "for another service": {"signed": {"origin": "https://jit.example.org"}},
    "for another method": {"signed": {"method": "PUT"}},
    "for another path": {"signed": {"path": "/v1/sign-in?x"}},
    "for another body": {"signed": {"body": b"{}"}},
    "by another key": {"signed": {"key": generate_ed25519()}},
    "none": {"headers": {"jitgate-proof": ""}},
    "no signature": {"headers": {"jitgate-proof": "AAAA"}},
    "not base 64": {"headers": {"jitgate-proof": "not base 64"}},
    "without a time": {"headers": {"jitgate-time": ""}},
    "of 1970": {"headers": {"jitgate-time": "1"}},
    "before time": {"headers": {"jitgate-time": "-1"}},
    "sent to another name": {"headers": {"host": "jit.example.org"}},
}


@pytest.mark.parametrize("wrong", WRONG_PROOFS.values(), ids=WRONG_PROOFS)
async def test_a_proof_that_is_wrong_in_one_field_opens_nothing(world: World, wrong: dict[str, Any]):
    answer = await world.stranger().sign_in("alice", **wrong)
    assert answer.status == 400
    assert not await world.events("sign_in.succeeded")
    assert not await world.events("key.registered")


@pytest.mark.parametrize("late", [-61 * SECOND, 61 * SECOND])
async def test_a_proof_of_another_minute_opens_nothing(world: World, late: int):
    answer = await world.stranger().sign_in("alice", signed={"time": world.clock() + late})
    assert (answer.status, answer.code) == (400, "bad_proof")


class Held(Executor):
    """Passwords are looked at when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go: list[Callable[[], None]] = []

    def submit(self, work: Callable[..., Any], /, *given: Any, **_more: Any) -> Future[Any]:
        result: Future[Any] = Future()
        self.go.append(lambda: result.set_result(work(*given)))
        self.asked.set()
        return result


async def test_disabled_while_the_password_is_checked(world: World):
    held = Held()
    world.change(hashing=held)
    attempt = asyncio.create_task(world.stranger().sign_in("alice"))
    await held.asked.wait()
    await disable_person(world.outside, OPERATOR, "alice")
    held.go[0]()
    answer = await attempt
    assert (answer.status, answer.json["detail"]) == (401, "the name, password or code is wrong")
    assert not await world.events("sign_in.succeeded")
    assert not await world.events("key.registered")


async def test_a_sign_in_ends_by_time_by_its_person_and_with_the_account(world: World):
    first, second = world.stranger(), world.stranger()
    await first.sign_in("alice")
    world.clock.advance(STEP)
    await second.sign_in("alice")
    assert (await first.post("/v1/sign-out")).status == 204
    assert (await first.get("/v1/me")).status == 401
    assert (await second.get("/v1/me")).status == 200
    await disable_person(world.outside, OPERATOR, "alice")
    assert (await second.get("/v1/me")).status == 401
    await enable_person(world.outside, OPERATOR, "alice")
    assert (await second.get("/v1/me")).status == 401  # given back by signing in, not by a token that came to light
    world.clock.advance(STEP)
    third = world.stranger()
    await third.sign_in("alice")
    world.clock.advance(8 * HOUR - 1)
    assert (await third.get("/v1/me")).status == 200
    world.clock.advance(1)
    assert (await third.get("/v1/me")).status == 401


async def test_a_password_hash_of_old_parameters_is_replaced(world: World):
    alice = await world.person("alice")

    async def stored() -> str:
        credential = await world.store.read(lambda tx: tx.people.credential(alice.id))
        assert credential is not None
        return credential.password_hash

    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    await world.store.write(lambda tx: tx.people.set_password_hash(alice.id, old))
    await world.stranger().sign_in("alice", "wrong")
    assert await stored() == old
    await world.stranger().sign_in("alice")
    assert "m=8,t=1," in await stored()
    world.clock.advance(MINUTE)
    assert (await world.stranger().sign_in("alice")).status == 201
