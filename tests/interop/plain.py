"""A world for plain ssh: the service, alice signed in, hosts that are stock sshd, and roles without a question."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.people import Person, sign_in
from tests.service import ROLES as WEB

from jitgate.app import local_sshd
from jitgate.app.demo import world as demo
from jitgate.app.demo.world import World, open_world
from jitgate.app.local_sshd import LocalHost
from jitgate.app.operate import operate
from jitgate.app.settings import Settings, load_settings
from jitgate.policy.bundle import load_files

ROLES = {
    "web.yaml": WEB,
    "forward.yaml": b"""
role: forward
effect: allow
who: {groups: [engineers]}
what: {hosts: [web1]}
as: [deploy]
how_long: {grant: 1h, certificate: 15m}
extensions: [permit-pty, permit-port-forwarding]
""",
    "brief.yaml": b"""
role: brief
effect: allow
who: {groups: [engineers]}
what: {hosts: [db1]}
as: [postgres]
how_long: {grant: 1h, certificate: 10s}
""",
}
WAYS = ("tunnel", "direct")


@dataclass(frozen=True)
class Plain:
    """Alice at her machine, with our ssh config in place. `way`: through the gateway, or to the hosts themselves."""

    alice: Person
    way: str

    @property
    def options(self) -> tuple[str, ...]:
        """What makes any OpenSSH program read alice's config, which ssh itself looks for by the machine's user list."""
        return ("-F", str(self.alice.config), *(("-o", "ProxyCommand=none") if self.way == "direct" else ()))

    @property
    def command(self) -> str:
        """For programs that are told what ssh is."""
        return " ".join(("ssh", *self.options))

    def ssh(self, *arguments: str, status: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("ssh", *self.options, *arguments, status=status, stdin=stdin)

    def run(self, *command: str, status: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = self.alice.run(*command, stdin=stdin)
        assert done.returncode == status, done.stderr or done.stdout
        return done


@contextmanager
def open_plain(settings: str = "") -> Iterator[tuple[World, Person]]:
    """`settings`: what is added to the service's own."""

    def installation(folder: Path) -> tuple[Settings, Path]:
        _, config = make(folder)
        with config.open("a") as file:
            file.write(settings)
        return load_settings(config, {}), config

    make = demo._installation
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder,
        ExitStack() as stack,
    ):
        patch.setattr(demo, "_installation", installation)
        world = stack.enter_context(open_world(Path(folder)))
        operate(world.settings, "policy apply", {"bundle": load_files(ROLES).text})
        alice = sign_in(world, "alice")
        alice.jitctl("ssh-config", "install")
        yield world, alice


@contextmanager
def at_home(alice: Person) -> Iterator[Person]:
    """A copy of her home, for tests that change something in it."""
    with tempfile.TemporaryDirectory(prefix="jitgate-home-") as folder:
        shutil.copytree(alice.home, folder, dirs_exist_ok=True, symlinks=True)
        person = Person(Path(folder), alice.world)
        person.config.unlink(missing_ok=True)
        shutil.rmtree(person.state / "certs", ignore_errors=True)
        person.jitctl("ssh-config", "install")
        yield person


@contextmanager
def more_hosts(world: World, names: Sequence[str]) -> Iterator[list[LocalHost]]:
    """Further web servers."""
    programs = local_sshd.find_programs()
    with ExitStack() as stack:
        hosts = []
        for name in names:
            host = local_sshd.start(world.folder / name, name, ("ubuntu",), programs)
            stack.callback(host.stop)
            demo.trust_host(world.settings, host, {"tier": "web"}, world.folder / f"{name}.trust")
            hosts.append(host)
        yield hosts


def ansible_settings(folder: Path, ssh: str, forks: int) -> dict[str, str]:
    """The environment of a play with pipelining, whose connections stay open for the next task. `ssh`: its options."""
    config = folder / "none.cfg"
    config.touch()
    return {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(folder / "a"),
        "ANSIBLE_FORKS": str(forks),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_SSH_ARGS": f"{ssh} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_SSH_CONTROL_PATH": f"{folder}/%%C",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable,
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "ANSIBLE_NOCOLOR": "true",
    }


def end_masters(alice: Person, folder: Path) -> None:
    for path in folder.glob("[0-9a-f]*"):
        alice.run("ssh", "-o", f"ControlPath={path}", "-O", "exit", "any")
