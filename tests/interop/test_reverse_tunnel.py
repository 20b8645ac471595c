"""A session to a host without an inbound port: real agent, real sshd, real ssh, through the gateway.

The last test does the same where person and host are in network namespaces with no route between them, and nothing of
the host listens anywhere but on its own loopback. It runs this file again in a namespace of its own, as root.
"""

import ctypes
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests import tunnel
from tests.client import Connection
from tests.interop.agents import join_with, running, until
from tests.service import Nursery, Service

from jitgate.agent import pins
from jitgate.app.local_sshd import LocalHost
from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem
from jitgate.cli import ssh_proxy
from jitgate.ssh.private import dump_private_key

INSIDE = "JITGATE_TEST_INSIDE"
NAME = "inner1"
GATEWAY, PERSON_NET, HOST_NET = "10.77.0.1", "10.77.1", "10.77.2"


@pytest.fixture
def gate(nursery: Nursery) -> Iterator[Service]:
    with tunnel.gateway(nursery) as started:
        yield started


def is_connected(olga: Connection) -> bool:
    hosts = olga.get("/v1/hosts/agents").json["hosts"]
    return any(each["name"] == NAME and each["agent"]["connected"] for each in hosts)


def token_of(olga: Connection) -> str:
    told = {"name": NAME, "logins": ["ubuntu"], "labels": {"tier": "web"}, "reach": "agent", "address": "192.0.2.7"}
    answer = olga.post("/v1/hosts/tokens", told)
    assert answer.status == 201, answer
    return str(answer.json["token"])


