"""Signing in by an identity provider: the browser's way, what may come back, and what a hostile provider gets."""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from tests.providers import CLIENT, ISSUER, FakeProvider
from tests.unit.cli.conftest import Machine, Person, follow, login
from tests.unit.cli.fake_service import FakeService, problem

import jitgate.cli.oidc
from jitgate.cli.answers import Row
from jitgate.cli.oidc import endpoints_of
from jitgate.cli.providers import as_ways
from jitgate.core.errors import BadInput

pytestmark = pytest.mark.enable_socket  # a service and a provider on loopback, made for these tests


def back_with(**changes: str | None) -> Callable[[str], httpx2.Response]:
    """The browser comes back with these fields instead of the provider's."""

    def do(url: str) -> httpx2.Response:
        answer = httpx2.get(url)
        where, _, query = answer.headers["location"].partition("?")
        fields = {name: values[0] for name, values in parse_qs(query).items()} | changes
        return httpx2.get(where, params={name: value for name, value in fields.items() if value is not None})

    return do


def test_the_browser_signs_in_with_a_token_made_for_this_key(machine: Machine, service: FakeService, person: Person):
    """The provider checks PKCE, the service the nonce over service, provider and key."""
    status, err = login(machine, service)
    assert status == 0, err
    assert "signed in to" in err
    assert "as alice until" in err
    assert "You are signed in" in person.page
    assert (machine.state / "token").is_file()
    assert 'provider = "dex"' in (machine.config / "config.toml").read_text()


def test_the_address_holds_no_secret_and_asks_as_it_must(machine: Machine, service: FakeService, person: Person):
    _, err = login(machine, service)
    found = re.search(r"^  (http\S+)$", err, re.MULTILINE)
    assert found, err
    fields = {name: values[0] for name, values in parse_qs(urlsplit(found[1]).query).items()}
    assert person.page
    assert fields["response_type"] == "code"
    assert fields["code_challenge_method"] == "S256"
    assert fields["client_id"] == CLIENT
    assert fields["scope"] == "openid groups"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", fields["redirect_uri"])
    assert len(fields["state"]) >= 43
    assert set(fields) == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method",
    }  # fmt: skip


def test_the_page_does_not_say_signed_in_when_the_service_refuses(
    machine: Machine, service: FakeService, person: Person
):
    service.instead["POST /v1/sign-in/oidc"] = lambda _: problem(403, "person_unknown", "nobody here is linked")
    status, err = login(machine, service)
    assert status == 4
    assert "nobody here is linked" in err
    assert "You are not signed in" in person.page
    assert not (machine.state / "token").exists()


def test_the_next_sign_in_goes_the_same_way(machine: Machine, service: FakeService, person: Person):
    assert login(machine, service)[0] == 0
    status, _, err = machine.jitctl("login")
    assert status == 0, err
    assert len(person.saw) == 2


def test_which_way_must_be_said_where_there_are_several_and_nobody_to_ask(
    machine: Machine, service: FakeService, person: Person
):
    status, _, err = machine.jitctl("login", service.url)
    assert status == 2
    assert "dex" in err
    assert "--provider NAME or --local" in err
    assert not person.threads


@pytest.mark.parametrize(
    "options",
    [
        ("--provider", "dex", "--local"),
        ("--provider", "dex", "--user", "alice"),
        ("--local", "--device"),
        ("--user", "alice", "--no-browser"),
        ("--provider", "dex", "--device", "--no-browser"),
    ],
)
def test_options_that_do_not_go_together(machine: Machine, service: FakeService, options: tuple[str, ...]):
    status, _, err = machine.jitctl("login", service.url, *options)
    assert status == 2, err
    assert not service.requests


def test_a_provider_that_the_service_does_not_know(machine: Machine, service: FakeService, person: Person):
    status, _, err = machine.jitctl("login", service.url, "--provider", "ghost")
    assert status == 6
    assert "there is dex" in err
    assert not person.threads


# --- what comes back to the loopback port ---


