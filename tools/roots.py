"""A directory root of another Debian release, for daemons that this machine's libraries do not fit: sshd of Debian 13.

    python3 -m tools.roots NAME...          makes what is not made yet and prints a folder a line

Made by debootstrap as root, from the mirror that this machine's own apt uses, checked against the archive keys that it
trusts, and kept outside the tree. Nothing of it is started, and nothing on this machine is changed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tools.debian import ETC_APT, MissingError, cache_folder, locked, say, unpacked

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"


class Root(NamedTuple):
    """A release and what is in it beyond the least."""

    release: str
    packages: tuple[str, ...]


ROOTS = {"trixie-sshd": Root("trixie", ("openssh-server",))}


def place(name: str) -> Path:
    """Where it is, or will be once it is made."""
    root = ROOTS[name]
    return cache_folder() / "roots" / f"{root.release}-{platform.machine()}-{'-'.join(root.packages)}"


def make(name: str) -> Path:
    """The folder; made when first asked for, in a minute or two. Raises MissingError."""
    final = place(name)
    if final.is_dir():
        return final
    if os.geteuid() != 0:
        raise MissingError(f"{name} is not made here", "only root can make a directory root")
    root = ROOTS[name]
    with locked(final.parent):
        if not final.is_dir():
            for left_by_a_killed_call in final.parent.glob("make-*"):
                shutil.rmtree(left_by_a_killed_call)
            say(f"making a directory root of Debian {root.release} in {final}: a minute or two, once")
            with tempfile.TemporaryDirectory(prefix="make-", dir=final.parent, ignore_cleanup_errors=True) as work:
                made = Path(work) / "root"
                keyring = [f"--keyring={KEYRING}"] if KEYRING.is_file() else []
                include = f"--include={','.join(root.packages)}"
                command = ["debootstrap", "--variant=minbase", *keyring, include, root.release, str(made), mirror()]
                done = subprocess.run(
                    command, env=environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
                )
                if done.returncode != 0:
                    words = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-6:])
                    raise MissingError(f"debootstrap failed:\n    {words}", "is there a way to Debian's mirror?")
                made.chmod(0o755)
                made.replace(final)
    return final


def environment() -> dict[str, str]:
    """In which there is a debootstrap: the machine's, or one that is unpacked and not installed."""
    if shutil.which("debootstrap"):
        return dict(os.environ)
    tree = unpacked(("debootstrap", "wget"))
    libraries = ":".join(str(folder) for folder in sorted(tree.glob("usr/lib/*-linux-gnu*")))
    return os.environ | {
        "PATH": f"{tree}/usr/sbin:{tree}/usr/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": libraries,
        "DEBOOTSTRAP_DIR": f"{tree}/usr/share/debootstrap",
    }


def mirror() -> str:
    """The one from which this machine's own apt takes Debian."""
    for path in (ETC_APT / "sources.list", *sorted((ETC_APT / "sources.list.d").glob("*"))):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if found := re.search(
            r"^(?:URIs:|deb\b(?:\s+\[[^]]*\])?)\s+(https?://\S+/debian)/?(?=\s|$)", text, re.MULTILINE
        ):
            return found[1]
    return MIRROR


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tools.roots", description="directory roots of other releases")
    parser.add_argument("names", nargs="+", metavar="NAME", choices=list(ROOTS), help=f"one of: {' '.join(ROOTS)}")
    for name in parser.parse_args().names:
        print(make(name))


if __name__ == "__main__":
    try:
        main()
    except MissingError as error:
        what, hint = error.args
        sys.exit(f"roots: error: {what}\nroots: hint: {hint}")
