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

A process that forks and exits without a pause is dead before a walk over /proc comes to it. So a scope is ended by the
kernel (cgroup.kill), which no fork escapes. For what is outside of one, the newest process of the machine is looked at
thousands of times a second, and a login counts as gone after several walks in a row that found nothing.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_NO_SESSION: Final = "4294967295"  # what the kernel says where none was made
_SCOPE: Final = re.compile(r"(/user\.slice/user-\d+\.slice/session-[A-Za-z0-9]+\.scope)(?:/.*)?")
_SSHD: Final = frozenset({"sshd", "sshd-session", "sshd-auth"})
CGROUPS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_GRACE_S: Final = 0.5
_PAUSE_S: Final = 0.02
_KILL_S: Final = 3.0  # then other logins have their turn, and this one at the next look
_CHASE_S: Final = 0.05
_EMPTY: Final = 5  # walks in a row that find nothing


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
        with open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123  # a thousand of them, often
            text = file.read()
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


@dataclass(slots=True)
class Snapshot:
    """All processes at one time, as one walk over /proc finds them. `spared`: never ended (`_spared`)."""

    stats: dict[int, Stat] = field(default_factory=dict)
    children: dict[int, list[Process]] = field(default_factory=dict)
    audits: dict[str, list[Process]] = field(default_factory=dict)
    scopes: dict[str, list[Process]] = field(default_factory=dict)
    spared: set[int] = field(default_factory=set)


def snapshot(trees: Collection[Tree]) -> Snapshot:
    """One walk for all of them: with 2000 processes it takes a tenth of a second."""
    snap = Snapshot()
    audits, scopes = {tree.audit for tree in trees} - {""}, {tree.scope for tree in trees} - {""}
    for each in _all():
        pid = each.process.pid
        snap.stats[pid] = each
        if each.state == "Z":
            continue
        snap.children.setdefault(each.parent, []).append(each.process)
        if audits and (audit := _audit(pid)) in audits:
            snap.audits.setdefault(audit, []).append(each.process)
        if scopes and (scope := _scope(pid)) in scopes:
            snap.scopes.setdefault(scope, []).append(each.process)
    snap.spared = {1, os.getpid()} | _listeners(snap.stats.values())
    return snap


def members(tree: Tree, snap: Snapshot) -> list[Process]:
    """The login's processes that ran then, without this one and without any sshd that listens for others."""
    named = snap.audits.get(tree.audit, []) + snap.scopes.get(tree.scope, [])
    found = {process.pid: process for process in named}
    if _monitor(tree, snap):
        below = [tree.monitor]
        while below:
            process = below.pop()
            found[process.pid] = process
            below += [child for child in snap.children.get(process.pid, ()) if child.pid not in found]
    spared = _spared(tree, snap)
    return [process for pid, process in sorted(found.items()) if pid not in spared]


def _monitor(tree: Tree, snap: Snapshot) -> Stat | None:
    found = snap.stats.get(tree.monitor.pid)
    return found if found and found.process == tree.monitor and found.state != "Z" else None


