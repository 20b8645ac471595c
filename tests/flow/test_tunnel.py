"""The tunnel of the real service: from a ticket to carried bytes, and to every end that a session may have."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests import tunnel
from tests.client import Connection, somebody
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.ssh.cert import parse_certificate_line

SHORT = b"""
role: short
effect: allow
who: {groups: [engineers]}
what: {hosts: [web1]}
as: [ubuntu]
how_long: {grant: 3s, certificate: 3s}
"""
KEEP = b"""
role: keep
effect: allow
who: {groups: [keepers]}
what: {hosts: [web1]}
as: [ubuntu]
how_long: {grant: 2s, certificate: 2s}
reason: required
on_expiry: keep
max_session: 5s
"""
HERE = b"""
role: here
effect: allow
who: {groups: [engineers]}
what: {hosts: [web1]}
as: [ubuntu]
options: {source_address: client}
"""


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with tunnel.host(tunnel.echo) as port:
        yield port


@pytest.fixture(scope="module")
def gate(nursery: Nursery, echo_port: int) -> Iterator[Service]:
    """A service with TLS and its gateway, and hosts: `web1` says everything again, nobody is at `gone`."""
    with new_service(nursery, tls=True) as started:
        started.start()
        started.apply(ROLES, KEEP)
        started.add_host("web1", port=echo_port)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            started.add_host("gone", port=probe.getsockname()[1])
        started.add_host("nowhere", address="no-such-name.invalid")
        yield started
        assert started.stop() == 0, started.words()
        assert "crashed" not in started.words()


@pytest.fixture
def alice(gate: Service) -> Connection:
    return tunnel.enter(gate, somebody(), "engineers")


@pytest.fixture(scope="module")
def olga(gate: Service) -> Connection:
    """An admin, who sees all sessions and events."""
    return tunnel.enter(gate, somebody(), admin=True)


def events(admin: Connection, kind: str, **fields: str) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in ({"type": kind, "limit": "200"} | fields).items())
    found: list[dict[str, Any]] = admin.get(f"/v1/audit?{query}").json["events"]
    return found


def ended(admin: Connection, session: str) -> dict[str, Any]:
    """The session as it is listed once its end is written."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for row in admin.get("/v1/sessions?all=true&everybody=true").json["sessions"]:
            if row["id"] == session and row["ended_at"]:
                found: dict[str, Any] = row
                return found
        time.sleep(0.05)
    raise AssertionError(f"session {session} goes on")


def closed(connection: socket.socket) -> bool:
    """Whether the other side ends it within the socket's time."""
    try:
        return tunnel.rest(connection) is not None
    except TimeoutError:
        return False


def test_bytes_are_carried_both_ways_and_counted(gate: Service, alice: Connection, olga: Connection):
    way = tunnel.opened(gate, tunnel.ticket_of(alice))
    data = os.urandom(3_000_000)
    with way.socket as connection:
        assert tunnel.exactly(connection, 6) == b"hello\n"
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert tunnel.exactly(connection, len(data)) == data
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        assert tunnel.rest(connection) == b""
    row = ended(olga, way.session)
    assert (row["up"], row["down"]) == (len(data), len(data) + 6)
    assert (row["host"], row["login"], row["end_reason"]) == ("web1", "ubuntu", "the client closed it")
    (opened,) = [each for each in events(olga, "session.opened") if each["session"] == way.session]
    (over,) = [each for each in events(olga, "session.ended") if each["session"] == way.session]
    assert opened["detail"]["port"] == row["port"]
    assert opened["actor"]["id"] == over["subject"]["id"] == alice.signer.person_id
    assert over["detail"]["why"] == "the client closed it"


def test_one_ticket_opens_many_at_once(gate: Service, alice: Connection):
    ticket = tunnel.ticket_of(alice)
    with contextlib.ExitStack() as stack:
        ways = [stack.enter_context(tunnel.opened(gate, ticket).socket) for _ in range(20)]
        for at, connection in enumerate(ways):
            connection.sendall(b"%d\n" % at)
        for at, connection in enumerate(ways):
            expected = b"hello\n%d\n" % at
            assert tunnel.exactly(connection, len(expected)) == expected
        listed = alice.get("/v1/sessions").json["sessions"]
        assert len(listed) == 20
        assert {row["source"] for row in listed} == {"127.0.0.1"}


