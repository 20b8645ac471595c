"""A stock sshd on loopback, run from a folder by anyone: what demo and tests use as a managed host.

It is OpenSSH's own sshd with a main file as Debian ships it: an `Include` of a drop-in folder, and nothing that knows
jitgate. A host is made managed by what is put below its `etc/` afterwards, as on a real machine.

An sshd that is not root can only log in its own user. libnss_wrapper (LD_PRELOAD) gives it a user list of its own, in
which every login is that one uid, so logins of any name work and nothing differs between root and an ordinary user:
as root the sshd runs under the uid of `nobody`. Sessions get a fresh environment from sshd, without the LD_PRELOAD.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from jitgate.core.errors import NotFound, Unreachable, Unsafe

ADDRESS = "127.0.0.1"
PATIENCE_S = 20
"""How long an sshd may take to start, reload or stop, on a machine that is busy with other things."""
PORT_TRIES = 5
LISTENING = "Server listening on"
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/openssh")

CONFIG = """\
# The main file of a stock host: what changes it goes into the drop-in folder.
Include {etc}/sshd_config.d/*.conf
Port {port}
ListenAddress {address}
HostKey {etc}/ssh_host_ed25519_key
PidFile none
LogLevel VERBOSE
UsePAM no
KbdInteractiveAuthentication no
PasswordAuthentication no
# The folder may lie below /tmp, which StrictModes refuses.
StrictModes no
PrintMotd no
{penalties}
AcceptEnv LANG LC_*
# Its people find the programs that it is made of, wherever those were unpacked.
SetEnv LOCAL_HOST={name} PATH={path}
Subsystem sftp {sftp_server}
"""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the real programs that a local host is made of."""

    sshd: str
    ssh_keygen: str
    sftp_server: str
    setpriv: str
    nss_wrapper: str


def find_programs() -> Programs:
    """Looks along PATH, then in Debian's places. Raises NotFound with what to install."""
    folders = [*os.environ.get("PATH", os.defpath).split(":"), *SYSTEM_FOLDERS]
    path = ":".join(folders)
    found = {name: shutil.which(name, path=path) for name in ("sshd", "ssh-keygen", "sftp-server", "setpriv")}
    libraries = [*(Path(folder) for folder in folders if folder), *sorted(Path("/usr/lib").glob("*-linux-gnu*"))]
    wrapper = (folder / "libnss_wrapper.so" for folder in libraries)
    found["libnss_wrapper.so"] = next((str(library) for library in wrapper if library.is_file()), None)
    if missing := [name for name, program in found.items() if program is None]:
        what = f"{', '.join(missing)} not found on this machine"
        raise NotFound(what, "on Debian: apt-get install openssh-server openssh-client libnss-wrapper")
    return Programs(*(program for program in found.values() if program is not None))


@dataclass(slots=True)
class LocalHost:
    """A running sshd. `etc` stands for /etc/ssh of a real host; `host_key` is the line of its public key."""

    name: str
    address: str
    port: int
    logins: tuple[str, ...]
    etc: Path
    config: Path
    host_key: str
    log: Path
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def run_sshd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`sshd ARGUMENTS` on this host's configuration, as its own user: `-t`, `-T`, `-T -C user=...`."""
        command = [*self.command, *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def reload(self) -> None:
        """What `systemctl reload ssh` does; returns when the new configuration is in force. Raises Unreachable."""
        times = self.log_text().count(LISTENING)
        self.process.send_signal(signal.SIGHUP)
        _wait_until_it_listens(self, times + 1, "did not reload")

    def own_sshd(self) -> Path:
        """A command that is this host's sshd, under its own user: what `sshd -T` says is then what the host does."""
        path = self.etc.parent / "sshd"
        users = shlex.join(f"{name}={value}" for name, value in self.environment.items() if name != "PATH")
        path.write_text(f'#!/bin/sh\nexec /usr/bin/env {users} {shlex.join(self.command[:-2])} "$@"\n')
        path.chmod(0o755)
        return path

    def reload_command(self) -> str:
        """For a shell: reloads it, and ends when it listens again."""
        count = f"grep -c '^{LISTENING}' {shlex.quote(str(self.log))}"
        return f"n=$({count}); kill -HUP {self.process.pid}; while [ $({count}) = $n ]; do sleep 0.02; done"

    def stop(self) -> None:
        """Ends the sshd and its sessions; a second call does nothing."""
        if self.process.poll() is None:
            for pid in (self.process.pid, *_descendants(self.process.pid)):
                _kill(pid)
        self.process.wait(timeout=PATIENCE_S)


def start(folder: Path, name: str, logins: tuple[str, ...], programs: Programs, *, address: str = ADDRESS) -> LocalHost:
    """Starts an sshd whose state lies in `folder`, on a free port of `address`; returns when it listens.

    It ends with `stop()`, and also when the calling thread ends or this process dies, however. `folder` is made when
    missing and keeps its host key over a second start; where we are root, `nobody` must be able to reach it (pytest's
    tmp_path it cannot). Raises Unreachable when sshd does not start, Unsafe when the folder cannot be reached.
    """
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    uid, gid = (account.pw_uid, account.pw_gid) if account else (os.getuid(), os.getgid())
    become = [programs.setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if account else []
    folder = folder.absolute()
    etc = folder / "etc"
    config, key = etc / "sshd_config", etc / "ssh_host_ed25519_key"
    if not etc.exists():
        (etc / "sshd_config.d").mkdir(parents=True)
        keygen = [programs.ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        _give(uid, gid, *etc.rglob("*"), etc)
    folder.chmod(0o755)
    if account:
        _check_reachable(folder)
    environment = _users(folder, logins, uid, gid, programs)
    path = f"{Path(programs.ssh_keygen).parent}:/usr/local/bin:/usr/bin:/bin"
    options = {"name": name, "etc": etc, "address": address, "sftp_server": programs.sftp_server, "path": path}
    sshd = [programs.sshd, "-f", str(config)]
    # Asked for after the change of user, which would clear it.
    dies_with_us = [programs.setpriv, "--pdeathsig", "TERM"]
    command = [*become, *sshd]
    for _ in range(PORT_TRIES):
        port = _free_port(address)
        _put(folder, "etc/sshd_config", CONFIG.format(port=port, penalties="", **options), uid, gid)
        # Since 9.8 sshd shuts out an address that fails often, and here everybody comes from the same one.
        probe = [*command, "-t", "-o", "PerSourcePenalties=no"]
        if subprocess.run(probe, env=environment, capture_output=True, check=False).returncode == 0:
            text = CONFIG.format(port=port, penalties="PerSourcePenalties no", **options)
            _put(folder, "etc/sshd_config", text, uid, gid)
        log = _put(folder, "sshd.log", "", uid, gid)
        host = LocalHost(
            name=name,
            address=address,
            port=port,
            logins=logins,
            etc=etc,
            config=config,
            host_key=key.with_suffix(".pub").read_text().strip(),
            log=log,
            command=command,
            environment=environment,
            process=subprocess.Popen(
                [*become, *dies_with_us, *sshd, "-D", "-E", str(log)],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            ),
        )
        try:
            _wait_until_it_listens(host, 1, "did not start")
        except Unreachable:
            host.stop()
            if "Address already in use" not in host.log_text():
                raise
        else:
            return host
    raise Unreachable(f"the local sshd of {name} found no free port", "try again")


def _users(folder: Path, logins: tuple[str, ...], uid: int, gid: int, programs: Programs) -> dict[str, str]:
    """Writes the user list in which each login is `uid`; returns the environment that makes sshd read it."""
    shell = next(path for path in ("/bin/bash", "/bin/sh") if os.access(path, os.X_OK))
    users = []
    for login in logins:
        home = folder / "home" / login
        home.mkdir(parents=True, exist_ok=True)
        home.parent.chmod(0o755)
        _give(uid, gid, home)
        users.append(f"{login}:x:{uid}:{gid}:{login}:{home}:{shell}\n")
    if "root" not in logins:  # ssh-keygen, run by root with this list, wants to know who that is; nobody logs in as it
        users.append("root:x:0:0:root:/:/usr/sbin/nologin\n")
    passwd = _put(folder, "passwd", "".join(users), uid, gid)
    # Without a group tty: an sshd that is not root could not give a terminal to it.
    group = _put(folder, "group", f"users:x:{gid}:\n", uid, gid)
    return {
        "PATH": os.defpath,
        "LD_PRELOAD": programs.nss_wrapper,
        "NSS_WRAPPER_PASSWD": str(passwd),
        "NSS_WRAPPER_GROUP": str(group),
    }


def _give(uid: int, gid: int, *paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            path.chmod(0o755)
        os.chown(path, uid, gid, follow_symlinks=False)


def _put(folder: Path, name: str, text: str, uid: int, gid: int) -> Path:
    """A file of the host's user, made in `folder`, which that user cannot write, and then moved into its place.

    So root never writes through a link that a session left in `etc/`.
    """
    new = folder / ".new"
    new.write_text(text)
    new.chmod(0o644)
    os.chown(new, uid, gid)
    return new.replace(folder / name)


def _check_reachable(folder: Path) -> None:
    if closed := [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]:
        what = f"an sshd that is not root cannot reach {folder}: {closed[-1]} is closed to others"
        raise Unsafe(what, "use another folder")


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _catches_hangup(pid: int) -> bool:
    """sshd says that it listens before it catches SIGHUP: one sent in between would end it, or be lost in a reload."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGHUP - 1) & 1)


def _wait_until_it_listens(host: LocalHost, times: int, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while host.log_text().count(LISTENING) < times or not _catches_hangup(host.process.pid):
        if host.process.poll() is not None or time.monotonic() > deadline:
            last = host.log_text().strip().splitlines()[-1:] or ["it said nothing"]
            raise Unreachable(f"the local sshd of {host.name} {what}: {last[0]}", f"its log is {host.log}")
        time.sleep(0.01)


def _descendants(pid: int) -> list[int]:
    """The processes below `pid`. A session's shell has a session of its own: killing the group would miss it."""
    children: dict[int, list[int]] = {}
    for each in Path("/proc").iterdir():
        if not each.name.isdecimal():
            continue
        try:
            parent = int((each / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:  # ended while we looked
            continue
        children.setdefault(parent, []).append(int(each.name))
    found = list(children.get(pid, []))
    for child in found:  # grows while it is walked
        found += children.get(child, [])
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
