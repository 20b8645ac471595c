"""A row of the bench, and what its parts share."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROLE = b"""
role: web
effect: allow
who: {groups: [engineers]}
what: {labels: {tier: web}}
as: [ubuntu]
how_long: {grant: 1h, certificate: 15m}
extensions: [permit-pty]
"""


@dataclass(frozen=True, slots=True)
class Row:
    """`target`: of the ratio where there is a peer, else of our own figure; with `>=` or `<=`."""

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    target: str

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer


def median(figures: Iterable[float]) -> float:
    return statistics.median(figures)


def timed(act: Callable[[], object], count: int = 1) -> float:
    """Milliseconds of one."""
    began = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - began) / count * 1000


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def find_bao() -> str | None:
    found = shutil.which("bao", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if found is None:
        say("no bao here: no row beside it (make bench installs it)")
    return found


def find_step_ca() -> Path | None:
    """Built if it is not there yet, which takes minutes."""
    command = [sys.executable, "-m", "tools.peers", "step-ca"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode != 0:
        say("no step-ca could be built: no row beside it")
        return None
    return Path(done.stdout.strip())


def find_haproxy() -> Path | None:
    command = [sys.executable, "-m", "tools.parts", "haproxy"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode != 0:
        say("no HAProxy could be unpacked: no row beside it")
        return None
    return Path(json.loads(done.stdout)["haproxy"])
