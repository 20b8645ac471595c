"""The real programs that demo and tests run: those of the machine, else unpacked from Debian packages, not installed.

    python3 -m tools.parts NAME...          prints {name: path} as JSON
    python3 -m tools.parts --bin NAME...    prints a folder to put before PATH: what had to be unpacked, by name

A path is all that a caller needs: an unpacked program comes as a small script that runs it with its own libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from tools.debian import MissingError, cache_folder, release, unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

ADMIN_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
OPENSSH = ("openssh-server", "openssh-client")
POSTGRES = ("postgresql",)
CHROMIUM = ("chromium", "chromium-driver", "fonts-dejavu-core")
OPENLDAP = ("slapd", "ldap-utils")
SOFTHSM = ("softhsm2",)
LIBRARIES = ("usr/lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/pulseaudio", "lib/*-linux-gnu*", "usr/lib", "lib")


class Part(NamedTuple):
    """Where a program is: its Debian packages, and its path (a glob) below the root or an unpacked tree."""

    packages: tuple[str, ...]
    path: str


PARTS = {
    "ssh": Part(OPENSSH, "usr/bin/ssh"),
    "scp": Part(OPENSSH, "usr/bin/scp"),
    "sftp": Part(OPENSSH, "usr/bin/sftp"),
    "ssh-keygen": Part(OPENSSH, "usr/bin/ssh-keygen"),
    "ssh-agent": Part(OPENSSH, "usr/bin/ssh-agent"),
    "ssh-add": Part(OPENSSH, "usr/bin/ssh-add"),
    "ssh-keyscan": Part(OPENSSH, "usr/bin/ssh-keyscan"),
    "sshd": Part(OPENSSH, "usr/sbin/sshd"),
    "sftp-server": Part(OPENSSH, "usr/lib/openssh/sftp-server"),
    "postgres": Part(POSTGRES, "usr/lib/postgresql/*/bin/postgres"),
    "initdb": Part(POSTGRES, "usr/lib/postgresql/*/bin/initdb"),
    "chromium": Part(CHROMIUM, "usr/lib/chromium/chromium"),
    "chromedriver": Part(CHROMIUM, "usr/bin/chromedriver"),
    "slapd": Part(OPENLDAP, "usr/sbin/slapd"),
    "core.schema": Part(OPENLDAP, "etc/ldap/schema/core.schema"),
    "back_mdb.so": Part(OPENLDAP, "usr/lib/ldap/back_mdb.so"),
    "ldapmodify": Part(OPENLDAP, "usr/bin/ldapmodify"),
    "libnss_wrapper.so": Part(("libnss-wrapper",), "usr/lib/*/libnss_wrapper.so"),
    "rsync": Part(("rsync",), "usr/bin/rsync"),
    "git": Part(("git",), "usr/bin/git"),
    "ip": Part(("iproute2",), "**/bin/ip"),
    "sudo": Part(("sudo",), "usr/bin/sudo"),
    "softhsm2-util": Part(SOFTHSM, "usr/bin/softhsm2-util"),
    "libsofthsm2.so": Part(SOFTHSM, "usr/lib/softhsm/libsofthsm2.so"),
    "haproxy": Part(("haproxy",), "usr/sbin/haproxy"),
}
ONLY_BY_NAME = frozenset({"haproxy"})
"""Peers of the bench, which tests and demo do without."""


def find(names: Sequence[str]) -> dict[str, Path]:
    """The path of each program, fetched first where the machine has none. Raises MissingError."""
    return {name: _on_machine(PARTS[name], name) or _from_package(PARTS[name], name) for name in names}


def unpacked_folder() -> Path:
    """The folder that holds what had to be unpacked, by name."""
    folder = cache_folder() / "parts" / release() / "bin"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder


def _on_machine(part: Part, name: str) -> Path | None:
    if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{ADMIN_FOLDERS}"):
        return Path(found)
    return next(iter(sorted(Path("/").glob(part.path))), None)


def _from_package(part: Part, name: str) -> Path:
    tree = unpacked(part.packages)
    program = next(iter(sorted(tree.glob(part.path))), None)
    if program is None:
        raise MissingError(f"{' '.join(part.packages)} holds no {part.path}", f"install {name} by hand")
    _name_fonts(tree)
    entry = unpacked_folder() / name
    new = entry.with_name(f".{name}.{os.getpid()}")
    if os.access(program, os.X_OK) and ".so" not in name:
        new.write_text(start_script(program, tree))
        new.chmod(0o755)
    else:
        new.unlink(missing_ok=True)
        new.symlink_to(program)
    new.replace(entry)
    return entry


FONTS = "fonts.conf"


def _name_fonts(tree: Path) -> None:
    """Where nothing is installed there are no fonts, and a browser that finds none ends."""
    fonts = tree / "usr/share/fonts"
    if fonts.is_dir():
        where = f'<dir>{escape(str(fonts))}</dir><cachedir prefix="xdg">fontconfig</cachedir>'
        (tree / FONTS).write_text(f'<?xml version="1.0"?>\n<fontconfig>{where}</fontconfig>\n')


def start_script(program: Path, tree: Path) -> str:
    """The script that runs an unpacked program with the libraries it was unpacked with."""
    folders = [
        str(folder) for pattern in LIBRARIES for folder in sorted(tree.glob(pattern)) if any(folder.glob("*.so*"))
    ]
    lines = ["#!/bin/sh", f"# {program.name} of an unpacked Debian package, with its own libraries"]
    if folders:
        lines.append(
            f'export LD_LIBRARY_PATH={shlex.quote(":".join(folders))}"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"'
        )
    if (commands := tree / "usr/lib/git-core").is_dir():
        lines.append(f"export GIT_EXEC_PATH={shlex.quote(str(commands))}")
    if (tree / FONTS).is_file():
        lines.append(f"export FONTCONFIG_FILE={shlex.quote(str(tree / FONTS))}")
    lines.append(f'exec {shlex.join([str(program), *_own_options(program)])} "$@"')
    return "\n".join(lines) + "\n"


def _own_options(program: Path) -> list[str]:
    """What a program must be told to find its other halves: from OpenSSH 9.8 on sshd is two, then three programs."""
    if program.name in ("scp", "sftp"):
        return ["-S", str(program.with_name("ssh"))]
    if program.name == "sshd":
        halves = program.parent.parent / "lib" / "openssh"
        known = {"SshdSessionPath": halves / "sshd-session", "SshdAuthPath": halves / "sshd-auth"}
        return [f"-o{option}={path}" for option, path in known.items() if path.exists()]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tools.parts", description="real programs for demo and tests")
    parser.add_argument("--bin", action="store_true", help="print the folder of the unpacked ones, not all paths")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of: {' '.join(PARTS)} (default: all but those of the bench)"
    )
    wanted = parser.parse_args()
    if unknown := [name for name in wanted.names if name not in PARTS]:
        parser.error(f"unknown: {' '.join(unknown)}")
    paths = find(wanted.names or [name for name in PARTS if name not in ONLY_BY_NAME])
    print(unpacked_folder() if wanted.bin else json.dumps({name: str(path) for name, path in paths.items()}, indent=2))


if __name__ == "__main__":
    try:
        main()
    except MissingError as error:
        what, hint = error.args
        sys.exit(f"parts: error: {what}\nparts: hint: {hint}")