def test_where_the_tunnel_is_and_when_its_ticket_ends_is_told(gate: Service, alice: Connection):
    about = alice.get("/.well-known/jitgate").json["gateway"]
    assert about == {"address": "127.0.0.1", "port": gate.port, "server_name": "127.0.0.1", "keep_tls": False}
    answer = tunnel.certified(alice, tunnel.granted(alice))
    told = answer["tunnel"]
    assert {name: told[name] for name in about} == about
    assert told["expires_at"] == answer["valid_before"]


def test_a_ticket_that_is_none_of_ours(gate: Service, alice: Connection, olga: Connection, nursery: Nursery):
    ticket = tunnel.ticket_of(alice)
    flipped = ticket[:-1] + ("A" if ticket[-1] != "A" else "B")
    words = {
        tunnel.refused(gate, wrong)["detail"] for wrong in ("", "jgt_", flipped, ticket[:-40], ticket[4:], "x" * 512)
    }
    with new_service(nursery, tls=True) as other:
        other.start()
        other.apply(ROLES)
        other.add_host("web1")
        foreign = tunnel.ticket_of(tunnel.enter(other, somebody(), "engineers"))
        assert other.stop() == 0
    assert words | {tunnel.refused(gate, foreign)["detail"]} == {"the ticket is none of this service's"}
    found = [each for each in events(olga, "session.refused") if each["detail"]["code"] == "ticket_bad"]
    assert found[0]["actor"]["kind"] == "unknown"
    assert len(found) == 1, "a flood of them is one entry a minute"


def test_a_ticket_is_for_one_host(gate: Service, alice: Connection, olga: Connection):
    said = tunnel.refused(gate, tunnel.ticket_of(alice), "gone")
    assert (said["code"], said["detail"]) == ("ticket_other_host", "the ticket is for another host than 'gone'")
    (event,) = [each for each in events(olga, "session.refused") if each["actor"]["id"] == alice.signer.person_id]
    assert (event["target"], event["detail"]["code"]) == ("ubuntu@host:web1", "ticket_other_host")


def revoked_grant(_gate: Service, person: Connection) -> None:
    grant = person.get("/v1/grants").json["grants"][0]["id"]
    assert person.post(f"/v1/grants/{grant}/end").status == 200


def disabled(gate: Service, person: Connection) -> None:
    gate.act("user disable", name=person.get("/v1/me").json["person"]["name"])


def without_key(_gate: Service, person: Connection) -> None:
    (key,) = person.get("/v1/keys").json["keys"]
    assert person.delete(f"/v1/keys/{key['id']}").status == 204


def signed_out(_gate: Service, person: Connection) -> None:
    assert person.post("/v1/sign-out").status == 204


def revoke(what: str, subject: str, person: Connection) -> None:
    assert person.post("/v1/revocations", {"what": what, "subject": subject}).status == 201


def certificate_revoked(_gate: Service, person: Connection) -> None:
    """Another one under the same grant: it goes with the grant."""
    grant = person.get("/v1/grants").json["grants"][0]["id"]
    answer = person.post("/v1/certificates", {"grant": grant, "host": "web1"})
    revoke("certificate", answer.json["serial"], person)


def key_revoked(_gate: Service, person: Connection) -> None:
    revoke("key", person.signer.key.public.line(), person)


def person_revoked(_gate: Service, person: Connection) -> None:
    revoke("person", person.get("/v1/me").json["person"]["name"], person)


@pytest.mark.parametrize(
    ("take", "code", "why"),
    [
        (certificate_revoked, "grant_ended", "its grant was ended"),
        (key_revoked, "key_not_registered", "its key was removed"),
        (person_revoked, "not_signed_in", "its grant was ended"),
        (revoked_grant, "grant_ended", "its grant was ended"),
        (disabled, "not_signed_in", "its person was disabled"),
        (without_key, "key_not_registered", "its key was removed"),
        (signed_out, "not_signed_in", ""),
    ],
)
def test_what_is_taken_away_refuses_the_ticket_and_ends_the_session(
    gate: Service, alice: Connection, olga: Connection, take: Callable[[Service, Connection], None], code: str, why: str
):
    """A sign-out ends no session: it is about what comes next."""
    ticket = tunnel.ticket_of(alice)
    way = tunnel.opened(gate, ticket)
    with way.socket as connection:
        assert tunnel.exactly(connection, 6) == b"hello\n"
        take(gate, alice)
        assert tunnel.refused(gate, ticket)["code"] == code
        if why:
            assert closed(connection)
        else:
            connection.sendall(b"goes on")
            assert tunnel.exactly(connection, 7) == b"goes on"
    if why:
        assert ended(olga, way.session)["end_reason"] == why
    (event,) = [each for each in events(olga, "session.refused") if each["actor"]["id"] == alice.signer.person_id]
    assert event["detail"]["code"] == code


