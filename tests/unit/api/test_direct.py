"""The short way for the one request that is asked for most answers as the declared route does."""

from typing import Any

import pytest
from tests.client import Answer, Call
from tests.world import World

from jitgate.api.app import make_api
from jitgate.api.limits import Limits
from jitgate.flow.floods import Floods

CALLS: dict[str, dict[str, Any]] = {
    "right": {},
    "another type": {"headers": {"content-type": "text/plain"}},
    "no type": {"headers": {"content-type": ""}},
    "a type with its charset": {"headers": {"content-type": "Application/JSON; charset=utf-8"}},
    "no token": {"headers": {"authorization": ""}},
    "another scheme": {"headers": {"authorization": "Basic x"}},
    "a token of nobody": {"headers": {"authorization": "Bearer jgs_" + "x" * 43}},
    "no proof": {"headers": {"jitgate-proof": ""}},
    "a proof of another body": {"signed": {"body": b"{}"}},
    "a proof of another path": {"signed": {"path": "/v1/grants"}},
    "no time": {"headers": {"jitgate-time": ""}},
    "another service": {"headers": {"host": "evil.example.com"}},
    "a field too much": {"more": {"login": "root"}},
    "a field of another kind": {"more": {"grant": 1}},
    "a field that is too long": {"more": {"host": "x" * 65}},
    "another host": {"more": {"host": "db1"}},
    "another grant": {"more": {"grant": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}},
    "no object": {"raw": b"[]"},
    "nothing": {"raw": b""},
    "half an object": {"raw": b'{"grant": '},
    "no UTF-8": {"raw": b'{"grant": "\xff", "host": "web1"}'},
    "a constant of JavaScript": {"raw": b'{"grant": NaN, "host": "web1"}'},
    "too much": {"raw": b" " * 65_537},
}


def said(answer: Answer) -> tuple[object, ...]:
    """All of an answer that is not new each time."""
    body = answer.json
    problem = [body.get(name) for name in ("code", "hint", "checks", "login", "principals", "key_id", "host", "grant")]
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "content-length"}}
    return answer.status, body.keys(), problem, headers


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_it_answers_as_the_declared_route_does(world: World, call: dict[str, Any]):
    alice = await world.enter("alice")
    grant = (await alice.post("/v1/grants", {"host": "web1"})).json["grant"]["id"]
    wrong = dict(call)
    body = wrong.pop("raw", {"grant": grant, "host": "web1"} | wrong.pop("more", {}))
    sent: Call = alice.signer.call("POST", "/v1/certificates", body, **wrong)
    start = await world.size()
    shortly = await alice.send(sent)
    middle = await world.size()
    world.change(floods=Floods())  # else the second refusal of a kind is only counted
    declared = make_api()
    declared.state.outside = world.outside
    world.application = Limits(declared, world.clock, world.outside.random)
    assert said(await alice.send(sent)) == said(shortly)
    events = [event["type"] for event in await world.events(after=start)]
    assert events[: middle - start] == events[middle - start :]


async def test_a_client_that_goes_away_before_its_body_came_crashes_nothing(world: World):
    alice = await world.enter("alice")
    call = alice.signer.call("POST", "/v1/certificates", {"grant": "x", "host": "x"})
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    headers = [(name.encode(), value.encode()) for name, value in call.headers.items()]
    scope = {"type": "http", "method": "POST", "path": call.path, "raw_path": call.path.encode(), "query_string": b""}
    await world.application({**scope, "headers": headers, "client": ("192.0.2.7", 5)}, receive, send)
    assert messages[0]["status"] == 400
