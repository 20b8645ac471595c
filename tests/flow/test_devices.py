"""The device flow: the key's proof opens and ends it, the token never reaches the person, what waits is bounded."""

import asyncio
from typing import Any

import pytest
from tests.client import Answer
from tests.corp import Corp
from tests.providers import SERVICE_CLIENT
from tests.world import Visitor, World

from jitgate.core.clock import MINUTE, SECOND
from jitgate.flow import devices
from jitgate.flow.ports import Tx
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases


@pytest.fixture
def corp(world: World) -> Corp:
    made = Corp(world)
    made.with_devices()
    return made


async def begin(visitor: Visitor, provider: str = "corp", **wrong: Any) -> Answer:
    body = {"provider": provider, "key": visitor.signer.key.public.line("a@b")}
    subject = wrong.pop("subject", f"oidc:{provider}")
    return await visitor.send(visitor.signer.call("POST", "/v1/sign-in/device", body, subject=subject, **wrong))


async def end(visitor: Visitor, begun: Answer, **wrong: Any) -> Answer:
    subject = wrong.pop("subject", "oidc:corp")
    path = f"/v1/sign-in/device/{begun.json['id']}"
    answer = await visitor.send(visitor.signer.call("POST", path, {}, subject=subject, **wrong))
    if answer.status == 201:
        visitor.signer.signed_in(answer)
    return answer


async def started(corp: Corp) -> tuple[Visitor, Answer]:
    visitor = corp.world.stranger()
    begun = await begin(visitor)
    assert begun.status == 201, begun
    corp.world.clock.advance(2 * SECOND)
    return visitor, begun


async def test_a_person_signs_in_elsewhere(corp: Corp):
    visitor, begun = await started(corp)
    assert begun.json["user_code"] == "WDJB-MJHT"
    assert begun.json["verification_uri"].startswith("https://idp.example.com/")
    assert "device_code" not in begun.json
    waiting = await end(visitor, begun)
    assert (waiting.status, waiting.json) == (202, {"state": "pending", "interval": 1})
    corp.fake.approve()
    corp.world.clock.advance(SECOND)
    done = await end(visitor, begun)
    assert done.status == 201, done
    assert done.json["person"]["name"] == "alice"
    assert set(done.json) == {"token", "expires_at", "person", "key"}  # no ID token among them
    await visitor.grant("web1")
    assert (await visitor.certificate("web1")).status == 201
    assert (await end(visitor, begun)).code == "device_expired"


async def test_the_provider_is_not_asked_more_often_than_it_wants(corp: Corp):
    visitor, begun = await started(corp)
    for _ in range(5):
        assert (await end(visitor, begun)).status == 202
    assert corp.fake.requests.count("/dex/token") == 1
    corp.fake.approve("slow_down")
    corp.world.clock.advance(SECOND)
    assert (await end(visitor, begun)).json == {"state": "pending", "interval": 6}
    corp.fake.approve("approved")
    corp.world.clock.advance(5 * SECOND)
    assert (await end(visitor, begun)).status == 202
    corp.world.clock.advance(SECOND)
    assert (await end(visitor, begun)).status == 201


async def test_only_the_key_that_began_ends_it(corp: Corp):
    visitor, begun = await started(corp)
    corp.fake.approve()
    thief = corp.world.stranger()
    stolen = await end(thief, begun)
    other_provider = await end(visitor, begun, subject="oidc:other")
    assert (stolen.code, other_provider.code) == ("bad_proof", "bad_proof")
    assert corp.fake.requests.count("/dex/token") == 0
    assert (await end(visitor, begun)).status == 201


async def test_a_beginning_needs_the_keys_proof(corp: Corp):
    answer = await begin(corp.world.stranger(), signed={"key": generate_ed25519()})
    assert answer.code == "bad_proof"
    assert not corp.fake.requests


