"""The device flow and linked identities: what is shown, how long is waited, what a hostile service gets."""

import time
from typing import Any

import pytest
from tests.unit.cli.conftest import Machine, Person, login
from tests.unit.cli.fake_service import KEY, TOKEN, FakeService, in_minutes

pytestmark = pytest.mark.enable_socket  # a service and a provider on loopback, made for these tests


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_the_device_flow_waits_as_it_is_told(
    machine: Machine, service: FakeService, person: Person, slept: list[float]
):
    pending = (202, {"state": "pending", "interval": 5})
    slower = (202, {"state": "pending", "interval": 10})
    service.device_answers = [pending, slower, pending]
    service.instead[f"POST /v1/sign-in/device/{KEY}"] = lambda _: (
        service.device_answers.pop(0) if service.device_answers else service.signed_in_as("alice")
    )
    status, err = login(machine, service, "--device", "--quiet")
    assert status == 0, err
    assert err == "  https://idp.example.com/device\n  code  WDJB-MJHT\n"  # what is needed is said even so
    assert slept == [5, 5, 10, 10]
    assert not person.threads


@pytest.mark.parametrize("environment", [{"SSH_CONNECTION": "192.0.2.1 5 192.0.2.2 22"}, {"DISPLAY": ""}])
def test_without_a_browser_here_the_device_flow_is_taken(
    machine: Machine,
    service: FakeService,
    person: Person,
    slept: list[float],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    machine.environment |= environment
    service.instead[f"POST /v1/sign-in/device/{KEY}"] = lambda _: service.signed_in_as("alice")
    status, err = login(machine, service)
    assert status == 0, err
    assert "WDJB-MJHT" in err
    assert "a browser would open on the other machine" in err or "there is no display" in err
    assert slept
    assert not person.threads


@pytest.mark.parametrize(
    "answer",
    [
        {"verification_uri": "http://evil.example.com/device"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri_complete": "https://x/\x1b[31m"},
        {"user_code": "A\x1b[31m"},
        {"user_code": "A" * 100},
        {"id": "../../sign-out"},
        {"interval": "5"},
        {"expires_at": "soon"},
    ],
)
def test_a_device_flow_that_is_none(
    machine: Machine, service: FakeService, person: Person, slept: list[float], answer: dict[str, Any]
):
    page = {"user_code": "WDJB-MJHT", "verification_uri": "https://idp.example.com/device"}
    good = {"id": KEY, "expires_at": in_minutes(5), "interval": 5} | page
    service.instead["POST /v1/sign-in/device"] = lambda _: (201, good | answer)
    status, err = login(machine, service, "--device")
    assert status == 1, err
    assert all(c.isprintable() or c == "\n" for c in err)
    assert not slept
    assert not person.threads


def test_a_device_flow_that_nobody_finished(machine: Machine, service: FakeService, person: Person, slept: list[float]):
    page = {"user_code": "WDJB-MJHT", "verification_uri": "https://idp.example.com/device"}
    service.instead["POST /v1/sign-in/device"] = lambda _: (
        201,
        {"id": KEY, "expires_at": in_minutes(0), "interval": 5} | page,
    )
    status, err = login(machine, service, "--device")
    assert status == 3
    assert "not finished in time" in err
    assert not slept
    assert not person.threads


def test_a_provider_without_a_device_flow(machine: Machine, service: FakeService, person: Person):
    service.provider["flows"] = ["code"]
    status, err = login(machine, service, "--device")
    assert status == 6
    assert "--no-browser" in err
    assert not person.threads


def test_the_device_flow_is_not_replaced_by_a_password(machine: Machine, service: FakeService):
    service.provider = {}
    status, _, err = machine.jitctl("login", service.url, "--device")
    assert status == 6
    assert "no device flow" in err


@pytest.mark.usefixtures("person", "slept")
def test_who_asks_for_the_device_flow_is_not_asked_which_way(machine: Machine, service: FakeService):
    """A password is none, and there is one provider."""
    service.instead[f"POST /v1/sign-in/device/{KEY}"] = lambda _: service.signed_in_as("alice")
    status, _, err = machine.jitctl("login", service.url, "--device")
    assert status == 0, err


# --- identities ---


def test_identities(alice: Machine, service: FakeService, person: Person):
    alice.transcript(f"""
$ jitctl identities ls
ID                          PROVIDER  SUBJECT  LINKED
{KEY}  dex       u-1      60 min ago
$ jitctl identities unlink {KEY} --yes
jitctl: unlinked identity {KEY}
$ jitctl identities unlink ../x --yes
jitctl: error: not an id: '../x'
jitctl: hint: an id has 26 letters and digits, as in: jitctl identities ls
? 1
""")
    status, _, err = alice.jitctl("identities", "link")
    assert status == 0, err
    assert "dex now leads to you" in err
    assert "You are signed in" in person.page
    posted = next(
        headers for method, path, headers, _ in service.requests if (method, path) == ("POST", "/v1/identities")
    )
    assert posted["Authorization"] == f"Bearer {TOKEN}"
