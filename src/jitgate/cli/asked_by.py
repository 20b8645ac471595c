"""Whether the ssh that runs our `Match exec` may ask anything: it may be one that only prints or tests its config.

The words of its command line are read by ssh's own getopt string. Where it cannot be found, nobody is asked.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_TAKES_VALUE = frozenset("BDEFIJLOPQRSWbceilmopw")  # from OpenSSH's ssh.c
_NEVER_ASKS = frozenset("GOQV")  # prints its config; talks to a master only; prints a list, or its version
_GENERATIONS = 5  # ssh, its shell, env, us; somebody's wrapper between
_SECONDS = 5


def ssh_may_ask() -> bool:
    """True if an ssh above us is about to connect, and was not told to ask nothing."""
    return next((may_ask(words) for words in _ancestors() if words and Path(words[0]).name == "ssh"), False)


def may_ask(words: Sequence[str]) -> bool:
    """Of ssh's command line. `-oBatchMode=yes` in whatever spelling is a no."""
    flags = list(_flags(words[1:]))
    if any(flag in _NEVER_ASKS for flag, _ in flags):
        return False
    settings = [value.lower().replace("=", " ", 1).split() for flag, value in flags if flag == "o"]
    return not any(words[:1] == ["batchmode"] and words[1:] != ["no"] for words in settings)


def _flags(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The flags before the remote command, with their values. ssh takes flags after the host too, once."""
    waiting, hosts = "", 0
    for word in words:
        if waiting:
            yield waiting, word
            waiting = ""
        elif word == "--" or not word.startswith("-") or word == "-":
            hosts += word != "--"
            if hosts > 1:
                return
        else:
            for at, letter in enumerate(word[1:], 2):
                if letter in _TAKES_VALUE:
                    if word[at:]:
                        yield letter, word[at:]
                    else:
                        waiting = letter
                    break
                yield letter, ""


def _ancestors() -> Iterator[list[str]]:
    """The command lines of the processes above this one, nearest first."""
    pid = os.getppid()
    for _ in range(_GENERATIONS):
        if pid <= 1:
            return
        try:
            words, pid = _process(pid)
        except (OSError, ValueError, subprocess.SubprocessError):
            return
        yield words


def _process(pid: int) -> tuple[list[str], int]:
    """Its words, and its parent."""
    folder = Path(f"/proc/{pid}")
    if folder.exists():
        words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        return words, int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    done = subprocess.run(
        ["/bin/ps", "-ww", "-o", "ppid=,args=", "-p", str(pid)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=True,
    )
    parent, *words = done.stdout.split()
    return words, int(parent)