def test_an_answer_with_another_state_is_not_taken_and_the_right_one_is(
    machine: Machine, service: FakeService, person: Person
):
    """Any program of the machine, and any page in the browser, can call the port."""
    wrong: list[httpx2.Response] = []

    def meddled(url: str) -> httpx2.Response:
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        port = urlsplit(redirect).port
        state = parse_qs(urlsplit(url).query)["state"][0]
        for target, headers in (
            (f"{redirect}?code=evil&state=wrong", {}),
            (f"{redirect}?code=evil", {}),
            (f"{redirect}?code=evil&state={state}&state=wrong", {}),
            (f"http://127.0.0.1:{port}/favicon.ico?code=evil&state={state}", {}),
            (f"{redirect}?code=evil&state={state}", {"host": f"evil.example.com:{port}"}),
        ):
            wrong.append(httpx2.get(target, headers=headers))
        return follow(url)

    person.does = meddled
    status, err = login(machine, service)
    assert status == 0, err
    assert [answer.status_code for answer in wrong] == [400, 400, 400, 404, 404]
    assert all("This is not an answer to your sign-in" in answer.text for answer in wrong)
    assert all("evil" not in answer.text for answer in wrong)


def test_the_port_takes_one_answer_and_is_closed_afterwards(machine: Machine, service: FakeService, person: Person):
    def twice(url: str) -> httpx2.Response:
        back = httpx2.get(url).headers["location"]
        first: list[httpx2.Response] = []
        thread = threading.Thread(target=lambda: first.append(httpx2.get(back)))
        service.instead["POST /v1/sign-in/oidc"] = lambda _: (held.wait(20), service.signed_in_as("alice"))[1]
        thread.start()
        while not any(path.endswith("/oidc") for _, path, _, _ in service.requests):
            time.sleep(0.01)
        again = httpx2.get(back)
        held.set()
        thread.join()
        assert again.status_code == 400
        person.saw.append(again)
        closed.append(back)
        return first[0]

    held, closed = threading.Event(), list[str]()
    person.does = twice
    status, err = login(machine, service)
    assert status == 0, err
    assert "You are signed in" in person.page
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(closed[0])


def test_a_silent_connection_keeps_nobody_waiting_and_a_reset_one_says_nothing(
    machine: Machine, service: FakeService, person: Person
):
    """Browsers open connections ahead of time, and drop them."""

    def careless(url: str) -> httpx2.Response:
        port = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0]).port or 0
        with socket.create_connection(("127.0.0.1", port)) as reset:
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reset.sendall(b"GET /callback HTTP/1.1\r\n")
        with socket.create_connection(("127.0.0.1", port)):
            return follow(url)

    person.does = careless
    began = time.monotonic()
    status, err = login(machine, service)
    assert status == 0, err
    assert time.monotonic() - began < 8  # the silent one is given up after ten seconds
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"iss": "https://evil.example.com"}, 1, "the answer is of 'https://evil.example.com'"),
        ({"code": None, "error": "access_denied", "error_description": "no\x1b[31m"}, 4, r"access_denied' 'no\u001b"),
        ({"code": None}, 1, "sent no code"),
        ({"code": "invented"}, 4, "invalid_grant"),
    ],
)
def test_an_answer_that_is_no_code_of_this_provider(
    machine: Machine, service: FakeService, person: Person, fields: dict[str, str | None], status: int, words: str
):
    person.does = back_with(**fields)
    found, err = login(machine, service)
    assert found == status, err
    assert words in err
    assert "You are not signed in" in person.page
    assert "\x1b" not in err


def test_a_provider_that_names_itself_must_do_so(
    machine: Machine, service: FakeService, provider: FakeProvider, person: Person
):
    """RFC 9207: who says that it sends its issuer is not believed without."""
    provider.document = {"authorization_response_iss_parameter_supported": True}
    assert "the answer is of 'nobody'" in login(machine, service)[1]
    person.does = back_with(iss=provider.issuer)
    assert login(machine, service)[0] == 0


def test_nobody_comes_back(machine: Machine, service: FakeService, person: Person, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jitgate.cli.oidc, "_BACK_WITHIN_S", 0.1)
    person.does = httpx2.get  # looks, and leaves
    status, err = login(machine, service)
    assert status == 8
    assert "nobody came back" in err


