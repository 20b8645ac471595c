"""The real Traefik before the service, with the files of deploy/traefik as they are but for ports."""

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.client import Connection
from tests.interop.behind_traefik import (
    ELSEWHERE,
    NAME,
    PATIENCE_S,
    PROXY,
    Site,
    add_person,
    connect,
    open_site,
)
from tests.people import Person
from tests.service import Nursery
from tools import peers

from jitgate.cli import ssh_proxy
from jitgate.gateway.ssh_refusal import TEXT

pytestmark = pytest.mark.peers

READ_TIMEOUT_S = 10  # in deploy/traefik; of a connection that sends nothing
HALF = 32 << 20  # bytes that come after a half-close: far more than what lies in buffers
HEADER = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c")
"""The head of a PROXY header, version 2, for TCP over IPv4 (proxy-protocol.txt, 2.2)."""


@pytest.fixture(scope="module")
def traefik() -> Path:
    if not (program := peers.place("traefik")).is_file():
        what = "Traefik is not built here: python3 -m tools.peers traefik"
        pytest.fail(what) if os.environ.get("CI") else pytest.skip(what)
    return program


@pytest.fixture(scope="module", params=["two-ports", "one-port"])
def site(
    request: pytest.FixtureRequest, traefik: Path, programs: Mapping[str, Path], nursery: Nursery
) -> Iterator[Site]:
    with open_site(request.param, traefik, programs, nursery) as opened:
        yield opened