def _spared(tree: Tree, snap: Snapshot) -> set[int]:
    """This process, process 1, an sshd that listens for others, and the one that the login came through. The login's
    own may listen too: root's is one process, which holds the ports of `ssh -R` and of X11."""
    monitor = _monitor(tree, snap)
    own = {tree.monitor.pid} if tree.monitor.pid in snap.spared and monitor and peer_of(tree.monitor) else set()
    return (snap.spared - own) | ({monitor.parent} if monitor else set())


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ended`: how many there were. `gone`: none is left, as far as can be known."""

    ended: int
    gone: bool


def end(trees: Sequence[Tree]) -> dict[Process, Outcome]:
    """Ends all processes of these logins, by monitor: asked first, then without asking.

    Blocks for `_GRACE_S` and `_KILL_S` at most, however many they are, and a few walks. Each is signalled by a handle
    of that very process (pidfd), so that a number that is used again meanwhile is nobody else's end.
    """
    ended: dict[Process, set[int]] = {tree.monitor: set() for tree in trees}

    def strike(snap: Snapshot, tree: Tree, *numbers: int) -> bool:
        found = members(tree, snap)
        for process in found:
            ended[tree.monitor].add(process.pid)
            for number in numbers:
                _signal(process, number)
        return bool(found)

    snap = snapshot(trees)
    there = [strike(snap, tree, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT) for tree in trees]
    until = time.monotonic() + _GRACE_S
    while any(there) and time.monotonic() < until:
        time.sleep(_PAUSE_S)
        snap = snapshot(trees)
        there = [bool(members(tree, snap)) for tree in trees]
    empty = dict.fromkeys(ended, 0)
    left, until = list(trees), time.monotonic() + _KILL_S
    # one that was empty just now is looked at again, whatever the time
    while left and (time.monotonic() < until or all(empty[tree.monitor] for tree in left)):
        whole = {tree.monitor for tree in left if _kill_scope(tree, snap)}
        caught = _chase({tree.audit for tree in left} - {""}, snap.spared)
        snap = snapshot(left)
        for tree in left:
            ended[tree.monitor] |= caught.get(tree.audit, set())
            populated = tree.monitor in whole and is_empty(tree) is False
            seen = strike(snap, tree, signal.SIGKILL) or tree.audit in caught or populated
            empty[tree.monitor] = 0 if seen else empty[tree.monitor] + 1
        left = [tree for tree in left if empty[tree.monitor] < _EMPTY]
    unended = {tree.monitor for tree in left}
    return {monitor: Outcome(len(pids), monitor not in unended) for monitor, pids in ended.items()}


def is_empty(tree: Tree) -> bool | None:
    """Whether nothing is in its scope, as the kernel says it; None where it does not."""
    for folder in CGROUPS if tree.scope else ():
        if not (folder / "cgroup.controllers").exists():
            continue
        try:
            return "populated 0" in (folder / tree.scope[1:] / "cgroup.events").read_text().splitlines()
        except FileNotFoundError:
            return True
        except OSError:
            return None
    return None


def _kill_scope(tree: Tree, snap: Snapshot) -> bool:
    """All of the scope at once, whatever it forks; False where that cannot be, or would end what is to be spared."""
    if not tree.scope or any(_scope(pid) == tree.scope for pid in _spared(tree, snap)):
        return False
    for folder in CGROUPS:
        with contextlib.suppress(OSError):
            file = os.open(folder / tree.scope[1:] / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, b"1")
            finally:
                os.close(file)
            return True
    return False


def _chase(audits: set[str], spared: set[int]) -> dict[str, set[int]]:
    """Ends the machine's newest process, again and again, where it is in one of these audit sessions; which it were.

    A process lives longest after its number was given out: there one that forks and exits for ever is met.
    """
    caught: dict[str, set[int]] = {}
    if not audits:
        time.sleep(_PAUSE_S)
        return caught
    until = time.monotonic() + _CHASE_S
    file = os.open(PROC / "loadavg", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while time.monotonic() < until:
            pid = int(os.pread(file, 128, 0).split()[-1])
            if pid in spared or not pid:
                continue
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(pid)
                try:
                    if (audit := _audit(pid)) in audits:
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        caught.setdefault(audit, set()).add(pid)
                finally:
                    os.close(handle)
    finally:
        os.close(file)
    return caught


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(OSError):  # it ended by itself
        handle = os.pidfd_open(process.pid)
        try:
            if is_alive(process):  # the handle is of this process, or it was another's before we opened it
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _listeners(stats: Collection[Stat]) -> set[int]:
    """An sshd that listens: an admin who restarts it by hand does so inside their own login."""
    listening = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
            listening |= {line.split()[9] for line in lines if line.split()[3] == "0A"}
    return {
        each.process.pid
        for each in stats
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
    """The audit session; empty without one. Called thousands of times: no Path."""
    try:
        file = os.open(f"/proc/{pid}/sessionid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = os.read(file, 32).decode("ascii", "replace").strip("\0\n ")
    except OSError:
        return ""
    finally:
        os.close(file)
    return "" if text in (_NO_SESSION, "0") else text


def _scope(pid: int) -> str:
    """logind's scope; empty without one."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
            if found := _SCOPE.fullmatch(line.split(":", 2)[-1]):
                return found[1]
    return ""