# --- a provider that is wrong, taken over or not there ---


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"issuer": "https://evil.example.com"}, "says that it is 'https://evil.example.com'"),
        ({"issuer": 7}, "no text 'issuer'"),
        ({"authorization_endpoint": "http://evil.example.com/auth"}, "is not https"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "is not"),
        ({"authorization_endpoint": "https://user@evil.example.com/auth"}, "is not an address"),
        ({"authorization_endpoint": "https://x/\x1b]0;owned\x07"}, "is not an address"),
        ({"authorization_endpoint": "https://x/" + "a" * 4000}, "is not an address"),
        ({"authorization_endpoint": "file:///etc/passwd"}, "is not"),
        ({"token_endpoint": "http://evil.example.com/token"}, "is not https"),
        ({"token_endpoint": 7}, "token_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "cannot do PKCE"),
    ],
)
def test_a_discovery_document_that_is_not_this_providers(
    machine: Machine,
    service: FakeService,
    provider: FakeProvider,
    person: Person,
    document: dict[str, Any],
    words: str,
):
    provider.document = document
    status, err = login(machine, service)
    assert status == 1, err
    assert words in err
    assert all(c.isprintable() or c == "\n" for c in err)
    assert not person.threads


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
def test_a_provider_that_is_reached_by_https_does_not_hand_on_to_plain_http(name: str):
    """Not even to this machine, where another program could listen."""
    row = {"name": "dex", "issuer": ISSUER, "client_id": CLIENT, "scopes": ["openid"], "flows": ["code"]}
    (provider,) = as_ways({"sign_in": ["oidc"], "providers": [row]}).providers
    document: Row = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/x", "token_endpoint": f"{ISSUER}/x"}
    assert endpoints_of(document, provider).token == f"{ISSUER}/x"
    with pytest.raises(BadInput, match="is not https"):
        endpoints_of(document | {name: "http://127.0.0.1:8000/x"}, provider)


@pytest.mark.parametrize("down", ["error", "redirect", "html", "endless", "compressed"])
def test_a_provider_that_is_wrong_is_told_in_words(
    machine: Machine, service: FakeService, provider: FakeProvider, person: Person, down: str
):
    provider.down = down
    status, err = login(machine, service)
    assert status == 1, err
    assert "jitctl: error: " in err
    assert "mistake in jitctl" not in err
    assert not person.threads
    assert provider.requests == ["/.well-known/openid-configuration"]  # nothing was followed


def test_a_provider_that_is_not_there(machine: Machine, service: FakeService, person: Person):
    service.provider["issuer"] = "http://127.0.0.1:9"
    status, err = login(machine, service)
    assert status == 8
    assert "the provider dex at http://127.0.0.1:9 cannot be reached" in err
    assert not person.threads


def test_a_provider_that_drips(
    machine: Machine, service: FakeService, provider: FakeProvider, person: Person, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jitgate.cli.oidc, "_SECONDS", 0.2)
    gone_on = threading.Event()
    provider.before_answer = lambda _: (gone_on.wait(5), None)[1]
    status, err = login(machine, service)
    gone_on.set()
    assert status == 8, err
    assert not person.threads


@pytest.mark.parametrize("answer", [{}, {"id_token": 7}, {"id_token": ""}, {"id_token": "x" * 70_000}])
def test_an_answer_without_an_id_token(
    machine: Machine,
    service: FakeService,
    provider: FakeProvider,
    person: Person,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
):
    monkeypatch.setattr(provider, "token", lambda **_: answer.get("id_token"))
    status, err = login(machine, service)
    assert status == 1, err
    assert "no ID token" in err
    assert "You are not signed in" in person.page


# --- a service that names a provider which is none ---


@pytest.mark.parametrize(
    "row",
    [
        {"name": "../dex"},
        {"name": "dex\x1b[31m"},
        {"issuer": "http://evil.example.com"},
        {"issuer": "https://evil.example.com/?x=1"},
        {"issuer": "https://evil.example.com/#x"},
        {"issuer": "javascript:alert(1)"},
        {"client_id": ""},
        {"client_id": "a\nb"},
        {"scopes": ["profile"]},
        {"scopes": ["openid offline_access"]},
        {"scopes": "openid"},
        {"flows": None},
        {"ca": "x" * 70_000},
    ],
)
def test_a_provider_row_that_is_none(machine: Machine, service: FakeService, person: Person, row: dict[str, Any]):
    service.provider |= row
    status, err = login(machine, service)
    assert status == 1, err
    assert "mistake in jitctl" not in err
    assert all(c.isprintable() or c == "\n" for c in err)
    assert not person.threads