def test_a_host_that_is_forgotten(gate: Service, alice: Connection, olga: Connection, echo_port: int):
    """Its sessions end; a new host of its name is another host."""
    gate.add_host("brief", port=echo_port)
    ticket = tunnel.ticket_of(alice, "brief")
    way = tunnel.opened(gate, ticket, "brief")
    with way.socket as connection:
        gate.act("host rm", name="brief")
        assert closed(connection)
    assert ended(olga, way.session)["end_reason"] == "its host was removed"
    gate.add_host("brief", port=echo_port)
    assert tunnel.refused(gate, ticket, "brief")["code"] == "host_gone"
    gate.act("host rm", name="brief")


def test_a_session_is_killed_by_its_person_by_an_admin_and_by_an_operator(
    gate: Service, alice: Connection, olga: Connection
):
    bob = tunnel.enter(gate, somebody(), "engineers")
    ticket = tunnel.ticket_of(alice)
    ways = [tunnel.opened(gate, ticket) for _ in range(3)]
    refused = bob.post(f"/v1/sessions/{ways[0].session}/end", {"reason": "mine?"})
    assert (refused.status, refused.code) == (404, "not_found")
    assert alice.post(f"/v1/sessions/{ways[0].session}/end").status == 200
    assert olga.post(f"/v1/sessions/{ways[1].session}/end", {"reason": "wrong host"}).status == 200
    done = gate.jitgate("session", "kill", ways[2].session, "--reason", "drill")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for way in ways:
        with way.socket as connection:
            assert closed(connection)
        assert ended(olga, way.session)["end_reason"] == "it was killed"
    killed = {each["session"]: each for each in events(olga, "session.killed")}
    assert [killed[way.session]["actor"]["kind"] for way in ways] == ["person", "person", "operator"]
    assert killed[ways[1].session]["reason"] == "wrong host"
    assert alice.post(f"/v1/sessions/{ways[0].session}/end").code == "conflict"
    with tunnel.opened(gate, ticket).socket:
        pass  # the grant goes on


def test_a_person_sees_their_own_sessions_only(gate: Service, alice: Connection, olga: Connection):
    way = tunnel.opened(gate, tunnel.ticket_of(alice))
    with way.socket:
        bob = tunnel.enter(gate, somebody(), "engineers")
        assert bob.get("/v1/sessions?all=true").json == {"sessions": []}
        assert bob.get("/v1/sessions?everybody=true").status == 403
        assert way.session in [row["id"] for row in olga.get("/v1/sessions?everybody=true").json["sessions"]]
        listed = gate.jitgate("session", "ls")
        assert way.session in listed.stdout


def test_a_session_ends_with_its_grant_to_the_second(install: Callable[..., Service], echo_port: int):
    service = install(tls=True)
    service.start()
    service.apply(SHORT)
    service.add_host("web1", port=echo_port)
    person, admin = tunnel.enter(service, "alice", "engineers"), tunnel.enter(service, "olga", admin=True)
    ticket = tunnel.ticket_of(person)
    way = tunnel.opened(service, ticket)
    with way.socket as connection:
        assert closed(connection)
    row = ended(admin, way.session)
    assert row["end_reason"] == "its time was up"
    assert row["ended_at"] >= row["ends_at"]
    assert tunnel.refused(service, ticket)["code"] == "ticket_ended"


def test_keep_outlives_the_grant_and_ends_with_max_session(gate: Service, olga: Connection):
    person = tunnel.enter(gate, somebody(), "keepers")
    way = tunnel.opened(gate, tunnel.ticket_of(person, reason="a long copy"))
    with way.socket as connection:
        assert tunnel.exactly(connection, 6) == b"hello\n"
        while person.get("/v1/grants").json["grants"]:
            time.sleep(0.1)
        connection.sendall(b"still here")
        assert tunnel.exactly(connection, 10) == b"still here"
        assert closed(connection)
    row = ended(olga, way.session)
    assert row["end_reason"] == "its time was up"
    assert row["ended_at"] >= row["ends_at"]


def test_keep_does_not_outlive_a_grant_that_is_ended(gate: Service, olga: Connection):
    person = tunnel.enter(gate, somebody(), "keepers")
    way = tunnel.opened(gate, tunnel.ticket_of(person, reason="a long copy"))
    with way.socket as connection:
        revoked_grant(gate, person)
        assert closed(connection)
    assert ended(olga, way.session)["end_reason"] == "its grant was ended"


