"""Every route declares whom it lets in, and lets in nobody else; every answer that is a no has one form."""

import re
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from tests.client import Call, Signer
from tests.world import URL, World

from jitgate.api.access import anyone, proved, signed_in
from jitgate.api.app import make_api

DECLARED = {anyone, signed_in, proved}
OPEN = {
    "GET /.well-known/jitgate",
    "GET /.well-known/jitgate/krl",
    "GET /.well-known/jitgate/tls-ca",
    "GET /livez",
    "GET /readyz",
    "GET /v1/checkpoint",
    "POST /v1/hosts/join",
    "POST /v1/sign-in",
    "POST /v1/sign-in/device",
    "POST /v1/sign-in/device/{waiting_id}",
    "POST /v1/sign-in/oidc",
}
"""What strangers may call; anything that is added here is a decision."""
TOKEN_IS_ENOUGH = {"POST /v1/sign-out"}  # of all that changes something: who holds a token may throw it away


def declared(dependant: Any) -> set[Any]:
    """What a route depends on, at any depth."""
    return {dependant.call} | {call for each in dependant.dependencies for call in declared(each)}


ROUTES = {
    f"{method} {route.path}": declared(route.dependant) & DECLARED
    for route in iter_route_contexts(make_api().routes)
    if isinstance(route.original_route, APIRoute)
    for method in sorted(route.methods or ())
}


def test_nothing_is_served_that_is_no_api_route_but_its_description():
    others = [r for r in iter_route_contexts(make_api().routes) if not isinstance(r.original_route, APIRoute)]
    assert [route.path for route in others] == ["/openapi.json"]
    assert len(ROUTES) > 15


def test_the_walk_sees_every_route_that_is_described():
    described = {f"{m.upper()} {path}" for path, methods in make_api().openapi()["paths"].items() for m in methods}
    assert described == ROUTES.keys()


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_declares_whom_it_lets_in(route: str):
    assert ROUTES[route], "name one of Anyone, SignedIn, Proved"
    if route in OPEN:
        assert ROUTES[route] == {anyone}
    else:
        assert anyone not in ROUTES[route]
        assert signed_in in ROUTES[route]
    if not route.startswith("GET") and route not in OPEN | TOKEN_IS_ENOUGH:
        assert proved in ROUTES[route]


def address(route: str) -> tuple[str, str]:
    method, path = route.split(" ")
    return method, re.sub(r"\{[^}]*\}", "01ARZ3NDEKTSV4RRFFQ69G5FAV", path)


@pytest.mark.parametrize("route", sorted(ROUTES.keys() - OPEN))
async def test_strangers_get_nothing_and_are_told_how_to_sign_in(world: World, route: str):
    method, path = address(route)
    for body in (None, {}, {"key": "x", "grant": "x", "host": "x"}):
        answer = await world.stranger().send(Signer(URL, clock=world.clock).call(method, path, body))
        assert (answer.status, answer.code) == (401, "not_signed_in"), (route, body)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json["hint"]
    assert not await world.events("request.refused")


BODIES: dict[str, object] = {
    "/v1/grants": {"host": "web1"},
    "/v1/certificates": {"grant": "x", "host": "x"},
    "/v1/keys": {"key": "x"},
    "/v1/grants/01ARZ3NDEKTSV4RRFFQ69G5FAV/end": {},
}
ACTS = sorted(route for route in ROUTES.keys() - OPEN - TOKEN_IS_ENOUGH if not route.startswith("GET"))


@pytest.mark.parametrize("route", ACTS)
async def test_a_token_without_its_key_changes_nothing(world: World, route: str):
    method, path = address(route)
    alice = await world.enter("alice")
    answer = await alice.send(alice.signer.call(method, path, BODIES.get(path), headers={"jitgate-proof": ""}))
    assert (answer.status, answer.code) == (400, "bad_proof")
    assert len(await world.events("request.refused")) == 1


# --- the form of a no ---

