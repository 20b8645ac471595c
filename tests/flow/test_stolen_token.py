"""A session token in a thief's hands opens nothing: every act needs a signature by a key of its person."""

from typing import Any

import pytest
from tests.world import OPERATOR, Visitor, World

from jitgate.core.clock import SECOND
from jitgate.flow.people import disable_person
from jitgate.ssh.private import generate_ed25519

ACTS: dict[str, tuple[str, str, object]] = {
    "add a key": ("POST", "/v1/keys", {"key": generate_ed25519().public.line("thief")}),
    "remove a key": ("DELETE", "/v1/keys/{key}", None),
    "ask for a grant": ("POST", "/v1/grants", {"host": "web2"}),
    "end a grant": ("POST", "/v1/grants/{grant}/end", {}),
    "get a certificate": ("POST", "/v1/certificates", {"grant": "{grant}", "host": "web1"}),
}

WRONG_PROOFS: dict[str, dict[str, Any]] = {
    "none": {"headers": {"jitgate-proof": ""}},
    "by a key of nobody": {"signed": {"key": generate_ed25519()}},
    "no signature": {"headers": {"jitgate-proof": "AAAA"}},
    "not base 64": {"headers": {"jitgate-proof": "é"}},
    "endless": {"headers": {"jitgate-proof": "A" * 20_000}},
    "for somebody else": {"subject": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
    "for another service": {"signed": {"origin": "https://jit.example.org"}},
    "for another method": {"signed": {"method": "PUT"}},
    "for another path": {"signed": {"path": "/v1/other"}},
    "for another body": {"signed": {"body": b"{ }"}},
    "of two minutes ago": {"signed": {"time": -121 * SECOND}},
    "of the next minute": {"signed": {"time": 61 * SECOND}},
    "without its time": {"headers": {"jitgate-time": ""}},
    "with another time": {"headers": {"jitgate-time": "1700000000000001"}},
    "with a time in other digits": {"headers": {"jitgate-time": "²"}},
}


async def at_home(world: World) -> tuple[Visitor, dict[str, str]]:
    """Alice, signed in, with a key and a grant."""
    alice = await world.enter("alice")
    (key,) = (await alice.get("/v1/keys")).json["keys"]
    return alice, {"{key}": key["id"], "{grant}": await alice.grant()}


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    for name, text in names.items():
        value = value.replace(name, text) if isinstance(value, str) else value
    return value


async def state(world: World) -> list[object]:
    """All that an act could change."""

    def read(tx: Any) -> list[object]:
        alice = tx.people.by_name("alice")
        return [tx.keys.of_person(alice.id), tx.grants.latest(10), tx.epoch()]

    return [*await world.store.read(read), await world.events("certificate.issued")]


@pytest.mark.parametrize("wrong", WRONG_PROOFS.values(), ids=WRONG_PROOFS)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
async def test_a_token_with_a_wrong_proof_does_nothing_and_is_recorded(
    world: World, act: tuple[str, str, object], wrong: dict[str, Any]
):
    alice, names = await at_home(world)
    method, path, body = filled(act[0], names), filled(act[1], names), filled(act[2], names)
    if "time" in wrong.get("signed", {}):
        wrong = {"signed": {"time": world.clock() + wrong["signed"]["time"]}}
    before, newest = await state(world), await world.size()
    answer = await alice.send(alice.signer.call(method, path, body, **wrong))
    assert answer.status in (400, 403)
    assert answer.code in ("bad_proof", "key_not_registered")
    assert await state(world) == before
    (event,) = await world.events(after=newest)
    assert (event["type"], event["outcome"], event["source"]) == ("request.refused", "refused", "192.0.2.7")
    assert event["actor"]["id"] == alice.signer.person_id
    assert event["detail"]["code"] == answer.code
    assert (event["detail"]["method"], event["detail"]["route"].split("/")[:3]) == (method, path.split("/")[:3])


async def test_every_act_works_with_the_right_proof(world: World):
    """What the refusals above are worth: the same requests, signed, are taken."""
    alice, names = await at_home(world)
    for name in ("get a certificate", "ask for a grant", "end a grant"):
        method, path, body = ACTS[name]
        answer = await alice.send(alice.signer.call(method, filled(path, names), filled(body, names)))
        assert answer.status in (200, 201), answer


async def test_another_persons_key_proves_nothing(world: World):
    alice, _ = await at_home(world)
    bob = await world.enter("bob")
    answer = await alice.certificate(signed={"key": bob.signer.key})
    assert (answer.status, answer.code) == (403, "key_not_registered")


async def test_a_proof_that_was_overheard_makes_no_key(world: World):
    """Adding a key is the one act that a second time would harm: its proof works once."""
    alice, _ = await at_home(world)
    new = generate_ed25519()
    call = alice.signer.call("POST", "/v1/keys", {"key": new.public.line("new")}, new_key=new)
    added = await alice.send(call)
    assert added.status == 201
    assert (await alice.delete(f"/v1/keys/{added.json['id']}")).status == 204
    again = await alice.send(call)
    assert (again.status, again.code) == (400, "bad_proof")
    assert len((await alice.get("/v1/keys")).json["keys"]) == 1


async def test_a_proof_of_another_request_makes_no_key(world: World):
    """The new key signs the same request: else a thief could register a key whose holder never asked for it."""
    alice, _ = await at_home(world)
    new, other = generate_ed25519(), generate_ed25519()
    for new_key in (other, alice.signer.key, None):
        answer = await alice.post("/v1/keys", {"key": new.public.line("new")}, new_key=new_key)
        assert answer.status == 400
    assert len((await alice.get("/v1/keys")).json["keys"]) == 1


async def test_a_token_ends_with_its_persons_account(world: World):
    alice, _ = await at_home(world)
    await disable_person(world.outside, OPERATOR, "alice")
    for request in (alice.get("/v1/me"), alice.certificate(), alice.post("/v1/grants", {"host": "web1"})):
        answer = await request
        assert (answer.status, answer.code) == (401, "not_signed_in")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer jgs_",
        "Bearer jgs_" + "A" * 43,
        "Basic YWxpY2U6eA==",
        "jgs_" + "A" * 43,
        "Bearer " + "é" * 47,
    ],
)
async def test_what_is_no_token_is_nobody(world: World, value: str):
    alice, _ = await at_home(world)
    answer = await alice.get("/v1/me", headers={"authorization": value})
    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, "not_signed_in", "Bearer")
