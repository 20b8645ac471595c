"""The one port of the real service: HTTPS and nothing else where others can reach it."""

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from tests.client import Signer
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.app.tls import authority_pem

GET = b"GET /v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def everywhere(nursery: Nursery) -> Iterator[Service]:
    """A service with TLS that listens on all addresses."""
    with new_service(nursery, tls=True) as service:
        service.config.write_text(service.config.read_text().replace('listen = "127.0.0.1:', 'listen = "0.0.0.0:'))
        service.start()
        yield service


def said(service: Service, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """All that comes back."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=20))
        if context:
            connection = stack.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))
        connection.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                found += part
        return found


def trusting(service: Service) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority_pem(service.settings).decode())


def test_plain_http_gets_nothing_but_the_advice(everywhere: Service):
    answer = said(everywhere, GET)
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert answer.endswith(b"this port speaks https://")
    assert b"jitgate" not in answer


def test_https_is_served(everywhere: Service):
    answer = said(everywhere, GET, trusting(everywhere))
    assert answer.startswith(b"HTTP/1.1 401 ")
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"strict-transport-security: max-age=" in head
    assert b"server:" not in head


@pytest.mark.parametrize("data", [b"\x00\x01", b"hello\r\n", b"\x15\x03\x01\x00\x02"])
def test_what_is_neither_gets_no_answer(everywhere: Service, data: bytes):
    assert said(everywhere, data) == b""
    assert said(everywhere, GET, trusting(everywhere)).startswith(b"HTTP/1.1 401 ")


def test_a_loopback_port_speaks_plain_http_too_and_asks_for_the_same(install: Callable[..., Service]):
    """For a reverse proxy on the machine; who signs for the https address is taken, who signs for http is not."""
    service = install(tls=True)
    service.start()
    assert said(service, GET).startswith(b"HTTP/1.1 401 ")
    secret = service.add_person("alice")
    plain = service.connect(Signer(f"http://127.0.0.1:{service.port}"))
    plain.url = f"http://127.0.0.1:{service.port}"
    assert plain.sign_in("alice", secret).code == "bad_proof"


def test_who_comes_through_a_proxy_on_this_machine_gets_no_plain_http(install: Callable[..., Service]):
    service = install(tls=True)
    with service.config.open("a") as file:
        file.write('[gateway]\nproxy_from = ["127.0.0.1/32"]\n')
    service.start()
    header = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c")
    client, here, ports = bytes([192, 0, 2, 7]), bytes([127, 0, 0, 1]), bytes(4)
    assert said(service, header + client + here + ports + GET).startswith(b"HTTP/1.1 426 ")
    assert said(service, header + here + here + ports + GET).startswith(b"HTTP/1.1 401 ")
    assert said(service, GET) == b""


def test_metrics_are_apart_from_the_port(install: Callable[..., Service]):
    service = install()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    service.config.write_text(service.config.read_text() + f'metrics = "127.0.0.1:{port}"\n')
    service.start()
    assert service.connect().get("/metrics").status == 404
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"jitgate_http_requests_total" in text
    assert b'jitgate_build_info{version="' in text


def test_readiness_says_what_is_missing(install: Callable[..., Service]):
    service = install()
    service.start()
    answer = service.connect().get("/readyz")
    missing = "none is applied: jitgate policy apply"
    assert (answer.status, answer.json["policy"]) == (503, missing)
    assert answer.json.keys() >= {"store", "signer", "keys"}
    assert {state for name, state in answer.json.items() if name != "policy"} == {"ok"}
    service.apply(ROLES)
    assert service.connect().get("/readyz").status == 200
    assert service.connect().get("/livez").body == b"ok"


def test_init_serve_and_the_rest_as_commands(install: Callable[..., Service]):
    """The programs themselves, as a person starts them: no fixture between."""
    service = install()
    listed = service.jitgate("user", "ls", "-o", "json")
    assert (listed.returncode, json.loads(listed.stdout)) == (0, [])
    service.start()
    added = service.jitgate("user", "add", "alice", "--group", "engineers", "-o", "json")
    assert added.returncode == 0, added.stderr
    told = json.loads(added.stdout)
    assert service.connect().sign_in("alice", told["totp_secret"], told["password"]).status == 201
    assert service.jitgate("user", "add", "alice").returncode == 7
    assert service.jitgate("user", "disable", "alice").returncode == 0
