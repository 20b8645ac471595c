"""jitctl sessions: what is shown, and what is asked for."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import GRANT, FakeService, in_minutes, problem

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

ID = "01KASKZ5M9BD2X8RB6QJ3RJ6QJ"


def session(**changed: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "kind": "tunnel",
        "person": "alice",
        "grant": GRANT,
        "host": "web1",
        "login": "ubuntu",
        "source": "198.51.100.7",
        "node": ID,
        "port": 40_000,
        "opened_at": in_minutes(-3),
        "ends_at": in_minutes(57),
        "ended_at": None,
        "end_reason": "",
        "up": 0,
        "down": 0,
    } | changed


@pytest.fixture
def alice(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]) -> Machine:
    assert sign_in()[0] == 0
    return machine


def test_open_ones_are_listed(alice: Machine, service: FakeService):
    service.instead["GET /v1/sessions"] = lambda _: (200, {"sessions": [session()]})
    status, out, _ = alice.jitctl("sessions", "ls")
    assert status == 0
    head, line = out.splitlines()
    assert head.split() == ["ID", "TARGET", "FROM", "OPENED", "ENDS"]
    assert line.split()[:6] == [ID, "ubuntu@web1", "198.51.100.7", "3", "min", "ago"]
    assert line.endswith("(in 57 min)")
    status, out, _ = alice.jitctl("sessions", "ls", "-o", "json")
    assert json.loads(out)[0]["id"] == ID


def test_ended_ones_say_why_and_how_much(alice: Machine, service: FakeService):
    over = session(ended_at=in_minutes(-1), end_reason="its time was up", up=5, down=7000)
    service.instead["GET /v1/sessions"] = lambda _: (200, {"sessions": [over]})
    out = alice.jitctl("sessions", "ls", "--all", "--everybody")[1]
    assert "its time was up" in out
    assert "5 up, 7000 down" in out
    assert "alice" in out


def test_none_is_said(alice: Machine, service: FakeService):
    service.instead["GET /v1/sessions"] = lambda _: (200, {"sessions": []})
    assert alice.jitctl("sessions", "ls") == (0, "", "jitctl: no session is open\n")


def test_one_is_killed_with_a_reason(alice: Machine, service: FakeService):
    asked: list[Any] = []

    def end(document: Any) -> tuple[int, Any]:
        asked.append(document)
        return 200, {"session": session()}

    service.instead[f"POST /v1/sessions/{ID}/end"] = end
    assert alice.jitctl("sessions", "kill", ID, "--reason", "wrong host")[2] == f"jitctl: session {ID} ends now\n"
    assert asked == [{"reason": "wrong host"}]
    service.instead[f"POST /v1/sessions/{ID}/end"] = lambda _: problem(404, "not_found", "no session of yours")
    assert alice.jitctl("sessions", "kill", ID)[0] == 6
    assert alice.jitctl("sessions", "kill", "../x")[0] == 1
