"""Debian packages without installing them: fetched by an apt state of our own and unpacked into a cache folder.

Nothing on the machine changes: no package is installed, no maintainer script runs, no service starts, no root is
needed. What is fetched is checked by apt itself, against the archive keys that the machine trusts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ETC_APT = Path("/etc/apt")
# The loader and its libc belong together: the machine's own are always used.
NEVER_UNPACKED = ("libc6_", "libc-bin_")


class MissingError(Exception):
    """Something this machine lacks and that could not be fetched: what, and a hint what to do."""


def say(text: str) -> None:
    """A progress line, to stderr: stdout is data."""
    print(f"  {text}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where fetched things are kept. For root a folder that all can read: daemons run from it under another uid."""
    if chosen := os.environ.get("JITGATE_CACHE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/jitgate")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "jitgate"


def release() -> str:
    """The release and architecture that unpacked programs fit, e.g. `bookworm-x86_64`."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    name = system.get("VERSION_CODENAME") or system.get("ID", "linux") + system.get("VERSION_ID", "")
    return f"{name}-{platform.machine()}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process at a time fetches into `folder`."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpacked(packages: Sequence[str]) -> Path:
    """A folder that holds `packages` and what they depend on beyond what is installed here; made when first asked for.

    Raises MissingError where there is no apt, no network, or no such package.
    """
    parts = cache_folder() / "parts" / release()
    wanted = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:12]
    record = parts / f"{packages[0]}-{wanted}.json"
    with locked(parts):
        if (tree := _recorded(record)) is None:
            for left_by_a_killed_call in parts.glob("fetch-*"):
                shutil.rmtree(left_by_a_killed_call)
            tree = _fetch(packages, parts)
            _write(record, json.dumps({"packages": list(packages), "tree": tree.name}) + "\n")
    return tree


def _recorded(record: Path) -> Path | None:
    try:
        tree = record.parent / str(json.loads(record.read_text())["tree"])
    except (OSError, ValueError, KeyError):
        return None
    return tree if tree.is_dir() else None


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _fetch(packages: Sequence[str], parts: Path) -> Path:
    hint = f"does apt-get update reach its sources? or install it: apt-get install {' '.join(packages)}"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise MissingError(
            f"{packages[0]} is not on this machine, and there is no apt to fetch it with", "install it by hand"
        )
    say(f"fetching Debian's {', '.join(packages)} into {parts} (unpacked there, not installed)")
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=parts) as temporary:
        work = Path(temporary)
        work.chmod(0o755)  # apt downloads as a user of its own
        debs = _download(packages, work, hint)
        tree = work / "tree"
        for deb in debs:
            subprocess.run(["dpkg-deb", "--extract", deb, tree], check=True)
        _drop_privileges(tree)
        tree.chmod(0o755)
        contents = hashlib.sha256("\n".join(deb.name for deb in debs).encode()).hexdigest()[:12]
        version = next((deb.name for deb in debs if deb.name.startswith(packages[0] + "_")), packages[0])
        final = parts / f"{version.removesuffix('.deb').replace('%3a', ':').replace(':', '.')}-{contents}"
        if final.is_dir():
            shutil.rmtree(final)
        tree.rename(final)
    return final


def _download(packages: Sequence[str], work: Path, hint: str) -> list[Path]:
    environment = os.environ | {"APT_CONFIG": str(_apt_settings(work)), "LC_ALL": "C.UTF-8"}
    steps = (
        # Sources that do not answer are not our business as long as the packages are found.
        (["apt-get", "-q", "update"], False),
        (["apt-get", "-q", "--yes", "--no-install-recommends", "--download-only", "install", *packages], True),
    )
    said = ""
    for command, must_succeed in steps:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        said += done.stdout + done.stderr
        if must_succeed and done.returncode != 0:
            trouble = [line for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))] or [said.strip()]
            raise MissingError(f"could not fetch {' '.join(packages)}:\n    " + "\n    ".join(trouble[-6:]), hint)
    debs = sorted(path for path in (work / "archives").glob("*.deb") if not path.name.startswith(NEVER_UNPACKED))
    if not debs:
        raise MissingError(f"apt fetched nothing for {' '.join(packages)}: is it installed, but incomplete?", hint)
    return debs


def _apt_settings(work: Path) -> Path:
    """The machine's sources and settings, but lists and archives of our own and none of the machine's hooks."""
    for folder in ("state/lists/partial", "archives/partial", "conf"):
        (work / folder).mkdir(parents=True)
    for source in (*sorted((ETC_APT / "apt.conf.d").glob("*")), ETC_APT / "apt.conf"):
        if os.access(source, os.R_OK) and source.is_file():
            shutil.copyfile(source, work / "conf" / f"10-{source.name}")
    (work / "conf" / "90-jitgate").write_text(
        f"""\
#clear APT::Update;
#clear DPkg;
Dir::State "{work}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{work}";
Dir::Cache::archives "{work}/archives";
Dir::Log "{work}";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
APT::Get::AllowUnauthenticated "false";
Debug::NoLocking "true";
"""
    )
    first = work / "apt.conf"
    first.write_text(f'Dir::Etc::Parts "{work}/conf";\nDir::Etc::Main "/dev/null";\n')
    return first


def _drop_privileges(tree: Path) -> None:
    """No set-uid or set-gid file outside the machine's own packages (OpenSSH's ssh-keysign and ssh-agent have one)."""
    for path in tree.rglob("*"):
        if not path.is_symlink() and (mode := path.stat().st_mode) & 0o6000:
            path.chmod(mode & 0o1777)
