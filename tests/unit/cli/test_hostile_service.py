"""A service that is wrong, taken over or not a jitgate at all: refused in words, nothing kept, nothing leaked."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import GRANT, TOKEN, FakeService, problem

import jitgate.cli.service
from jitgate.core.clock import SECOND, system_clock
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

CONNECT = ("vm", "connect", "web1", "--print")
ESCAPE = "\x1b]0;owned\x07\x9b31m\u202eevil\r\n"


def has_controls(text: str) -> bool:
    return any(not c.isprintable() and c != "\n" for c in text)


@pytest.mark.parametrize(
    "host",
    [
        {"name": "web1\nProxyCommand=x"},
        {"name": "-oProxyCommand=x"},
        {"name": "*"},
        {"name": "localhost"},
        {"realm": "default *"},
        {"address": "-oProxyCommand=x"},
        {"address": "1.2.3.4\n  ProxyCommand x"},
        {"address": "$(id)"},
        {"address": "%h"},
        {"port": 0},
        {"port": "22 -o ProxyCommand=x"},
        {"port": True},
        {"logins": [{"login": "root$(id)", "permitted": True}]},
        {"logins": [{"login": "-l", "permitted": True}]},
        {"logins": {"login": "root"}},
    ],
)
def test_a_name_that_is_none_reaches_neither_ssh_nor_its_config(
    alice: Machine, service: FakeService, host: dict[str, object]
):
    service.hosts[1] = service.host("db1", "ubuntu") | host
    status, out, err = alice.jitctl(*CONNECT)
    assert status == 1
    assert not out
    assert err.startswith("jitctl: error: ")
    assert not (alice.state / "ssh_config").exists()


def test_words_of_the_service_cannot_steer_the_terminal(alice: Machine, service: FakeService):
    service.instead["POST /v1/grants"] = lambda _: problem(
        403, ESCAPE, ESCAPE, ESCAPE, [{"name": ESCAPE, "outcome": "failed", "why": ESCAPE, "hint": ESCAPE}]
    )
    service.instead["GET /v1/explain"] = lambda _: (
        200,
        {"host": "db1", "decision": ESCAPE, "why": ESCAPE, "roles": [{"role": ESCAPE, "checks": [{"why": ESCAPE}]}]},
    )
    event = {"index": 3, "time": "2026-01-01T00:00:00Z", "type": ESCAPE, "actor": {"name": ESCAPE}, "reason": ESCAPE}
    service.instead["GET /v1/audit"] = lambda _: (200, {"events": [event]})
    service.hosts[0]["labels"] = {"env": ESCAPE}
    for arguments in (CONNECT, ("explain", "db1"), ("audit",), ("vm", "ls")):
        for form in ("table", "json", "yaml"):
            _, out, err = alice.jitctl(*arguments, "-o", form)
            assert not has_controls(out + err), (arguments, form)
            assert "evil" in out + err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((302, b"", {"Location": "http://attacker.example/"}), "sends elsewhere, to 'http://attacker.example/'"),
        ((307, b"", {"Location": "/v1/hosts"}), "sends elsewhere"),
        ((200, b"x" * (17 << 20)), "answers with more than 16777216 bytes"),
        ((200, b"\x1f\x8b", {"Content-Encoding": "gzip"}), "an encoding that was not asked for"),
        ((200, b"<html>"), "does not answer like a jitgate service"),
        ((200, b"[]"), "does not answer like a jitgate service"),
        ((200, b"[" * 500_000), "does not answer like a jitgate service"),
        ((200, b"\xff"), "does not answer like a jitgate service"),
        ((200, {"hosts": "web1"}), "has no list 'hosts'"),
        ((200, {"hosts": [7]}), "has int where an object belongs"),
        ((500, b"oops"), "answers with status 500"),
    ],
)
def test_an_answer_that_is_none(alice: Machine, service: FakeService, answer: tuple[int, bytes], words: str):
    service.instead["GET /v1/hosts"] = lambda _: answer
    status, out, err = alice.jitctl("vm", "ls")
    assert status == 1
    assert not out
    assert words in err
    assert "Traceback" not in err


def test_the_token_never_follows_a_redirect(alice: Machine, service: FakeService):
    seen: list[str] = []

    class Thief(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Thief) as thief:
        threading.Thread(target=thief.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        there = f"http://127.0.0.1:{thief.server_port}/v1/hosts"
        service.instead["GET /v1/hosts"] = lambda _: (302, b"", {"Location": there})
        assert alice.jitctl("vm", "ls")[0] == 1
        thief.shutdown()
    assert not seen
    assert service.requests[-1][2]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(("seconds", "words"), [(-300, "ahead of"), (300, "behind")])
def test_a_wrong_clock_is_named(
    service: FakeService, sign_in: Callable[..., tuple[int, str, str]], seconds: int, words: str
):
    service.clock_error = seconds
    status, _, err = sign_in()
    assert status == 1
    assert f"s {words} the service's" in err
    assert "hint: set the clock" in err


def test_a_minute_of_skew_is_borne(service: FakeService, sign_in: Callable[..., tuple[int, str, str]]):
    service.clock_error = 55
    assert sign_in()[0] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"principals": ("root@host:web1",)},
        {"principals": ("ubuntu@host:web1", "root@host:web1")},
        {"principals": ("ubuntu@host:db1",)},
        {"type": CertType.HOST, "principals": ("web1",), "extensions": ()},
        {"key_id": "jitgate grant=01J8Z0K3V4WQ2M5N6P7R8S9TXX person=alice"},
        {"key": generate_ed25519().public},
        {"ca": generate_ed25519()},
        {"valid_after": 1000, "valid_before": 2000},
    ],
)
def test_a_certificate_that_was_not_asked_for_is_not_kept(
    alice: Machine, service: FakeService, changes: dict[str, Any]
):
    key, more = service.keys[0], dict(changes)
    certificate = service.certificate(more.pop("key", key), ca=more.pop("ca", None), **more)
    service.instead["POST /v1/certificates"] = lambda _: (201, {"certificate": certificate.line()})
    status, out, err = alice.jitctl(*CONNECT)
    assert status == 1
    assert not out
    assert "a certificate that is not what was asked for" in err
    assert not list(alice.state.glob("certs/*/*"))


@pytest.mark.parametrize("change", [{"host": "db1"}, {"login": "root"}, {"role": "x y"}, {"id": "../../x"}])
def test_a_grant_that_was_not_asked_for_is_refused(alice: Machine, service: FakeService, change: dict[str, str]):
    service.instead["POST /v1/grants"] = lambda _: (201, {"grant": service.grant("web1", "ubuntu") | change})
    status, _, _ = alice.jitctl(*CONNECT)
    assert status == 1
    assert not [request for request in service.requests if request[1] == "/v1/certificates"]


def test_nothing_is_kept_of_a_refused_sign_in(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]):
    status, _, err = sign_in(password="guess")
    assert status == 3
    assert err == "jitctl: error: name, password or code is wrong\njitctl: hint: try again\n"
    assert not (machine.state / "token").exists()
    assert not (machine.config / "config.toml").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"token": "jgs_\r\nX: y"},
        {"token": "x" * 47},
        {"person": {"id": "../x", "name": "alice"}},
        {"person": {"id": GRANT, "name": "al ice"}},
        {"expires_at": "soon"},
        {"expires_at": "2026-01-01T00:00:00"},
    ],
)
def test_an_answer_to_the_sign_in_that_is_none(
    machine: Machine,
    service: FakeService,
    sign_in: Callable[..., tuple[int, str, str]],
    change: dict[str, object],
):
    whole = {"token": TOKEN, "expires_at": "2999-01-01T00:00:00Z", "person": {"id": GRANT, "name": "alice"}}
    service.instead["POST /v1/sign-in"] = lambda _: (201, whole | change)
    status, _, err = sign_in()
    assert status == 1
    assert err.startswith("jitctl: error: ")
    assert not (machine.state / "token").exists()


def test_a_short_certificate_is_fetched_anew_and_an_old_one_swept(alice: Machine, service: FakeService):
    service.instead["POST /v1/certificates"] = lambda _: (
        201,
        {
            "certificate": service.certificate(
                service.keys[0], seconds=4, valid_after=system_clock() // SECOND - 36
            ).line()
        },
    )
    assert alice.jitctl(*CONNECT)[0] == 0
    del service.instead["POST /v1/certificates"]
    assert alice.jitctl(*CONNECT)[0] == 0
    asked = [request for request in service.requests if request[1] == "/v1/certificates"]
    assert len(asked) == 2
    assert alice.jitctl(*CONNECT)[0] == 0
    assert len([request for request in service.requests if request[1] == "/v1/certificates"]) == 2


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_service_that_drips_is_left(alice: Machine, monkeypatch: pytest.MonkeyPatch, start: bytes):
    """Each byte comes in time; the whole never does."""
    monkeypatch.setattr(jitgate.cli.service, "_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(start)
                    while True:
                        connection.sendall(b"x")
                        time.sleep(0.02)

        threading.Thread(target=drip, daemon=True).start()
        config = alice.config / "config.toml"
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config.write_text(f'[profiles.default]\nurl = "{url}"\n')
        status, _, err = alice.jitctl("vm", "ls")
    assert status == 8
    assert f"{url} takes too long to answer" in err
