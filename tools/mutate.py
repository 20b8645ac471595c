"""`make mutate`: which changes of the code does no test notice?

`python -m tools.mutate [FILE|FOLDER ...] [--minutes N]`, by default over every room that decides. mutmut changes one
thing at a time in a copy of the tree, and runs the unit tests of the room that use the changed function. What survives
is shown: a check that no test holds, or a change that changes nothing. Bodies of functions are changed, and not what
stands outside of them; what was made at import (a table of readers, an example of the tests) is not made again after a
change, but with `--fresh`, which is slow. A function that is called at import only is tried with too few tests: look at
its survivors by hand. Ends with 1 if a change of more than words survived, with 3 if time ran out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path("src/jitgate")
ROOMS = ("ssh", "policy", "grants", "ca", "hosts", "sessions")
COPIED = ("src", "tests", "tools", "docs", "pyproject.toml", "Makefile")
PROCESSES = os.cpu_count() or 1
NO_TEST = 33  # mutmut's exit codes of a change: 0 survived, None not tried, 33 no test comes by
# The words of a refusal: that it is refused is the check, how it is said is not.
WORDS = re.compile(
    r"^[-+]\s*(raise \w+\(|(yield |return )?(failed|passed|Deny|Denied|BadInput|Conflict|SignerRefusal)\("
    r"|(why|hint|why, hint|again) = |(why|hint)=|f?[\"'])"
)
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {files}
also_copy = ["tools", "docs", "Makefile"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-m", "not drift"]
pytest_add_cli_args_test_selection = ["{tests}"]
type_check_command = {types}
process_isolation = "{isolation}"
forkserver_warmup = "none"
use_git_change_detection = false
track_dependencies = false
"""
SHOW = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
for name in json.load(sys.stdin):
    where = name.rpartition("__mutmut_")[0].replace(".x_", ".").replace(".x\u01c1", ".").replace("\u01c1", ".")
    lines = get_diff_for_mutant(name).splitlines()
    changed = [line for line in lines if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    print(where, *changed, sep="\\n", end=chr(0))
"""


@dataclass
class Found:
    changes: int = 0
    untried: int = 0
    untested: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / SOURCE / room for room in ROOMS])
    parser.add_argument("--minutes", type=float, default=30, help="stop then, and tell what was found  [default: 30]")
    parser.add_argument("--words", action="store_true", help="show what survived in the words of a refusal too")
    parser.add_argument("--fresh", action="store_true", help="import everything anew for each change")
    given = parser.parse_args()
    until = time.monotonic() + given.minutes * 60
    found, failed = Found(), False
    for room, files in _by_room(given.paths):
        print(f"{room}: {len(files)} files, by the tests of {_tests_of(room)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="jitgate-mutate-") as folder:
            _prepare(Path(folder), room, files, fresh=given.fresh)
            failed |= not _run(Path(folder), until)
            _read(Path(folder), files, found)
    for diff in found.survivors:
        print(f"\n{diff}")
    print(f"\nin the words of a refusal only: {len(found.words)}", *(found.words if given.words else ()), sep="\n  ")
    print(f"no test comes by: {len(found.untested)}", *found.untested, sep="\n  ")
    print(f"{found.changes} changes: {len(found.survivors)} survived, {found.untried} were not tried for want of time")
    return 1 if failed or found.survivors or found.untested else 3 if found.untried else 0


def _by_room(paths: Iterable[Path]) -> list[tuple[str, list[str]]]:
    rooms: dict[str, list[str]] = {}
    for path in paths:
        whole = path.resolve()
        for file in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            inside = file.relative_to(ROOT / SOURCE)
            if not file.is_file() or len(inside.parts) == 1:
                sys.exit(f"make: error: no file of a room: {file}\nmake: hint: ARGS={SOURCE}/ca/names.py")
            rooms.setdefault(inside.parts[0], []).append(str(SOURCE / inside))
    return list(rooms.items())


def _tests_of(room: str) -> str:
    own = f"tests/unit/{room}"
    return own if (ROOT / own).is_dir() else "tests/unit"


def _prepare(folder: Path, room: str, files: list[str], *, fresh: bool) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    # What mypy refuses needs no test. Not strictly: mutmut's own lines are not.
    options = ["--config-file=", "--check-untyped-defs", "--no-incremental", "--output=json"]
    types = [sys.executable, "-m", "mypy", *options, *files]
    config = CONFIG.format(
        files=json.dumps(files),
        tests=_tests_of(room),
        types=json.dumps(types),
        isolation="forkserver" if fresh else "fork",
    )
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)


def _run(folder: Path, until: float) -> bool:
    log = folder / "mutmut.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mutmut", "run", "--max-children", str(PROCESSES)],
            cwd=folder,
            stdout=file,
            stderr=file,
            env=os.environ
            | {"CI": "true", "MYPYPATH": "src"},  # the same examples each time: a change is noticed or it is not
            start_new_session=True,
        )
        try:
            status = process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        words = log.read_text(errors="replace").replace("\r", "\n").splitlines()
        print(*words[-40:], "make: error: mutmut could not run: its words are above", sep="\n", file=sys.stderr)
    return status == 0


def _read(folder: Path, files: Iterable[str], found: Found) -> None:
    survived: list[str] = []
    for file in files:
        results = folder / "mutants" / f"{file}.meta"
        codes: dict[str, int | None] = json.loads(results.read_text())["exit_code_by_key"] if results.exists() else {}
        found.changes += len(codes)
        found.untried += list(codes.values()).count(None)
        found.untested += [name for name, code in codes.items() if code == NO_TEST]
        survived += [name for name, code in codes.items() if code == 0]
    for diff in _diffs(folder, survived):
        _, *changed = diff.splitlines()
        (found.words if all(map(WORDS.match, changed)) else found.survivors).append(diff)


def _diffs(folder: Path, names: list[str]) -> list[str]:
    """What each change is. In one process: loading mutmut takes a second."""
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=folder, input=json.dumps(names), capture_output=True, text=True, check=True
    )
    return [diff.strip() for diff in shown.stdout.split("\0") if diff.strip()]


if __name__ == "__main__":
    sys.exit(main())
