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
    said = _made("tools.peers", "step-ca")
    return Path(said.strip()) if said else None


def find_haproxy() -> Path | None:
    said = _made("tools.parts", "haproxy")
    return Path(json.loads(said)["haproxy"]) if said else None


def _made(tool: str, name: str) -> str:
    """What the tool says of where it is; empty if there is none."""
    command = [sys.executable, "-m", tool, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode != 0:
        say(f"no {name} could be had: no row beside it")
        return ""
    return done.stdout
