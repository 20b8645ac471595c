"""What a host's sshd really does: asked of sshd itself (`-t`, `-T`, `-T -C`), and read in its files with their lines.

Everything here only reads. What sshd prints and what stands in its files is the host owner's, and may be odd.
"""

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from jitgate.core.errors import BadInput, NotFound, Unsafe, UsageError
from jitgate.core.text import shown

ETC: Final = Path("/etc/ssh")
_ADMIN_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_TIMEOUT_S: Final = 30
_FILES_MAX: Final = 256  # as many as the script follows
_DEPTH_MAX: Final = 16  # of Include, as sshd itself
_PLAIN_PATH: Final = re.compile(r"(/[A-Za-z0-9._-]+)+")
_VERSION: Final = re.compile(r"OpenSSH_(\d+)\.(\d+)")
_KEYWORD: Final = re.compile(r'[\s"=]*([A-Za-z0-9]+)[\s"]*=?[\s"]*(.*?)["\s]*')

Effective = Mapping[str, tuple[str, ...]]
"""What `sshd -T` says: the values of each keyword, in lower case, in its order."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of sshd's files. `match`: the criteria of the Match block that it stands in, or empty."""

    keyword: str
    value: str
    file: Path
    line: int
    match: str

    @property
    def place(self) -> str:
        return f"{self.file} line {self.line}"


@dataclass(frozen=True)
class Sshd:
    """One sshd: where its configuration lies, its program, and how it is reloaded (empty: found out by the script)."""

    etc: Path = ETC
    program: str = ""
    reload: str = ""

    def __post_init__(self) -> None:
        if not _PLAIN_PATH.fullmatch(str(self.etc)) or "/.." in str(self.etc):
            raise UsageError("--etc needs a plain absolute path", "A-Z a-z 0-9 / . _ -")
        if self.etc != ETC and not self.reload:
            raise UsageError("--etc needs --reload COMMAND", "which sshd reads that folder is not known")

    @property
    def config(self) -> Path:
        return self.etc / "sshd_config"

    @property
    def folder(self) -> Path:
        """Ours."""
        return self.etc / "jitgate"

    @property
    def drop_in(self) -> Path:
        return self.etc / "sshd_config.d/10-jitgate.conf"

    @cached_property
    def path(self) -> str:
        found = self.program or shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:{_ADMIN_FOLDERS}")
        if not found:
            raise NotFound("no sshd found", "install openssh-server, or name it: --sshd PATH")
        return found

    @cached_property
    def version(self) -> tuple[int, int]:
        """(9, 2); (0, 0) where it does not say."""
        done = _run([self.path, "-V"])
        found = _VERSION.search(done.stdout + done.stderr)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def options(self) -> list[str]:
        """What the script is told of it."""
        options = ["--sshd", self.path]
        options += ["--etc", str(self.etc)] if self.etc != ETC else []
        return options + (["--reload", self.reload] if self.reload else [])

    def reload_command(self) -> str:
        """A line of sh by which the sshd that runs reads its files again. `NotFound` where none is known."""
        if self.reload:
            return self.reload
        if Path("/run/systemd/system").is_dir():
            for unit in ("ssh.service", "sshd.service"):
                if _run(["systemctl", "is-active", "--quiet", unit]).returncode == 0:
                    return f"systemctl reload {unit}"
        file = Path(self.effective().get("pidfile", ("none",))[0])
        if file.is_file() and _PLAIN_PATH.fullmatch(str(file)):
            return f'kill -HUP "$(cat {file})"'
        raise NotFound("it is not known how the sshd that runs is reloaded", "give --reload COMMAND")

    def do_reload(self) -> None:
        """`Unsafe` when it was not."""
        done = _run(["/bin/sh", "-c", self.reload_command()])
        if done.returncode != 0:
            raise Unsafe(f"sshd was not reloaded: {shown((done.stderr + done.stdout).strip(), 200)}", "reload it")

    def trouble(self) -> str:
        """Why sshd does not accept its configuration; empty when it does."""
        done = _run([self.path, "-t", "-f", str(self.config)])
        return "" if done.returncode == 0 else (done.stderr + done.stdout).strip() or "it does not say why"

    def effective(self, login: str = "") -> Effective:
        """In general, or for one login from somewhere. `BadInput` when sshd does not say."""
        command = [self.path, "-T", "-f", str(self.config)]
        if login:
            port = self.effective().get("port", ("22",))[0]
            criteria = f"user={login},host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport={port},rdomain="
            command += ["-C", criteria]
        done = _run(command)
        if done.returncode != 0:
            raise BadInput(f"sshd does not say what it does: {shown((done.stderr + done.stdout).strip(), 300)}")
        found: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            word, _, value = line.partition(" ")
            found.setdefault(word, []).append(value)
        return {word: tuple(values) for word, values in found.items()}

    def settings(self) -> list[Setting]:
        """All lines of its files, in sshd's order, without ours. `BadInput` for what cannot be followed."""
        seen = [0]
        return [each for each in _lines(self.config, "", seen, 0) if each.file != self.drop_in]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # arguments, no shell's line
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise NotFound(f"cannot run {command[0]}: {error.strerror}", "name it: --sshd PATH") from error
    except subprocess.TimeoutExpired:
        raise BadInput(f"{command[0]} does not answer within {_TIMEOUT_S} s") from None


def _lines(file: Path, match: str, seen: list[int], depth: int) -> Iterator[Setting]:
    seen[0] += 1
    if seen[0] > _FILES_MAX or depth > _DEPTH_MAX:
        raise BadInput(f"too many files are included from {file}")
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    for number, line in enumerate(text.split("\n"), 1):
        found = _KEYWORD.fullmatch(line.strip())
        if found is None or line.lstrip().startswith("#"):
            continue
        keyword, value = found[1].lower(), found[2]
        if keyword == "match":
            match = value
        yield Setting(keyword, value, file, number, match)
        if keyword == "include":
            for pattern in value.replace('"', " ").split():
                for path in sorted(glob.glob(os.path.join(ETC, pattern))):  # noqa: PTH118, PTH207  # absolute or not
                    yield from _lines(Path(path), match, seen, depth + 1)
