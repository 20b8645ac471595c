"""jitctl doctor finds each thing that goes wrong in practice, and says what to do."""

import json
import os
import pwd
from collections.abc import Callable

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests


REAL = pwd.getpwuid(os.getuid())


@pytest.fixture
def healthy(alice: Machine, service: FakeService) -> Machine:
    assert alice.jitctl("vm", "connect", "web1", "--print")[0] == 0
    key = service.keys[0].fingerprint
    service.instead["GET /v1/keys"] = lambda _: (200, {"keys": [{"fingerprint": key}]})
    return alice


def failed(machine: Machine) -> dict[str, tuple[str, str]]:
    status, out, err = machine.jitctl("doctor", "-o", "json")
    assert not err
    found = {row["name"]: (row["why"], row["hint"]) for row in json.loads(out) if row["outcome"] != "passed"}
    assert status == (1 if found else 0)
    return found


def test_all_is_well(healthy: Machine):
    assert failed(healthy) == {}
    shown = healthy.jitctl("doctor")[1]
    assert all(line.startswith("passed  ") for line in shown.splitlines())


def test_nothing_is_there_yet(machine: Machine):
    found = failed(machine)
    # Said once: what else is looked at belongs to a service.
    assert found == {"profile": ("not signed in to any service", "jitctl login URL")}


def test_a_sign_in_without_a_connection_is_well(alice: Machine, service: FakeService):
    key = service.keys[0].fingerprint
    service.instead["GET /v1/keys"] = lambda _: (200, {"keys": [{"fingerprint": key}]})
    assert failed(alice) == {}
    assert "ssh config: none yet; the first jitctl vm connect writes it" in alice.jitctl("doctor")[1]


def test_a_home_that_ssh_does_not_know_is_named(healthy: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pwd, "getpwuid", lambda _: REAL)
    why, hint = failed(healthy)["plain ssh"]
    assert f"ssh reads {REAL.pw_dir}/.ssh/config" in why
    assert hint == f"ssh -F {healthy.home}/.ssh/config NAME"


@pytest.mark.parametrize(
    ("breakage", "name", "words"),
    [
        (lambda here, _: (here.state / "id").chmod(0o644), "files", "is open to others (mode 0644)"),
        (lambda here, _: (here.state / "token").unlink(), "sign-in", "not signed in to"),
        (lambda _, service: setattr(service, "clock_error", 500), "service", "clock is"),
        (lambda _, service: service.stop(), "service", "cannot be reached"),
        (lambda _, service: service.instead.pop("GET /v1/keys"), "key", "is not registered"),
        (lambda here, _: (here.state / "ssh_config").write_text("Bad option\n"), "ssh config", "Bad"),
        (lambda here, _: (here.home / ".ssh/config").write_text(""), "plain ssh", "does not read ours"),
        (lambda here, _: here.environment.update(SSH_AUTH_SOCK="/gone"), "agent", "/gone is gone"),
        (lambda here, _: here.environment.update(PATH="/nowhere"), "ssh", "not installed"),
    ],
)
def test_each_fault_is_named(
    healthy: Machine, service: FakeService, breakage: Callable[[Machine, FakeService], object], name: str, words: str
):
    breakage(healthy, service)
    why, hint = failed(healthy)[name]
    assert words in why
    assert hint
