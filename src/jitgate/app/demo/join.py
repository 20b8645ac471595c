"""The demo's hosts join by one command each, and keep an agent that learns what was taken away."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import DEVNULL, Popen

from jitgate.app.demo.daemon import Daemon, tied
from jitgate.app.demo.steps import JITCTL, JITGATE, expect_that, jitctl, run, say, show
from jitgate.app.demo.world import HOSTS, World
from jitgate.app.local_sshd import LocalHost

TRIES_S = 30


@contextmanager
def joined_hosts(world: World) -> Iterator[None]:
    """Until it ends each host's agent runs. Bob, who runs the hosts, is signed in then."""
    say("two stock sshds know nothing of jitgate. Bob makes a one-time token for each, and each joins by one command")
    bob = world.people["bob"]
    password = bob.home / "local-password"
    password.touch(0o600)
    password.write_text(bob.password.reveal())
    login = ["login", world.url, "--user", "bob", "--password-file", str(password), "--code", bob.code()]
    run(world, bob.home, [*JITCTL, *login])
    with ExitStack() as agents:
        for host in world.hosts.values():
            _join(world, host)
            agents.callback(_agent(world, host).stop)
        _wait_until_told(world)
        jitctl(world, bob.home, ["hosts", "ls"], expect="web1")
        yield


def _join(world: World, host: LocalHost) -> None:
    bob, token = world.people["bob"].home, f"{host.name}.token"
    labels = [f"--label={key}={value}" for key, value in HOSTS[host.name][1].items()]
    logins = [f"--login={login}" for login in host.logins]
    add = ["hosts", "add", host.name, *logins, *labels, f"--address={host.address}", f"--port={host.port}"]
    into = f'umask 077; exec "$@" > "{world.folder / token}"'
    show(world, bob, ["sh", "-c", into, "sh", *JITCTL, *add], shown=["jitctl", *add], into=token)
    place = [f"--state={world.folder / host.name}/agent", f"--etc={host.etc}", f"--sshd={host.own_sshd()}"]
    join = ["agent", "join", f"--token-file={token}", *place, f"--reload={host.reload_command()}"]
    shown = ["jitgate", *join[:-1], f"--reload=kill -HUP {host.process.pid}"]  # and a wait until it listens again
    show(world, world.folder, [*JITGATE, *join], shown=shown, expect="done")


def _agent(world: World, host: LocalHost) -> Daemon:
    """`jitgate agent run`, as systemd would keep it."""
    log = world.folder / f"{host.name}-agent.log"
    command = [sys.executable, "-m", "jitgate", "agent", "run", "--state", str(world.folder / host.name / "agent")]
    with log.open("wb") as output:
        environment = world.environment(world.folder)
        process = Popen(
            tied(command), stdin=DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    return Daemon(f"the agent of {host.name}", 0, log, process)


def _wait_until_told(world: World) -> None:
    """Until each agent is connected and has put into force what it was told."""
    until = time.monotonic() + TRIES_S
    command = [*JITCTL, "hosts", "ls", "-o", "json"]
    while True:
        found = json.loads(run(world, world.people["bob"].home, command).stdout)
        if all(host["agent"] and host["agent"]["current"] for host in found["hosts"]):
            return
        expect_that(time.monotonic() < until, "an agent is not connected")
        time.sleep(0.1)