def test_hosts_that_cannot_be_reached(gate: Service, alice: Connection, olga: Connection):
    said = {name: tunnel.refused(gate, tunnel.ticket_of(alice, name), name) for name in ("gone", "nowhere")}
    assert {each["code"] for each in said.values()} == {"host_unreachable"}
    assert said["gone"]["detail"] == "gone refuses connections"
    assert said["gone"]["hint"] == "does sshd run there, and on that port?"
    assert said["nowhere"]["detail"] == "nowhere has an address that the gateway cannot look up"
    (event,) = [each for each in events(olga, "session.refused") if each["actor"]["id"] == alice.signer.person_id]
    assert event["detail"]["code"] == "host_unreachable"


def test_another_policy_refuses_the_ticket_and_lets_the_session_go_on(install: Callable[..., Service], echo_port: int):
    service = install(tls=True)
    service.start()
    service.apply(ROLES)
    service.add_host("web1", port=echo_port)
    person = tunnel.enter(service, "alice", "engineers")
    ticket = tunnel.ticket_of(person)
    with tunnel.opened(service, ticket).socket as connection:
        service.apply(ROLES.replace(b"engineers", b"others"))
        assert tunnel.refused(service, ticket)["code"] == "no_role"
        connection.sendall(b"x")
        assert tunnel.exactly(connection, 7) == b"hello\nx"


def test_source_addresses(install: Callable[..., Service], echo_port: int):
    """Hosts see the gateway: it asks for the person's network, and the certificate names the gateway's."""
    service = install(tls=True)
    text = service.config.read_text()
    service.start()
    service.apply(HERE)
    service.add_host("web1", port=echo_port)
    person = tunnel.enter(service, "alice", "engineers")
    grant = tunnel.granted(person)
    direct = tunnel.certified(person, grant)
    assert options(direct) == {"source-address": "127.0.0.1/32"}
    assert direct["tunnel"] is None, "the host would refuse it: it is not told where the gateway comes from"
    assert service.stop() == 0

    service.config.write_text(text + '[gateway]\naddresses = ["192.0.2.5/32"]\n')
    service.start()
    through = tunnel.certified(person, grant)
    assert options(through) == {"source-address": "192.0.2.5/32"}
    ticket = through["tunnel"]["ticket"]
    tunnel.opened(service, ticket).socket.close()
    with contextlib.closing(tunnel.shaken(service, tunnel.dialled(service, source="127.0.0.2"))) as elsewhere:
        said = tunnel.ask(elsewhere, ticket)
    assert said["ok"] is False
    assert said["detail"] == "the source address or the forced command is no longer the grant's"
    service.apply(ROLES)
    plain = tunnel.certified(person, tunnel.granted(person))
    assert options(plain) == {}
    assert service.stop() == 0

    service.config.write_text(text + '[gateway]\naddresses = ["192.0.2.5/32"]\nonly = true\n')
    service.start()
    only = tunnel.certified(person, tunnel.granted(person))
    assert options(only) == {"source-address": "192.0.2.5/32"}, "no way around the gateway"


def options(answer: dict[str, Any]) -> dict[str, str]:
    return dict(parse_certificate_line(answer["certificate"]).body.critical_options)


def test_a_service_without_a_gateway(install: Callable[..., Service]):
    service = install(tls=True)
    service.config.write_text(service.config.read_text() + "[gateway]\nenabled = false\n")
    service.start()
    service.apply(ROLES)
    service.add_host("web1")
    person = tunnel.enter(service, "alice", "engineers")
    assert person.get("/.well-known/jitgate").json["gateway"] is None
    assert tunnel.certified(person, tunnel.granted(person))["tunnel"] is None


def test_stopping_ends_sessions_and_says_so(install: Callable[..., Service], echo_port: int):
    service = install(tls=True)
    service.start()
    service.apply(ROLES)
    service.add_host("web1", port=echo_port)
    person, admin = tunnel.enter(service, "alice", "engineers"), tunnel.enter(service, "olga", admin=True)
    ticket = tunnel.ticket_of(person)
    way = tunnel.opened(service, ticket)
    with way.socket as connection:
        assert tunnel.exactly(connection, 6) == b"hello\n"
        assert service.stop() == 0
        assert closed(connection)
    service.start()
    row = ended(admin, way.session)
    assert (row["end_reason"], row["down"]) == ("the gateway stopped", 6)
    crashing = tunnel.opened(service, ticket)
    with crashing.socket as connection:
        service.kill()
        assert closed(connection), "nobody would watch it any more"
    service.start()
    assert ended(admin, crashing.session)["end_reason"] == "the gateway crashed"