@pytest.mark.parametrize(
    ("state", "code"),
    [("access_denied", "device_denied"), ("expired_token", "device_expired"), ("invalid_grant", "device_expired")],
)
async def test_a_no_ends_it_and_is_told(corp: Corp, state: str, code: str):
    visitor, begun = await started(corp)
    corp.fake.approve(state)
    answer = await end(visitor, begun)
    assert (answer.status, answer.code) == (403, code)
    assert (await corp.world.events("sign_in.refused"))[-1]["detail"] == {"code": code, "provider": "corp"}
    assert (await end(visitor, begun)).status == 404


async def test_it_runs_out(corp: Corp):
    visitor, begun = await started(corp)
    corp.world.clock.advance(5 * MINUTE)
    corp.fake.approve()
    answer = await end(visitor, begun)
    assert (answer.status, answer.code) == (404, "device_expired")


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "jitctl"}, "token_audience"),
        ({"nonce": "n"}, "token_nonce"),
        ({"iss": "https://x.example.com"}, "token_issuer"),
    ],
)
async def test_the_token_is_checked_as_every_other(corp: Corp, claims: dict[str, Any], code: str):
    visitor, begun = await started(corp)
    token = corp.fake.token(**({"aud": SERVICE_CLIENT} | claims))
    corp.fake.token = lambda **_: token  # type: ignore[method-assign]  # what the provider gives, whatever is asked
    corp.fake.approve()
    answer = await end(visitor, begun)
    assert (answer.status, answer.code) == (401, code)
    assert (await end(visitor, begun)).status == 404


async def test_a_provider_that_goes_away_in_between_may_come_back(corp: Corp):
    visitor, begun = await started(corp)
    corp.fake.approve()
    corp.fake.down = "refuse"
    answer = await end(visitor, begun)
    assert (answer.status, answer.code) == (503, "unreachable")
    corp.fake.down = ""
    corp.world.clock.advance(SECOND)
    assert (await end(visitor, begun)).status == 201


async def test_what_waits_is_bounded_for_each_address(corp: Corp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "WAITING_OF_ONE", 2)
    visitor = corp.world.stranger()
    assert [(await begin(visitor)).status for _ in range(3)] == [201, 201, 429]
    assert (await begin(corp.world.stranger("198.51.100.9"))).status == 201
    corp.world.clock.advance(5 * MINUTE + SECOND)
    assert (await begin(visitor)).status == 201


async def test_those_who_begin_at_once_are_bounded_as_those_one_after_the_other(
    corp: Corp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "WAITING_OF_ONE", 3)
    visitor = corp.world.stranger()
    assert [(await begin(visitor)).status] == [201]
    corp.fake.requests.clear()
    found = await asyncio.gather(*(begin(visitor) for _ in range(12)))
    assert sorted(each.status for each in found) == [201] * 2 + [429] * 10
    assert corp.fake.requests.count("/dex/device/code") == 2  # nor does the provider hear of the others


async def test_a_provider_that_does_not_begin_takes_no_place(corp: Corp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "WAITING_OF_ONE", 2)
    visitor = corp.world.stranger()
    assert (await begin(visitor)).status == 201
    corp.fake.down = "refuse"
    assert [(await begin(visitor)).status for _ in range(3)] == [503] * 3
    corp.fake.down = ""
    assert (await begin(visitor)).status == 201


async def test_a_provider_without_a_client_for_it(corp: Corp):
    corp.set_up()
    answer = await begin(corp.world.stranger())
    assert (answer.status, answer.code) == (404, "no_device_flow")


async def test_the_device_code_is_sealed_in_the_database(corp: Corp):
    _, begun = await started(corp)
    (code,) = corp.fake.devices

    def job(tx: Tx) -> bytes:
        found = tx.device_sign_ins.by_id(begun.json["id"])
        assert found is not None
        return found.device_code

    assert code.encode() not in await corp.world.store.read(job)


async def test_two_that_ask_at_once_make_one_sign_in(corp: Corp):
    visitor, begun = await started(corp)
    corp.fake.approve()
    first, second = await asyncio.gather(end(visitor, begun), end(visitor, begun))
    assert {first.status, second.status} in ({201, 202}, {201, 404})
    assert len(await corp.world.events("sign_in.succeeded")) == 1
