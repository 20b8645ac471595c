"""The processes of one login, and their end: those and no others.

A login is one connection to sshd: the process of sshd's that root runs for it (its monitor), known by number and start
time. What belongs to it is found by what an ordinary user cannot change:
- logind's scope, as the control group of the monitor says it (`session-N.scope`);
- the audit session, which pam_loginuid makes for each login and every child inherits, also one that has detached
  itself, through sudo, tmux or a double fork (credentials(7), /proc/PID/sessionid);
- children of the monitor, and theirs, where neither is there. A process that detached itself is then not found.

A mark that is not the login's own is never used: one that sshd's listener, this process or process 1 has as well would
mean the whole machine. Root, cron, `systemd-run` and a user's lingering services are outside of all three: they are
reported as what was left behind (left_behind.py), not ended.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_NO_SESSION: Final = "4294967295"  # what the kernel says where none was made
_SCOPE: Final = re.compile(r"(/user\.slice/user-\d+\.slice/session-[A-Za-z0-9]+\.scope)(?:/.*)?")
_SSHD: Final = frozenset({"sshd", "sshd-session", "sshd-auth"})
_ROUNDS: Final = 100  # of looking and ending: a login that forks while it is ended needs a few
_GRACE_S: Final = 0.5
_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """`started`: clock ticks since the machine's start (field 22 of /proc/PID/stat); the two name one process."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Stat:
    process: Process
    parent: int
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Tree:
    """What a login's processes are known by. `audit`, `scope`: empty where there is none of its own."""

    monitor: Process
    audit: str = ""
    scope: str = ""


def boot_id() -> str:
    """Of this start of the machine: numbers of an earlier one mean nothing any more."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Stat(Process(pid, int(fields[19])), int(fields[1]), name, fields[0])


def is_alive(process: Process) -> bool:
    found = stat(process.pid)
    return found is not None and found.process == process and found.state != "Z"


def is_sshd(pid: int) -> bool:
    """Whether root runs it and it is sshd's own program, by the file that it was started from."""
    try:
        program = (PROC / str(pid) / "exe").readlink().name.removesuffix(" (deleted)")
        return (PROC / str(pid)).stat().st_uid == 0 and program in _SSHD
    except OSError:
        return False


def tree_of(monitor: Process) -> Tree:
    """As of now: PAM gives a login its marks only some time after sshd has accepted it."""
    return marked(Tree(monitor))


def marked(tree: Tree) -> Tree:
    """With the marks that it has meanwhile."""
    if (tree.audit and tree.scope) or not is_alive(tree.monitor):
        return tree
    parent = stat(tree.monitor.pid)
    others = [1, os.getpid(), *([parent.parent] if parent else [])]
    audit, scope = _audit(tree.monitor.pid), _scope(tree.monitor.pid)
    if audit and audit not in map(_audit, others):
        tree = replace(tree, audit=audit)
    if scope and scope not in map(_scope, others):
        tree = replace(tree, scope=scope)
    return tree


def members(tree: Tree) -> list[Process]:
    """The login's processes that run now, without this one and without any sshd that listens for others."""
    found: dict[int, Process] = {}
    children: dict[int, list[Process]] = {}
    for each in _all():
        if each.state == "Z":
            continue
        pid = each.process.pid
        children.setdefault(each.parent, []).append(each.process)
        if (tree.audit and _audit(pid) == tree.audit) or (tree.scope and _scope(pid) == tree.scope):
            found[pid] = each.process
    if is_alive(tree.monitor):
        below = [tree.monitor]
        while below:
            process = below.pop()
            found[process.pid] = process
            below += [child for child in children.get(process.pid, ()) if child.pid not in found]
    others = _not_to_end(tree)
    return [process for pid, process in sorted(found.items()) if pid not in others]


def end(tree: Tree, *, pause: Callable[[float], None] = time.sleep) -> tuple[int, bool]:
    """Ends them all: asked first, then without asking. How many there were, and whether none is left.

    Blocks for `_GRACE_S` and some rounds. Each is signalled by a handle of that very process (pidfd), so that a number
    that is used again meanwhile is nobody else's end.
    """
    ended: set[Process] = set()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
        for process in members(tree):
            ended.add(process)
            _signal(process, number)
    waited = 0.0
    while members(tree) and waited < _GRACE_S:
        pause(_PAUSE_S)
        waited += _PAUSE_S
    for _ in range(_ROUNDS):
        left = members(tree)
        if not left:
            return len(ended), True
        for process in left:
            ended.add(process)
            _signal(process, signal.SIGKILL)
        pause(_PAUSE_S)
    return len(ended), False


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(OSError):  # it ended by itself
        handle = os.pidfd_open(process.pid)
        try:
            if is_alive(process):  # the handle is of this process, or it was another's before we opened it
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _not_to_end(tree: Tree) -> set[int]:
    """This process, and an sshd that listens: an admin who restarts it by hand does so inside their own login. The
    login's own may listen too: root's is one process, which holds the ports of `ssh -R` and of X11."""
    others = {1, os.getpid()}
    found = stat(tree.monitor.pid)
    listeners = _listeners()
    if found is not None and found.process == tree.monitor:
        others.add(found.parent)
        if tree.monitor.pid in listeners and peer_of(tree.monitor) is not None:
            listeners.remove(tree.monitor.pid)
    return others | listeners


def _listeners() -> set[int]:
    listening = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
            listening |= {line.split()[9] for line in lines if line.split()[3] == "0A"}
    return {
        each.process.pid
        for each in _all()
        if each.name in _SSHD and is_sshd(each.process.pid) and not listening.isdisjoint(_sockets(each.process.pid))
    }


def peer_of(monitor: Process) -> tuple[str, int] | None:
    """Address and port of the other end of a monitor's one connection, as the kernel has it."""
    from ipaddress import IPv4Address, IPv6Address  # noqa: PLC0415  # seldom

    own = set(_sockets(monitor.pid))
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / str(monitor.pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" or fields[9] not in own:
                continue
            address, _, port = fields[2].partition(":")
            words = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
            v6 = IPv6Address(words) if len(words) == 16 else None  # noqa: PLR2004  # bytes
            plain = (v6.ipv4_mapped or v6) if v6 else IPv4Address(words)
            return str(plain), int(port, 16)
    return None


def _sockets(pid: int) -> list[str]:
    """The inodes of a process's sockets."""
    found = []
    with contextlib.suppress(OSError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                name = os.readlink(entry)  # noqa: PTH115  # no path: `socket:[7]`
                if name.startswith("socket:["):
                    found.append(name[8:-1])
    return found


def _all() -> Iterator[Stat]:
    for entry in os.listdir(PROC):  # noqa: PTH208  # a thousand of them, often
        if entry.isdecimal() and (found := stat(int(entry))) is not None:
            yield found


def _audit(pid: int) -> str:
    """The audit session; empty without one."""
    try:
        text = (PROC / str(pid) / "sessionid").read_text().strip("\0\n ")
    except OSError:
        return ""
    return "" if text in (_NO_SESSION, "0") else text


def _scope(pid: int) -> str:
    """logind's scope; empty without one."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
            if found := _SCOPE.fullmatch(line.split(":", 2)[-1]):
                return found[1]
    return ""
