"""A program of somebody else's, run from a folder on a loopback port, and stopped again."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.local_sshd import ADDRESS, SYSTEM_FOLDERS
from jitgate.core.errors import NotFound, Unreachable

PATIENCE_S = 20
"""How long one may take to start or stop, on a machine that is busy with other things."""
PORT_TRIES = 5
PORTS = range(20_000, 32_000)
"""Those that the system gives to outgoing connections begin at 32768."""
IN_USE = "ddress already in use"


@dataclass(slots=True)
class Daemon:
    """A running program. `port`: where it listens on 127.0.0.1."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        """A second call does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def find(name: str, hint: str, *folders: str) -> Path:
    """Along PATH, then in `folders` and where servers are. Raises NotFound."""
    places = [*os.environ.get("PATH", os.defpath).split(":"), *folders, *SYSTEM_FOLDERS]
    if (found := next((path for place in places if (path := Path(place) / name).is_file()), None)) is None:
        raise NotFound(f"{name} not found on this machine", hint)
    return found


def start(
    name: str, log: Path, command: Callable[[int], Sequence[str]], environment: Mapping[str, str], *, port: int = 0
) -> Daemon:
    """Starts `command(port)` on that port of 127.0.0.1, or on a free one; returns when it listens there.

    It ends with `stop()`, and also when the calling thread or this process ends, however. Raises Unreachable.
    """
    for _ in range(PORT_TRIES):
        chosen = port or free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                tied(command(chosen)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        daemon = Daemon(name, chosen, log, process)
        try:
            _wait_until_it_listens(daemon)
        except BaseException:
            daemon.stop()
            if IN_USE not in daemon.words():
                raise
        else:
            return daemon
    raise Unreachable(f"{name} found no free port", "try again")


def tied(command: Sequence[str]) -> list[str]:
    """The command, ended by the kernel when the thread that started it ends, however that comes."""
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), *command]


def free_port() -> int:
    """A port of loopback that nobody has, and that the system gives to no outgoing connection."""
    while True:
        port = random.choice(PORTS)  # noqa: S311  # no secret
        with socket.socket() as probe:
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
        return port


def _wait_until_it_listens(daemon: Daemon) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with socket.socket() as probe:
            listens = probe.connect_ex((ADDRESS, daemon.port)) == 0
        if daemon.process.poll() is not None or time.monotonic() > deadline:
            last = daemon.words().strip().splitlines()[-1:] or ["it said nothing"]
            raise Unreachable(f"{daemon.name} did not start: {last[0]}", f"its log is {daemon.log}")
        if listens:
            return
        time.sleep(0.02)