PROBLEM = {"type", "title", "status", "code", "detail", "hint", "request_id"}
REFUSED: dict[str, tuple[Call, int, str]] = {
    "no such address": (Call("GET", "/v1/nothing", {}, b""), 404, "not_found"),
    "no such address at all": (Call("GET", "/", {}, b""), 404, "not_found"),
    "another method": (Call("PUT", "/v1/me", {}, b""), 405, "method_not_allowed"),
    "a slash too many": (Call("GET", "/v1/me/", {}, b""), 404, "not_found"),
    "not signed in": (Call("GET", "/v1/me", {}, b""), 401, "not_signed_in"),
    "no JSON": (Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b"{"), 400, "bad_input"),
    "deep JSON": (Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b"[" * 60_000), 400, "bad_input"),
    "no UTF-8": (Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b'{"a":"\xff"}'), 400, "bad_input"),
    "another type": (Call("POST", "/v1/sign-in", {"content-type": "text/plain"}, b"{}"), 400, "bad_input"),
    "no type": (Call("POST", "/v1/sign-in", {}, b"{}"), 400, "bad_input"),
    "a form": (
        Call("POST", "/v1/sign-in", {"content-type": "application/x-www-form-urlencoded"}, b"a=b"),
        400,
        "bad_input",
    ),
    "nothing": (Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b""), 400, "bad_input"),
    "a list": (Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b"[]"), 400, "bad_input"),
    "too much": (Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b" " * 65_537), 413, "too_large"),
    "too much for a route without a body": (Call("GET", "/v1/me", {}, b" " * 65_537), 401, "not_signed_in"),
    "a number that is none": (
        Call("POST", "/v1/sign-in", {"content-type": "application/json"}, b'{"name": 1' + b"0" * 9000 + b"}"),
        400,
        "bad_input",
    ),
}


@pytest.mark.parametrize(("call", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_no_is_a_problem_with_a_hint_and_the_safe_headers(world: World, call: Call, status: int, code: str):
    answer = await world.send(call)
    assert (answer.status, answer.code) == (status, code)
    problem = answer.json
    assert problem.keys() == PROBLEM
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["type"]) == (status, f"urn:jitgate:problem:{code}")
    assert problem["detail"]
    assert problem["hint"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers


@pytest.mark.parametrize("size", [65_536, 65_537, 1_000_000])
async def test_a_body_is_bounded_however_it_comes(world: World, size: int):
    alice = await world.enter("alice")
    key = (await alice.get("/v1/keys")).json["keys"][0]["id"]
    for method, path in (("POST", "/v1/sign-in"), ("POST", "/v1/grants"), ("DELETE", f"/v1/keys/{key}")):
        call = alice.signer.call(method, path, b"x" * size, headers={"content-type": "application/json"})
        chunks = [call.body[at : at + 1000] for at in range(0, size, 1000)]
        answer = await world.send(call, chunks=chunks)
        too_large = size > 65_536
        assert (answer.code == "too_large") == too_large, answer
        assert answer.status == 413 if too_large else answer.status in (400, 204)


async def test_an_unknown_field_is_named_and_its_value_is_not(world: World):
    secret = "hunter2-hunter2"
    body = {"name": "alice", "password": secret, "code": "123456", "key": "x", "pass\u202eword": secret}
    answer = await world.stranger().post("/v1/sign-in", body)
    assert (answer.status, answer.code) == (400, "bad_input")
    assert secret not in answer.body.decode()
    assert "\u202e" not in answer.json["detail"]
    endless = await world.stranger().post("/v1/sign-in", {"x" * 50_000: 1})
    assert len(endless.body) < 1000


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\u202e", "x" * 64, "é", "'; DROP TABLE person; --", "%s{0}"])
@pytest.mark.parametrize("field", ["name", "password", "code", "key"])
async def test_no_text_crashes_a_sign_in(world: World, field: str, text: str):
    body = {"name": "alice", "password": "x", "code": "000000", "key": Signer(URL).key.public.line()}
    answer = await world.stranger().post("/v1/sign-in", body | {field: text}, subject="alice")
    assert answer.status in (400, 401), answer
    assert answer.json["hint"]


@pytest.mark.parametrize(
    "path", ["/v1/keys/%ff", "/v1/keys/%00", "/v1/keys/..%2f..", "/v1/keys/é", "/v1/keys/" + "x" * 5000]
)
async def test_no_path_crashes_a_route(world: World, path: str):
    alice = await world.enter("alice")
    answer = await alice.delete(path.replace("é", "%C3%A9"), signed={"path": "/"} if len(path) > 2048 else None)
    assert answer.status in (400, 404), answer


async def test_no_header_says_who_the_client_is(world: World):
    alice = await world.enter("alice")
    spoofed = dict.fromkeys(("x-forwarded-for", "forwarded", "x-real-ip", "client-ip"), "203.0.113.99")
    await alice.post("/v1/grants", {"host": "db1"}, headers=spoofed)
    (event,) = await world.events("grant.refused")
    assert event["source"] == "192.0.2.7"


async def test_another_host_name_is_none_of_ours(world: World):
    alice = await world.enter("alice")
    for host in ("evil.example.com", "", "jit.example.com.evil.com", "jit.example.com:8443", "jit.example.com@evil"):
        answer = await alice.post("/v1/grants", {"host": "web1"}, headers={"host": host})
        assert answer.status == 400
    assert (await alice.post("/v1/grants", {"host": "web1"}, headers={"host": "JIT.example.com"})).status == 201
