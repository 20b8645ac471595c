"""The real Traefik with the files of deploy/traefik, the service behind it, and a host: all on loopback.

Only ports and paths of the files are others. The names in them are found by libnss_wrapper, as by a DNS.
"""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.client import PASSWORD, Connection, Signer, code
from tests.interop.trusting import apply
from tests.people import Person
from tests.service import ROLES, Nursery, Service

from jitgate.agent.trust import parse
from jitgate.app import local_sshd
from jitgate.app.demo.daemon import free_port
from jitgate.app.demo.world import World
from jitgate.app.installation import make_installation
from jitgate.app.local_sshd import LocalHost
from jitgate.app.settings import Settings, load_settings
from jitgate.app.tls import authority_pem
from jitgate.core.clock import system_clock
from jitgate.core.secret import Secret

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "traefik"
NAME, TUNNEL_NAME, NEW_NAME = "jit.example.org", "ssh.jit.example.org", "new.example.org"
PATIENCE_S = 30.0
PROXY, ELSEWHERE = "127.0.0.1", "127.0.0.9"
"""Where Traefik connects from, as the files say; an address that nobody has listed."""


@dataclass
class Site:
    """One variant (a folder of deploy/traefik) that runs. `ports`: by what stands in the files."""

    variant: str
    program: Path
    folder: Path
    ports: Mapping[str, int]
    service: Service
    world: World
    traefik: subprocess.Popen[bytes] | None = None

    @property
    def tunnel_port(self) -> int:
        """What people dial: Traefik."""
        return self.ports["2222" if self.variant == "two-ports" else "443"]

    @property
    def tunnel_name(self) -> str:
        return NAME if self.variant == "two-ports" else TUNNEL_NAME

    @property
    def log(self) -> str:
        return (self.folder / "traefik.log").read_text()

    def start(self) -> None:
        """Returns when HTTPS goes through."""
        with (self.folder / "traefik.log").open("ab") as log:
            command = [str(self.program), f"--configFile={self.folder / 'traefik.yaml'}"]
            self.traefik = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.defpath}, cwd=self.folder
            )
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.https().close()
            except OSError as problem:
                if self.traefik.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"{problem}\n{self.log}") from problem
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """As a crash ends it."""
        if self.traefik is not None:
            self.traefik.send_signal(signal.SIGKILL)
            self.traefik.wait()
        self.traefik = None

    def change_routes(self) -> None:
        """Another dynamic configuration, with one more name for HTTPS; returns when it is in force."""
        routes = self.folder / "routes.yaml"
        text = routes.read_text().replace(f"HostSNI(`{NAME}`)", f"HostSNI(`{NAME}`) || HostSNI(`{NEW_NAME}`)")
        routes.with_suffix(".new").write_text(text)
        routes.with_suffix(".new").replace(routes)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.https(name=NEW_NAME).close()
            except OSError as problem:  # Traefik's own certificate
                if time.monotonic() > until:
                    raise AssertionError(f"{problem}\n{self.log}") from problem
                time.sleep(0.05)
            else:
                return

    def https(self, source: str = PROXY, *, name: str = NAME) -> ssl.SSLSocket:
        """A connection to the API from that address, which ends at the service's own certificate."""
        plain = socket.create_connection((PROXY, self.ports["443"]), PATIENCE_S, source_address=(source, 0))
        context = ssl.create_default_context(cadata=authority_pem(self.service.settings).decode())
        context.check_hostname = name == NAME
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise


@dataclass(frozen=True, slots=True)
class NamedWorld(World):
    """One in which the names of the files are known. `names`: for a program's environment."""

    names: Mapping[str, str] = field(default_factory=dict)

    def environment(self, home: Path) -> dict[str, str]:
        return World.environment(self, home) | dict(self.names)


def add_person(site: Site, name: str, home: Path) -> Person:
    """Signed in by jitctl, through Traefik."""
    secret = site.service.add_person(name, "engineers")
    person = Person(home, site.world)
    given = ("--user", name, "--password-file", "-", "--code", code(secret, system_clock()))
    person.jitctl("login", site.service.login_url, *given, stdin=f"{PASSWORD}\n")
    return person


def connect(site: Site, source: str) -> Connection:
    """The API, called from that address."""
    connection = Connection(site.service.url, Signer(site.service.url), dial=lambda: site.https(source))
    site.service.connections.append(connection)
    return connection


@contextmanager
def open_site(variant: str, traefik: Path, programs: Mapping[str, Path], nursery: Nursery) -> Iterator[Site]:
    """The variant's files in force, with a host `web1` and nobody in it yet."""
    ports = {name: free_port() for name in ("443", "2222", "8443", "8422")}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jitgate-test-")))
        folder.chmod(0o755)
        for name in ("traefik.yaml", "routes.yaml", "gateway.toml"):
            (folder / name).write_text(_on_loopback(FILES / variant / name, folder, ports))
        service = _install(folder, ports, nursery)
        stack.callback(shutil.rmtree, service.folder)
        service.start()
        stack.callback(lambda: service.kill() if service.pid else None)
        service.apply(ROLES)
        host = local_sshd.start(folder / "web1", "web1", ("ubuntu",), local_sshd.find_programs())
        stack.callback(host.stop)
        _trust(service, host)
        (folder / "hosts").write_text(f"{PROXY} {NAME}\n{PROXY} {TUNNEL_NAME}\n")
        names = {"LD_PRELOAD": str(programs["libnss_wrapper.so"]), "NSS_WRAPPER_HOSTS": str(folder / "hosts")}
        world = NamedWorld(
            folder=folder,
            config=service.config,
            settings=service.settings,
            url=service.login_url,
            people={},
            hosts={"web1": host},
            vault_token=Secret(""),
            peers=None,
            names=names,
        )
        site = Site(variant, traefik, folder, ports, service, world)
        site.start()
        stack.callback(site.stop)
        yield site
        for connection in service.connections:
            connection.close()
        assert service.stop() == 0, service.words()


def _on_loopback(file: Path, folder: Path, ports: Mapping[str, int]) -> str:
    text = file.read_text().replace("/etc/traefik", str(folder))
    for port, free in ports.items():
        text = text.replace(f'":{port}"', f'"{PROXY}:{free}"').replace(f':{port}"', f':{free}"')
    return text


def _install(folder: Path, ports: Mapping[str, int], nursery: Nursery) -> Service:
    own = Path(tempfile.mkdtemp(prefix="jitgate-test-"))
    chosen = Settings(
        state=own / "state",
        url=f"https://{NAME}:{ports['443']}",
        other_urls=(f"https://{TUNNEL_NAME}:{ports['443']}",),
        listen=f"{PROXY}:{ports['8443']}",
    )
    made = make_installation(own / "jitgate.toml", chosen, system_clock)
    with made.config.open("a") as file:
        file.write((folder / "gateway.toml").read_text())
    return Service(nursery, own, load_settings(made.config, {}), made.config, made.login_url)


def _trust(service: Service, host: LocalHost) -> None:
    told = service.act(
        "host add",
        name=host.name,
        address=host.address,
        port=host.port,
        logins=list(host.logins),
        labels={"tier": "web"},
        host_key=host.host_key,
    )
    done = apply(host, parse(told["trust"].encode()))
    assert done.returncode == 0, done.stderr