@pytest.fixture(scope="module")
def alice(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return add_person(site, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture(scope="module")
def signed_in_bob(site: Site) -> Connection:
    connection = connect(site, ELSEWHERE)
    answer = connection.sign_in("bob", site.service.add_person("bob", "engineers", admin=True))
    assert answer.status == 201, answer
    return connection


@pytest.fixture
def bob(signed_in_bob: Connection) -> Connection:
    """Somebody at another address, by the API alone."""
    signed_in_bob.close()  # kept open for seconds only
    return signed_in_bob


def tunnel(site: Site, bob: Connection, folder: Path, host: str = "web1") -> socket.socket:
    """Bare bytes to a host's sshd, from `ELSEWHERE`."""
    grant = bob.post("/v1/grants", {"host": host})
    answer = bob.post("/v1/certificates", {"grant": grant.json["grant"]["id"], "host": host})
    assert answer.status == 201, answer
    ticket = answer.json["tunnel"] | {"host": host, "ca_file": str(site.service.state / "tls/ca.pem")}
    assert (ticket["address"], ticket["port"]) == (site.tunnel_name, site.tunnel_port)
    plain = socket.create_connection((PROXY, site.tunnel_port), PATIENCE_S, source_address=(ELSEWHERE, 0))
    gateway = ssh_proxy.secure(plain, ticket["server_name"], ticket["ca_file"])
    ssh_proxy.ask(gateway, ssh_proxy.Ticket(ticket, str(folder)))
    gateway.settimeout(PATIENCE_S)
    return gateway.unwrap()


def ssh(person: Person, *arguments: str) -> list[str]:
    return ["ssh", "-F", str(person.config), *arguments]


def sessions(bob: Connection) -> list[dict[str, Any]]:
    """Everybody's, newest first, ended ones too."""
    bob.close()
    found: list[dict[str, Any]] = bob.get("/v1/sessions?all=1&everybody=1").json["sessions"]
    return found


def test_sign_in_and_api(site: Site, alice: Person):
    """Through Traefik, with TLS that ends at the service: what jitctl pinned is the service's own authority."""
    assert alice.jitctl("whoami").stdout.startswith("name     alice\n")
    assert alice.jitctl("vm", "ls").stdout.splitlines()[1].split()[:2] == ["web1", "ubuntu"]
    pinned = (alice.state / "tls-ca.pem").read_bytes()
    assert pinned == (site.service.state / "tls/ca.pem").read_bytes()


def test_jitctl_and_plain_ssh(site: Site, alice: Person, bob: Connection):
    done = alice.jitctl("vm", "connect", "ubuntu@web1", "--", "cat; exit 7", stdin="in", status=7)
    assert done.stdout == "in"
    assert alice.ssh("ubuntu@web1", "cat; echo $USER", stdin="more\n").stdout == "more\nubuntu\n"
    ticket = json.loads((alice.state / "certs/web1.default.jitgate/ubuntu.ticket").read_text())
    assert (ticket["address"], ticket["port"]) == (site.tunnel_name, site.tunnel_port)
    assert [row["host"] for row in sessions(bob)[:2]] == ["web1", "web1"]


def test_the_address_is_the_clients(site: Site, bob: Connection, tmp_path: Path):
    """In the log and in the session; whatever a client adds about it is not read."""
    forged = bob.signer.call("GET", "/v1/me")
    forged.headers["x-forwarded-for"] = "192.0.2.1"
    forged.headers["forwarded"] = "for=192.0.2.1"
    assert bob.send(forged).status == 200
    with closing(tunnel(site, bob, tmp_path)) as host:
        assert host.recv(4) == b"SSH-"
    events = bob.get("/v1/audit").json["events"]
    told = {event["type"]: event["source"] for event in events if event["actor"]["name"] == "bob"}
    assert {"sign_in.succeeded", "session.opened"} <= told.keys()
    assert set(told.values()) == {ELSEWHERE}
    assert sessions(bob)[0]["source"] == ELSEWHERE


@pytest.mark.parametrize("port", ["8443", "8422"])
@pytest.mark.parametrize(
    ("source", "before", "passes"),
    [
        pytest.param(PROXY, HEADER + bytes([192, 0, 2, 1, 127, 0, 0, 1, 0, 9, 0, 9]), True, id="listed"),
        pytest.param(PROXY, b"", False, id="listed-without-header"),
        pytest.param(PROXY, b"PROXY TCP4 192.0.2.1 127.0.0.1 9 9\r\n", False, id="listed-version-1"),
        pytest.param(ELSEWHERE, HEADER + bytes([192, 0, 2, 1, 127, 0, 0, 1, 0, 9, 0, 9]), False, id="not-listed"),
        pytest.param(ELSEWHERE, b"", True, id="not-listed-without-header"),
    ],
)
def test_who_may_say_where_a_connection_comes_from(site: Site, port: str, source: str, before: bytes, passes: bool):  # noqa: FBT001  # a row
    """Asked of the service itself, past Traefik."""
    where = (PROXY, site.ports[port])
    with socket.create_connection(where, PATIENCE_S, source_address=(source, 0)) as plain:
        heard = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            plain.sendall(before + _hello())
            heard = plain.recv(1)
    assert heard == (b"\x16" if passes else b"")


def _hello() -> bytes:
    """A ClientHello that both HTTPS and the tunnel answer with a record of a handshake (0x16)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([ssh_proxy.ALPN, "http/1.1"])
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME).do_handshake()
    return outgoing.read()


def test_a_client_that_speaks_ssh_is_told_what_to_use(site: Site, alice: Person):
    options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    done = alice.run("ssh", *options, "-p", str(site.tunnel_port), f"ubuntu@{NAME}", "true")
    assert done.returncode == 255
    assert TEXT in done.stderr
    assert "jitctl" in TEXT


def test_nothing_is_served_without_tls(site: Site):
    request = b"GET /.well-known/jitgate HTTP/1.1\r\nHost: " + NAME.encode() + b"\r\nConnection: close\r\n\r\n"
    for port in {site.ports["443"], site.tunnel_port}:
        heard = b""
        with socket.create_connection((PROXY, port), PATIENCE_S) as plain, suppress(ConnectionResetError):
            plain.sendall(request)
            while more := plain.recv(4096):
                heard += more
        assert b"user_ca" not in heard
        assert not heard.startswith(b"HTTP/1.1 200")


def test_a_session_that_is_silent_and_one_that_is_not(alice: Person):
    """Longer than Traefik waits for first bytes, and megabytes with new keys on the way."""
    alice.jitctl("vm", "connect", "ubuntu@web1", "--", "true")
    silent = subprocess.Popen(
        ssh(alice, "ubuntu@web1", f"sleep {READ_TIMEOUT_S + 2}; echo awake"),
        env=alice.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    count = 64 << 20
    copied = subprocess.run(
        ssh(alice, "-o", "RekeyLimit=8M", "ubuntu@web1", f"head -c {count} /dev/zero"),
        env=alice.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        start_new_session=True,
    )
    assert len(copied.stdout) == count
    assert silent.communicate(timeout=PATIENCE_S)[0] == "awake\n"
    assert silent.returncode == 0


def test_half_close_is_passed_on(site: Site, bob: Connection, tmp_path: Path):
    """A host that answers only when the client has said all, at length and after longer than Traefik's own patience."""
    with socket.create_server((PROXY, 0)) as listener:
        threading.Thread(target=_answer_late, args=(listener,), daemon=True).start()
        site.service.add_host("late", PROXY, listener.getsockname()[1])
        with closing(tunnel(site, bob, tmp_path, "late")) as host:
            host.sendall(b"all that is said")
            host.shutdown(socket.SHUT_WR)
            heard = b""
            while more := host.recv(1 << 20):
                heard += more
    assert heard.startswith(b"all that is said")
    assert len(heard) == len(b"all that is said") + HALF


def _answer_late(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        said = b""
        while more := connection.recv(4096):
            said += more
        threading.Event().wait(0.5)  # five times what Traefik would wait by itself
        with suppress(OSError):  # it was cut: the test says so
            connection.sendall(said + bytes(HALF))


def test_new_routes_cut_nothing_and_a_crash_of_traefik_only_what_is_open(site: Site, alice: Person, bob: Connection):
    alice.jitctl("vm", "connect", "ubuntu@web1", "--", "true")
    with _session(alice) as ask:
        assert ask("first") == "first\n"
        site.change_routes()
        assert ask("second") == "second\n"
        site.stop()
        assert ask("third") == ""
    site.start()
    assert alice.ssh("ubuntu@web1", "echo again").stdout == "again\n"
    row = sessions(bob)[1]
    assert row["ended_at"], row
    assert row["end_reason"] in {"the client's connection broke", "the client closed it"}


class _session:  # noqa: N801  # read as a function
    """`with _session(person) as ask: ask("word")` is what `cat` on the host answers."""

    def __init__(self, person: Person) -> None:
        self._process = subprocess.Popen(
            ssh(person, "ubuntu@web1", "cat"),
            env=person.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def __enter__(self) -> Callable[[str], str]:
        return self._ask

    def _ask(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{word}\n")
        return self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=PATIENCE_S)
