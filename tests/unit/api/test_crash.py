"""A mistake of ours is one answer with a number, one line in the log, and no secret in either."""

import logging
from typing import Any

import pytest
from tests.client import PASSWORD
from tests.world import World

from jitgate.api import routes_access
from jitgate.api.schemas import SignInRequest
from jitgate.core.secret import Secret
from jitgate.flow.sign_in import SignedIn
from jitgate.identity.sign_in import Evidence


async def crash(*_given: Any, **_more: Any) -> Any:
    raise ZeroDivisionError("a secret: hunter2")


async def test_a_crash_is_a_problem_and_the_next_request_is_served(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    alice = await world.enter("alice")
    with monkeypatch.context() as patch:
        patch.setattr(routes_access, "issue_certificate", crash)
        answer = await alice.post("/v1/certificates", {"grant": "x", "host": "x"})
    assert (answer.status, answer.code) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert "hunter2" not in answer.body.decode()
    (line,) = [record for record in caplog.records if record.name == "jitgate.api"]
    assert getattr(line, "request_id") == answer.json["request_id"]  # noqa: B009  # an extra field
    assert (await alice.get("/v1/me")).status == 200


async def test_a_crash_of_the_store_is_a_no_and_nothing_of_it_stays(world: World, monkeypatch: pytest.MonkeyPatch):
    alice = await world.enter("alice")
    from jitgate.adapters.db.grants import Grants  # noqa: PLC0415

    def broken(*_given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Grants, "add", broken)
        answer = await alice.post("/v1/grants", {"host": "web1"})
    assert answer.status == 500
    assert not await world.events("grant.opened")
    assert (await alice.post("/v1/grants", {"host": "web1"})).status == 201


async def test_nothing_that_is_secret_is_in_any_log(world: World, caplog: pytest.LogCaptureFixture):
    """Every level, every logger, while things go right and wrong."""
    caplog.set_level(logging.DEBUG)
    alice = world.stranger()
    code = world.code()
    await alice.sign_in("alice")
    await world.stranger("198.51.100.1").sign_in("alice", "hunter2-wrong")
    await world.stranger("198.51.100.2").post("/v1/sign-in", b'{"password": "hunter2-malformed')
    await alice.grant()
    await alice.certificate()
    await alice.certificate(headers={"jitgate-proof": ""})
    text = "\n".join(f"{record.getMessage()} {record.exc_text or ''} {vars(record)}" for record in caplog.records)
    for secret in (PASSWORD, code, alice.signer.token, alice.signer.token[4:], "hunter2"):
        assert secret not in text


def test_no_repr_shows_a_secret():
    body = SignInRequest(name="alice", password="hunter2", code="123456", key="x")
    evidence = Evidence("alice", Secret("hunter2"), Secret("123456"), "x", b"", None)  # type: ignore[arg-type]  # unused here
    signed_in = SignedIn(Secret("jgs_hunter2"), None, None, None)  # type: ignore[arg-type]  # unused here
    for thing in (body, evidence, signed_in):
        assert "hunter2" not in repr(thing)
        assert "hunter2" not in f"{thing}"
        assert "123456" not in repr(thing)


async def test_a_failed_statement_does_not_show_its_values(world: World):
    """A database error's text goes to the log; password hashes and sealed seeds are among its parameters."""
    alice = await world.person("alice")

    def job(tx: Any) -> None:
        credential = tx.people.credential(alice.id)
        tx.people.add(alice, credential, world.new_id())

    with pytest.raises(Exception, match="IntegrityError") as caught:
        await world.store.write(job)
    assert "argon2" not in str(caught.value)
    assert alice.id not in str(caught.value)
