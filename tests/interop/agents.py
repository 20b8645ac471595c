"""A host, a service that it joins, and the agent's commands run on it: what the tests of the agent share."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.enroller import Enroller

from jitgate.app.local_sshd import LocalHost

PROGRAM = [sys.executable, "-m", "jitgate", "agent"]


def state_of(host: LocalHost) -> Path:
    return host.etc.parent / "agent"


def where(host: LocalHost, *, reload: str = "") -> list[str]:
    command = reload or host.reload_command()
    return ["--etc", str(host.etc), "--sshd", str(host.own_sshd()), "--reload", command]


def agent(
    host: LocalHost, what: str, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`jitgate agent WHAT`, with its state beside the host's etc, in a process group of its own."""
    command = [*PROGRAM, what, "--state", str(state_of(host)), *arguments]
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | (environment or {}),
        start_new_session=True,
    )


def join_with(host: LocalHost, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """By a real service's token."""
    return agent(host, "join", *arguments, *where(host), stdin=token + "\n")


def join(
    host: LocalHost, service: Enroller, *arguments: str, environment: dict[str, str] | None = None, reload: str = ""
) -> subprocess.CompletedProcess[str]:
    return agent(
        host, "join", *arguments, *where(host, reload=reload), stdin=service.token() + "\n", environment=environment
    )


def leave(host: LocalHost) -> subprocess.CompletedProcess[str]:
    return agent(host, "leave", *where(host))


@contextmanager
def running(host: LocalHost, service: Enroller | None = None) -> Iterator[subprocess.Popen[str]]:
    """`jitgate agent run`; with a service, from when it is connected to both gateways."""
    log = (host.etc.parent / "agent.log").open("a")
    process = subprocess.Popen(
        [*PROGRAM, "run", "--state", str(state_of(host))], stdout=log, stderr=log, text=True, start_new_session=True
    )
    try:
        if service:
            service.wait(lambda: service.connected() == 2 and service.acks)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            log.close()


def log_of(host: LocalHost) -> str:
    return (host.etc.parent / "agent.log").read_text()


def status(host: LocalHost) -> dict[str, object]:
    found: dict[str, object] = json.loads(agent(host, "status", "-o", "json").stdout)
    return found


def until(what: Callable[[], object], seconds: float = 30) -> None:
    """Looks again and again until it is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