class Visitor:
    """A person's machine: key, certificate, ticket, and the stock ssh."""

    def __init__(self, folder: Path, gate: Service, person: Connection) -> None:
        self.folder = folder
        self._write("ca.pem", authority_pem(gate.settings))
        self._write("id", dump_private_key(person.signer.key).reveal())
        grant = tunnel.granted(person, NAME)
        found = tunnel.certified(person, grant, NAME)
        self._write("id-cert.pub", found["certificate"].encode() + b"\n")
        way = found["tunnel"]
        ticket = {name: way[name] for name in ("ticket", "address", "port", "server_name", "keep_tls")}
        self._write("ticket", json.dumps(ticket | {"host": NAME, "ca_file": str(folder / "ca.pem")}).encode())
        known = json.loads(person.get("/.well-known/jitgate").body)
        keys = [line for realm in known["realms"] for line in realm["host_ca"]]
        self._write("known", "".join(f"@cert-authority *.default.jitgate {line}\n" for line in keys).encode())

    def _write(self, name: str, data: bytes) -> None:
        (self.folder / name).touch(0o600)
        (self.folder / name).write_bytes(data)

    def ssh(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        proxy = f"'{Path(sys.executable).resolve()}' -I -S '{Path(ssh_proxy.__file__).parent}' '{self.folder}/ticket'"
        settings = {
            "BatchMode": "yes",
            "CertificateFile": str(self.folder / "id-cert.pub"),
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": f"{NAME}.default.jitgate",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "ProxyCommand": proxy,
            "ProxyUseFdpass": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.folder / "known"),
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        where = ["-i", str(self.folder / "id"), f"ubuntu@{NAME}"]
        return subprocess.run(
            ["ssh", "-F", "none", *options, *where, *command], input=stdin, capture_output=True, text=True, check=False
        )


@pytest.fixture
def olga(gate: Service) -> Iterator[Connection]:
    connection = tunnel.enter(gate, "olga", "engineers", admin=True)
    yield connection
    connection.close()


def test_ssh_by_a_connection_back(
    gate: Service, olga: Connection, start_sshd: Callable[..., LocalHost], tmp_path: Path
):
    host = start_sshd(NAME, "ubuntu")
    done = join_with(host, token_of(olga))
    assert done.returncode == 0, done.stdout + done.stderr
    with running(host):
        until(lambda: is_connected(olga))
        visitor = Visitor(tmp_path, gate, olga)
        done = visitor.ssh("echo $LOCAL_HOST; exit 7")
        assert (done.stdout, done.returncode) == (f"{NAME}\n", 7), done.stderr
        sent = "x" * 1_000_000
        assert visitor.ssh("cat", stdin=sent).stdout == sent
        assert "from 127.0.0.1 port" in host.log_text()
        ports = [each["port"] for each in olga.get("/v1/sessions?ended=true").json["sessions"]]
        assert all(f"from 127.0.0.1 port {port} ssh2" in host.log_text() for port in ports)
    done = visitor.ssh("true")
    assert done.returncode == 255
    assert "agent" in done.stderr


def test_it_reaches_the_local_sshd_and_nothing_else(
    gate: Service, olga: Connection, start_sshd: Callable[..., LocalHost], tmp_path: Path
):
    """The host is known to the service under an address and port where somebody else listens: nobody comes there. And
    what the agent was told when it joined says where its sshd is, whatever else answers on this machine."""
    came: list[str] = []

    def other(connection: socket.socket) -> None:
        came.append("somebody")
        connection.sendall(b"SSH-2.0-another\r\n")

    host = start_sshd(NAME, "ubuntu")
    with tunnel.host(other) as port:
        told = {"name": NAME, "logins": ["ubuntu"], "labels": {"tier": "web"}, "reach": "agent"}
        answer = olga.post("/v1/hosts/tokens", told | {"address": "127.0.0.1", "port": port})
        done = join_with(host, answer.json["token"])
        assert done.returncode == 0, done.stdout + done.stderr
        config = host.etc / "agent.toml"
        config = config if config.exists() else Path(next(iter(host.etc.parent.rglob("agent.toml"))))
        assert pins.read(config).sshd_at == f"127.0.0.1:{host.port}"
        with running(host):
            until(lambda: is_connected(olga))
            done = Visitor(tmp_path, gate, olga).ssh("echo $LOCAL_HOST")
            assert done.stdout == f"{NAME}\n", done.stderr
    assert came == []


# ---- in namespaces of its own ----


def _has_namespaces() -> bool:
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _has_namespaces(), reason="needs root that may make namespaces, and iproute2")
def test_no_route_between_person_and_host():
    test = f"{Path(__file__)}::test_inside_there_is_no_route"
    command = ["unshare", "--net", sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=os.environ | {INSIDE: "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.startswith("."), done.stdout  # passed, and not skipped


class Space:
    """A network namespace with one way out: to the gateway's address. What is done in it, a thread of its own does."""

    def __init__(self, name: str, net: str) -> None:
        self._keeper = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        until(lambda: Path(self._path).readlink() != Path("/proc/self/ns/net").readlink())
        ip("link", "add", name, "type", "veth", "peer", "name", "up0", "netns", str(self._keeper.pid))
        ip("addr", "add", f"{net}.1/24", "dev", name)
        ip("link", "set", name, "up")
        inside = ("nsenter", "-t", str(self._keeper.pid), "-n", "ip")
        for words in ("link set lo up", f"addr add {net}.2/24 dev up0", "link set up0 up"):
            subprocess.run([*inside, *words.split()], check=True)
        subprocess.run([*inside, "route", "add", GATEWAY, "via", f"{net}.1"], check=True)
        self.worker = ThreadPoolExecutor(1, initializer=self._enter)

    @property
    def _path(self) -> str:
        return f"/proc/{self._keeper.pid}/ns/net"

    def _enter(self) -> None:
        with Path(self._path).open() as file:
            assert ctypes.CDLL(None).setns(file.fileno(), 0x40000000) == 0  # CLONE_NEWNET

    def do(self, act: Callable[..., Any], *arguments: Any) -> Any:
        return self.worker.submit(act, *arguments).result(120)

    def close(self) -> None:
        self.worker.shutdown()
        self._keeper.kill()
        self._keeper.wait()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def forwarded(port: int) -> Iterator[None]:
    """What comes to the gateway's address goes on to this machine's own loopback, where the service listens."""
    with socket.create_server((GATEWAY, port)) as listener, ExitStack() as stack:

        def pump(one: socket.socket, other: socket.socket) -> None:
            with suppress(OSError):
                while data := one.recv(65536):
                    other.sendall(data)
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near = stack.enter_context(listener.accept()[0])
                    far = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    for pair in ((near, far), (far, near)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def connects(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setblocking(False)
        with suppress(BlockingIOError, OSError):
            probe.connect((address, port))
        select.select([], [probe], [], 2)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _is_open(probe)


def _is_open(probe: socket.socket) -> bool:
    try:
        probe.getpeername()
    except OSError:
        return False
    return True


@pytest.mark.skipif(INSIDE not in os.environ, reason="run by test_no_route_between_person_and_host")
def test_inside_there_is_no_route(
    nursery: Nursery, programs: Mapping[str, Path], tmp_path: Path, start_sshd: Callable[..., LocalHost]
):
    assert programs
    ip("link", "set", "lo", "up")
    ip("addr", "add", f"{GATEWAY}/32", "dev", "lo")
    with ExitStack() as stack:
        far, near = Space("far", HOST_NET), Space("near", PERSON_NET)
        stack.callback(far.close)
        stack.callback(near.close)
        gate = stack.enter_context(reached_at_gateway(nursery))
        olga = tunnel.enter(gate, "olga", "engineers", admin=True)
        stack.callback(olga.close)
        host: LocalHost = far.do(start_sshd, NAME, "ubuntu")
        stack.callback(host.stop)
        assert far.do(connects, "127.0.0.1", host.port)
        assert far.do(connects, GATEWAY, gate.port)
        assert near.do(connects, GATEWAY, gate.port)
        for space, address in ((near, f"{HOST_NET}.2"), (far, f"{PERSON_NET}.2"), (near, f"{HOST_NET}.1")):
            assert not space.do(connects, address, host.port)
        assert not connects(f"{HOST_NET}.2", host.port)  # not even from the gateway
        done = far.do(join_with, host, token_of(olga))
        assert done.returncode == 0, done.stdout + done.stderr
        agent = far.do(lambda: stack.enter_context(running(host)))
        assert agent.poll() is None
        until(lambda: is_connected(olga))
        visitor = Visitor(tmp_path, gate, olga)
        done = near.do(visitor.ssh, "echo $LOCAL_HOST; exit 7")
        assert (done.stdout, done.returncode) == (f"{NAME}\n", 7), done.stderr


@contextmanager
def reached_at_gateway(nursery: Nursery) -> Iterator[Service]:
    """A service on loopback whose url names the gateway's address."""
    from tests import service as made  # noqa: PLC0415  # to change what it makes

    real = Settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "Settings", lambda **told: real(**told | {"url": f"https://{GATEWAY}:{told['url'][18:]}"}))
        with tunnel.gateway(nursery) as gate, forwarded(gate.port):
            yield gate
