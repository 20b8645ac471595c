"""jitctl hosts: what is shown to an administrator, and what is asked for."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService, in_minutes

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

KEY = "SHA256:" + "A" * 43
AGENT = {
    "connected": True,
    "connected_at": in_minutes(-60),
    "seen_at": in_minutes(-1),
    "node": "",
    "version": "0.1.0",
    "bundle": [0, 4, 5],
    "bundle_at": in_minutes(-2),
    "current": True,
    "trust": [0, 2],
    "trust_at": in_minutes(-50),
    "trust_current": True,
    "clock_off_s": 0.2,
    "problems": [],
}


def host(name: str, agent: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "realm": "default",
        "alias": f"{name}.default.jitgate",
        "address": "192.0.2.5",
        "port": 22,
        "labels": {"env": "prod"},
        "logins": ["ubuntu", "deploy"],
        "fingerprint": KEY,
        "added_at": in_minutes(-600),
        "agent": agent,
    }


WAITING = {
    "name": "web9",
    "realm": "default",
    "how": "token",
    "fingerprint": KEY,
    "source": "192.0.2.9",
    "asked_at": in_minutes(-1),
    "approved_at": None,
}


@pytest.fixture
def olga(machine: Machine, sign_in: Callable[..., tuple[int, str, str]], service: FakeService) -> Machine:
    assert sign_in()[0] == 0
    fleet = {
        "hosts": [
            host("db1"),
            host("web1", AGENT),
            host("web2", AGENT | {"current": False, "problems": [{"code": "clock", "detail": "90 s behind"}]}),
            host("web3", AGENT | {"connected": False}),
        ],
        "waiting": [WAITING],
    }
    service.instead["GET /v1/hosts/agents"] = lambda _: (200, fleet)
    return machine


def test_a_token_is_the_only_line_of_the_output(olga: Machine, service: FakeService):
    asked: list[Any] = []

    def make(document: Any) -> tuple[int, Any]:
        asked.append(document)
        return 201, {"token": "jgj_abc", "name": "web1", "realm": "default", "expires_at": in_minutes(60)}

    service.instead["POST /v1/hosts/tokens"] = make
    status, out, err = olga.jitctl("hosts", "add", "web1", "--login", "ubuntu", "--label", "env=prod", "--minutes", "5")
    assert (status, out) == (0, "jgj_abc\n")
    assert "jitgate agent join" in err
    (said,) = asked
    assert (said["name"], said["logins"], said["labels"], said["minutes"]) == ("web1", ["ubuntu"], {"env": "prod"}, 5)
    assert olga.jitctl("hosts", "add", "../x", "--login", "ubuntu")[0] == 1
    assert olga.jitctl("hosts", "add", "web1", "--login", "ubuntu", "--label", "env")[0] == 2
    assert len(asked) == 1


def test_hosts_are_listed_with_how_their_agents_are(olga: Machine):
    status, out, err = olga.jitctl("hosts", "ls")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "REALM", "ADDRESS", "LOGINS", "LABELS", "AGENT"]
    said = [line.split("env=prod")[1].strip() for line in lines[1:]]
    assert said[:3] == ["none", "ok", "behind, clock"]
    assert said[3].startswith("away, seen ")
    assert f"web9 waits with the key {KEY}" in err
    assert json.loads(olga.jitctl("hosts", "ls", "-o", "json")[1])["waiting"] == [WAITING]


def test_one_is_shown_with_its_problems(olga: Machine):
    out = olga.jitctl("hosts", "show", "web2")[1]
    assert "clock: 90 s behind" in out
    assert KEY in out
    assert olga.jitctl("hosts", "show", "nobody")[0] == 6


def test_the_key_that_was_shown_is_the_one_that_is_approved(olga: Machine, service: FakeService):
    asked: list[Any] = []

    def approve(document: Any) -> tuple[int, Any]:
        asked.append(document)
        return 200, {"waiting": WAITING}

    service.instead["POST /v1/hosts/web9/approve"] = approve
    other = "SHA256:" + "B" * 43
    assert olga.jitctl("hosts", "approve", "web9", "--key", other)[0] == 0
    status, _, err = olga.jitctl("hosts", "approve", "web9", "--yes")
    assert status == 0
    assert KEY in err
    assert [each["fingerprint"] for each in asked] == [other, KEY]
    assert olga.jitctl("hosts", "approve", "web1", "--yes")[0] == 6


def test_labels_are_set_and_taken_away(olga: Machine, service: FakeService):
    asked: list[Any] = []

    def label(document: Any) -> tuple[int, Any]:
        asked.append(document)
        return 200, {"host": host("web1")}

    service.instead["POST /v1/hosts/web1/labels"] = label
    assert olga.jitctl("hosts", "label", "web1", "env=prod", "team-")[:2] == (0, "env=prod\n")
    assert asked == [{"set": {"env": "prod"}, "unset": ["team"], "realm": "default"}]


def test_one_is_forgotten(olga: Machine, service: FakeService):
    service.instead["DELETE /v1/hosts/web1"] = lambda _: (204, {})
    service.instead["DELETE /v1/hosts/web1?realm=default"] = lambda _: (204, {})
    status, _, err = olga.jitctl("hosts", "rm", "web1", "--yes")
    assert status == 0
    assert "jitgate agent leave" in err
