"""A running service for tests: the real `jitgate serve`, in a folder and on a loopback port of its own.

Starting Python with all that the service imports takes seconds, and some tests start it a hundred times: so a nursery
process imports everything once and forks a service each time. What runs then is `jitgate serve` as the command has it,
with a signer process of its own.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.client import PASSWORD, Connection, Json, Signer

from jitgate.app.control import call_control
from jitgate.app.demo.daemon import free_port
from jitgate.app.installation import join_installation, make_installation
from jitgate.app.settings import Settings
from jitgate.core.clock import system_clock
from jitgate.policy.bundle import load_files
from jitgate.ssh.private import generate_ed25519

START_S = 30.0
ROLES = b"""
role: web
effect: allow
who: {groups: [engineers]}
what: {labels: {tier: web}}
as: [ubuntu]
how_long: {grant: 1h, certificate: 15m}
extensions: [permit-pty]
"""


class Nursery:
    """Starts services fast. One a test run; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def ask(self, **told: object) -> int:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class Service:
    """One installation, and the service that runs in it or does not. Made by `new_service`."""

    def __init__(self, nursery: Nursery, folder: Path, settings: Settings, config: Path, login_url: str) -> None:
        self._nursery = nursery
        self.folder, self.settings, self.config, self.login_url = folder, settings, config, login_url
        self.url = settings.url
        self.log = folder / "service.log"
        self.connections: list[Connection] = []
        self.pid = 0
        """Of the running service; 0 while there is none."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def state(self) -> Path:
        return self.settings.state

    def start(self, **environment: str) -> None:
        """Returns when the service says that it is ready, as systemd would be told.

        `TEST_CONSTANTS` is a JSON table of numbers in its modules that a test does not want to wait for.
        """
        ready = self.folder / "notify"
        ready.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(ready))
            told.settimeout(START_S)
            given = environment | {"NOTIFY_SOCKET": str(ready)}
            self.pid = self._nursery.ask(start=str(self.config), log=str(self.log), environment=given)
            said = told.recv(100)
        if said != b"READY=1":
            self.pid = 0
            raise AssertionError(f"the service did not start: {said!r}\n{self.words()}")

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """As a power cut ends it. Its signer then ends by itself."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        status = self._nursery.ask(wait=self.pid)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def signer_pid(self) -> int:
        """The process that holds the keys; 0 while there is none."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def words(self) -> str:
        """All that the service wrote into its own log."""
        return self.log.read_text() if self.log.exists() else ""

    def act(self, act: str, /, **arguments: Any) -> Json:
        """What an operator's command has the running service do."""
        done = call_control(self.state, act, arguments)
        assert done is not None, "the service does not run"
        return done

    def jitgate(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """An operator's command, as a process."""
        command = [sys.executable, "-m", "jitgate", *arguments, "--config", str(self.config)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)

    def apply(self, *roles: bytes) -> None:
        self.act("policy apply", bundle=load_files({f"{at}.yaml": role for at, role in enumerate(roles)}).text)

    def add_host(self, name: str, address: str = "127.0.0.1", port: int = 22, tier: str = "web") -> Json:
        return self.act(
            "host add",
            name=name,
            address=address,
            port=port,
            logins=["ubuntu"],
            labels={"tier": tier},
            host_key=generate_ed25519().public.line(),
        )

    def add_person(self, name: str, *groups: str, admin: bool = False) -> str:
        """Somebody with the password `client.PASSWORD`; their one-time code secret."""
        told = self.act("user add", name=name, groups=list(groups), admin=admin, password=PASSWORD)
        return str(told["totp_secret"])

    def connect(self, signer: Signer | None = None) -> Connection:
        self.connections.append(Connection(self.url, signer or Signer(self.url)))
        return self.connections[-1]

    def enter(self, name: str, *groups: str, admin: bool = False) -> Connection:
        """A new person, signed in. The service must speak plain HTTP."""
        connection = self.connect()
        answer = connection.sign_in(name, self.add_person(name, *groups, admin=admin))
        assert answer.status == 201, answer
        return connection


@contextmanager
def new_service(
    nursery: Nursery, *, tls: bool = False, join: Service | None = None, **settings: Any
) -> Iterator[Service]:
    """A new installation that does not run yet, or another node of one. Stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="jitgate-test-"))  # short: a Unix socket's path has at most 107 bytes
    port = free_port()
    chosen = Settings(
        state=folder / "state",
        url=f"http{'s' if tls else ''}://127.0.0.1:{port}",
        listen=f"127.0.0.1:{port}",
        **settings,
    )
    config = folder / "jitgate.toml"
    if join:
        chosen = replace(chosen, database=chosen.database or join.settings.database)
        made = join_installation(config, chosen, join.state, system_clock)
    else:
        made = make_installation(config, chosen, system_clock)
    service = Service(nursery, folder, chosen, made.config, made.login_url)
    try:
        yield service
    finally:
        for connection in service.connections:
            connection.close()
        if service.pid:
            service.kill()
        shutil.rmtree(folder)
