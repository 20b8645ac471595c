"""A row of the bench, and what its parts share."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.demo.openbao import find_bao
from jitgate.core.errors import NotFound


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


def has_bao() -> bool:
    try:
        find_bao()
    except NotFound:
        say("no bao here: no row beside it (make bench installs it)")
        return False
    return True


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
