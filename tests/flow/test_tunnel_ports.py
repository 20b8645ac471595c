"""The gateway's settings in the real service: its own port, proxies before it, TLS kept on, what is measured."""

import contextlib
import re
import ssl
from collections.abc import Callable

import pytest
from tests import tunnel
from tests.client import Connection, Signer
from tests.service import ROLES, Service
from tests.unit.gateway.test_proxy import header

from jitgate.app.demo.daemon import free_port

PROXY = 'proxy_from = ["127.0.0.1/32"]\n'


def started(install: Callable[..., Service], port: int, gateway: str) -> Service:
    """A service with these lines in its `[gateway]`, and a host `web1` on that port."""
    service = install(tls=True)
    service.config.write_text(f"{service.config.read_text()}[gateway]\n{gateway}")
    service.start()
    service.apply(ROLES)
    service.add_host("web1", port=port)
    return service


def behind(service: Service, client: str) -> Connection:
    def dial() -> ssl.SSLSocket:
        connection = tunnel.dialled(service)
        connection.sendall(header(client))
        return tunnel.trusting(service, "http/1.1").wrap_socket(connection, server_hostname="127.0.0.1")

    return tunnel.Unhurried(service.url, Signer(service.url), dial=dial)


def test_a_port_of_its_own(install: Callable[..., Service]):
    own = free_port()
    with tunnel.host(tunnel.echo) as port:
        service = started(install, port, f'listen = "127.0.0.1:{own}"\n')
        person = tunnel.enter(service, "alice", "engineers")
        assert person.get("/.well-known/jitgate").json["gateway"]["port"] == own
        ticket = tunnel.ticket_of(person)
        for at in (own, service.port):
            with tunnel.opened(service, ticket, connection=tunnel.dialled(service, at)).socket as connection:
                assert tunnel.exactly(connection, 6) == b"hello\n"
        for at in (own, service.port):
            with tunnel.dialled(service, at) as connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                assert b"by jitctl only" in tunnel.rest(connection)
        with tunnel.dialled(service, own) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tunnel.rest(connection) == b"", "nothing else is served there"


def test_behind_a_proxy_every_request_has_its_own_source(install: Callable[..., Service]):
    with tunnel.host(tunnel.echo) as port:
        service = started(install, port, PROXY)
        admin = behind(service, "198.51.100.1")
        assert admin.sign_in("olga", service.add_person("olga", admin=True)).status == 201
        alice = behind(service, "198.51.100.7")
        assert alice.sign_in("alice", service.add_person("alice", "engineers")).status == 201
        ticket = tunnel.ticket_of(alice)
        connection = tunnel.dialled(service)
        connection.sendall(header("198.51.100.8"))
        tunnel.opened(service, ticket, connection=connection).socket.close()
        found = admin.get("/v1/audit?limit=200").json["events"]
        sources = {event["type"]: event["source"] for event in found if event["actor"]["name"] == "alice"}
        assert sources["sign_in.succeeded"] == sources["grant.opened"] == "198.51.100.7"
        assert sources["session.opened"] == "198.51.100.8"
        with tunnel.dialled(service) as direct:
            direct.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tunnel.rest(direct) == b"", "from a listed address the header has to come"


def test_a_proxy_before_the_tunnels_port_alone(install: Callable[..., Service]):
    own = free_port()
    with tunnel.host(tunnel.echo) as port:
        service = started(install, port, f'listen = "127.0.0.1:{own}"\nproxy_on = "tunnel"\n{PROXY}')
        alice = tunnel.enter(service, "alice", "engineers")
        ticket = tunnel.ticket_of(alice)
        connection = tunnel.dialled(service, own)
        connection.sendall(header("198.51.100.8"))
        with tunnel.opened(service, ticket, connection=connection).socket:
            (row,) = alice.get("/v1/sessions").json["sessions"]
            assert row["source"] == "198.51.100.8"
        with tunnel.opened(service, ticket).socket:
            pass
        with pytest.raises((OSError, EOFError)):
            tunnel.shaken(service, tunnel.dialled(service, own))


def test_tls_kept_on_is_told_and_done(install: Callable[..., Service]):
    with tunnel.host(tunnel.echo) as port:
        service = started(install, port, "keep_tls = true\n")
        person = tunnel.enter(service, "alice", "engineers")
        told = tunnel.certified(person, tunnel.granted(person))["tunnel"]
        assert told["keep_tls"] is True
        with contextlib.closing(tunnel.shaken(service)) as tls:
            assert tunnel.ask(tls, told["ticket"])["ok"]
            assert tunnel.exactly(tls, 6) == b"hello\n"


def test_what_is_carried_is_measured(install: Callable[..., Service]):
    with tunnel.host(tunnel.echo) as port:
        service = install(tls=True)
        metrics = free_port()
        text = service.config.read_text()
        service.config.write_text(f'metrics = "127.0.0.1:{metrics}"\n{text}')
        service.start()
        service.apply(ROLES)
        service.add_host("web1", port=port)
        person = tunnel.enter(service, "alice", "engineers")
        ticket = tunnel.ticket_of(person)
        tunnel.refused(service, ticket, "web2")
        with tunnel.opened(service, ticket).socket as connection:
            connection.sendall(b"12345")
            assert tunnel.exactly(connection, 11) == b"hello\n12345"
            wanted = {
                "jitgate_sessions_open": "1.0",
                "jitgate_sessions_opened_total": "1.0",
                'jitgate_sessions_refused_total{code="ticket_other_host"}': "1.0",
                'jitgate_tunnel_bytes_total{direction="up"}': "5.0",
                'jitgate_tunnel_bytes_total{direction="down"}': "11.0",
            }
            while True:
                with tunnel.dialled(service, metrics) as asked:
                    asked.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                    lines = dict(re.findall(r"^(\S+) (\S+)$", tunnel.rest(asked).decode(), re.MULTILINE))
                if {name: lines.get(name) for name in wanted} == wanted:
                    break


def test_readiness_speaks_of_the_gateway(install: Callable[..., Service]):
    with tunnel.host(tunnel.echo) as port:
        service = started(install, port, "")
        answer = tunnel.connect(service).get("/readyz")
        assert (answer.status, answer.json["gateway"]) == (200, "ok")
