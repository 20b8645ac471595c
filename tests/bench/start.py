"""What a start of `jitctl` costs, and what the service takes while nothing happens."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rows import Row, median, timed
from tests.service import Nursery, new_service

from jitgate.app.control import call_control

STARTS = 25
PATIENCE_S = 60


def cli_start() -> Iterator[Row]:
    """`jitctl --version` beside `import click`, both by the same interpreter, in turn."""
    ours = [sys.executable, "-m", "jitgate.cli", "--version"]
    peer = [sys.executable, "-c", "import click"]
    took = [(_run(ours), _run(peer)) for _ in range(STARTS)]
    name = "python -c 'import click'"
    yield Row("cli-start", "ms", median(a for a, _ in took), median(b for _, b in took), name, "<= 1.2")


def _run(command: list[str]) -> float:
    return timed(lambda: subprocess.run(command, check=True, capture_output=True))


def memory() -> Iterator[Row]:
    """Resident memory of service and signer together, idle after a start. Pages that they share count once."""
    nursery = Nursery()
    with new_service(nursery) as service:
        command = [sys.executable, "-m", "jitgate", "serve", "--config", str(service.config)]
        with service.log.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until = time.monotonic() + PATIENCE_S
            while call_control(service.state, "user ls", {}) is None:
                assert time.monotonic() < until, service.words()
                time.sleep(0.1)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            total = _together([process.pid, *map(int, children)])
        finally:
            process.terminate()
            process.wait()
    nursery.close()
    yield Row("memory", "MiB", total, None, "", "<= 110")


def _together(pids: list[int]) -> float:
    """MiB: what each has alone, and the files (interpreter, libraries) that the first has mapped and the rest too."""
    rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in pids]
    kinds = [{line.split(":")[0]: int(line.split()[1]) for line in lines[1:]} for lines in rolled]
    alone = sum(kind["Private_Clean"] + kind["Private_Dirty"] for kind in kinds)
    return (alone + max(kind["Rss"] - kind["Private_Clean"] - kind["Private_Dirty"] for kind in kinds)) / 1024


def resident(pid: int) -> float:
    """MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
