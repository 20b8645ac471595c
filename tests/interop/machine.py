"""A machine as root has it, in namespaces of its own: sshd with PAM, its users, the agent, and people who log in."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.enroller import Enroller
from tests.interop.agents import PROGRAM, until
from tests.unit.agent.trusts import HOST_CA, NONCE, USER_CA
from tools.debian import unpacked
from tools.parts import PARTS

from jitgate.ca.names import user_key_id
from jitgate.core.clock import system_clock
from jitgate.core.ids import new_id
from jitgate.hosts.agent_wire import Report
from jitgate.ssh.cert import CertificateBody, CertType, join, to_be_signed
from jitgate.ssh.private import SoftwareKey, dump_private_key, generate_ed25519

USERS = {"ubuntu": 5001, "deploy": 5002}
SUDO = Path("/run/sudo")


class Machine:
    """A host as root has it: its own sshd with PAM, its users, the agent."""

    def __init__(self, folder: Path, sshd: str, port: int) -> None:
        self.folder, self.sshd, self.port = folder, sshd, port
        self.log = folder / "sshd.log"
        self.service = Enroller(folder, "web1", (*USERS, "newcomer"))
        self._clients: list[subprocess.Popen[str]] = []
        self.daemon = subprocess.Popen([sshd, "-D", "-E", str(self.log)], start_new_session=True)
        until(lambda: self.log.exists() and "Server listening" in self.log.read_text())

    # ---- the agent ----

    def agent(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [*PROGRAM, *arguments, "--state", str(self.folder / "agent")]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def join(self) -> None:
        reload = f"kill -HUP {self.daemon.pid}; sleep 1"
        where = ("--etc", "/etc/ssh", "--sshd", self.sshd, "--reload", reload)
        self.agent("join", *where, stdin=self.service.token() + "\n")
        self.agent("logins", "--pam")

    @contextmanager
    def running(self) -> Iterator[None]:
        log = (self.folder / "agent.log").open("a")
        process = subprocess.Popen([*PROGRAM, "run", "--state", str(self.folder / "agent")], stdout=log, stderr=log)
        try:
            self.service.wait(lambda: self.service.connected() == 2)
            until((self.folder / "agent/pam/wake").exists)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            log.close()

    def reports(self, kind: str) -> list[Mapping[str, object]]:
        return [each.fields for each in self.service.said if isinstance(each, Report) and each.type == kind]

    def reported(self, kind: str, count: int = 1) -> Mapping[str, object]:
        """The newest of that kind, once there are so many."""
        self.service.wait(lambda: len(self.reports(kind)) >= count)
        return self.reports(kind)[-1]

    def end_grant(self, *grants: str) -> None:
        self.service.revoke(ended_grants=grants)

    # ---- people ----

    def options(self, name: str, *, key: SoftwareKey | None = None) -> list[str]:
        folder = self.folder / "client"
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / name
        if key is not None:
            path.touch(0o600)
            path.write_bytes(dump_private_key(key).reveal())
        known = folder / "known"
        known.write_text(f"@cert-authority *.default.jitgate {HOST_CA.public.line()}\n")
        settings = {
            "BatchMode": "yes",
            "HostKeyAlias": "web1.default.jitgate",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "none",
            "LogLevel": "ERROR",
        }
        options = [part for key_, value in settings.items() for part in ("-o", f"{key_}={value}")]
        return ["-F", "none", *options, "-i", str(path), "-p", str(self.port)]

    def certified(self, name: str, login: str, grant: str, serial: int, *, key_id: str = "") -> list[str]:
        """A key and a certificate, in files of that name."""
        key = generate_ed25519()
        options = self.options(name, key=key)
        now = int(time.time())
        body = CertificateBody(
            type=CertType.USER,
            key=key.public,
            serial=serial,
            key_id=key_id or user_key_id(grant, name),
            principals=(f"{login}@host:web1",),
            valid_after=now - 60,
            valid_before=now + 3600,
            critical_options=(),
            extensions=(("permit-pty", ""),),
            ca=USER_CA.public,
        )
        said = to_be_signed(body, NONCE)
        line = join(said, USER_CA.sign(said)).line()
        (self.folder / "client" / f"{name}-cert.pub").write_text(line + "\n")
        return options

    def start(self, options: list[str], login: str, command: str, *more: str) -> subprocess.Popen[str]:
        """A session that runs in the background. The command says `in` when it has begun."""
        where = [f"{login}@127.0.0.1", f"echo in; {command}"]
        process = subprocess.Popen(
            ["ssh", *options, *more, *where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._clients.append(process)
        assert process.stdout
        first = process.stdout.readline().strip()
        assert first == "in", first + (process.stderr.read() if process.stderr else "") + self.log.read_text()[-2000:]
        return process

    def run(self, options: list[str], login: str, command: str) -> str:
        done = subprocess.run(
            ["ssh", *options, f"{login}@127.0.0.1", command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + self.log.read_text()[-2000:]
        return done.stdout

    def clear(self) -> None:
        """Nobody is in, and nothing is reported."""
        for each in self._clients:
            each.kill()
        for entry in Path("/proc").iterdir():  # of this namespace: nobody else's are here
            with suppress(OSError):
                if entry.name.isdecimal() and entry.stat().st_uid in USERS.values():
                    os.kill(int(entry.name), signal.SIGKILL)
        for each in self._clients:  # now that a shared connection's other end has gone, which holds their pipes
            each.communicate()
        self._clients.clear()
        known = self.folder / "agent/logins.json"
        until(lambda: not known.exists() or not json.loads(known.read_text())["seen"])
        told = self.service.revoke(ended_grants=(), ended_sessions=()).version
        self.service.wait(lambda: self.service.acked(told))
        self.service.said.clear()


def alive(mark: str) -> list[int]:
    """Processes that have the mark as an argument of theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def owner(process: int) -> int | None:
    with suppress(OSError):
        return Path(f"/proc/{process}").stat().st_uid
    return None


def make_system(folder: Path, keygen: Path, port: int) -> None:
    etc = folder / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    shutil.rmtree(etc / "ssh", ignore_errors=True)
    (etc / "ssh/sshd_config.d").mkdir(parents=True)
    (etc / "ssh/sshd_config").write_text(
        f"Include /etc/ssh/sshd_config.d/*.conf\nPort {port}\nListenAddress 127.0.0.1\nUsePAM yes\n"
        "KbdInteractiveAuthentication no\nPasswordAuthentication no\nLogLevel VERBOSE\nPidFile none\n"
        "PermitUserEnvironment yes\nAcceptEnv *\n"
    )
    key = etc / "ssh/ssh_host_ed25519_key"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    passwd = [f"root:x:0:0:root:{folder}/home/root:/bin/sh", "sshd:x:990:65534::/run/sshd:/bin/false"]
    passwd += [f"{login}:x:{uid}:{uid}::{folder}/home/{login}:/bin/bash" for login, uid in USERS.items()]
    (etc / "passwd").write_text("\n".join([*passwd, ""]))
    (etc / "group").write_text(
        "".join(f"{n}:x:{i}:\n" for n, i in {"root": 0, "tty": 5, **USERS, "nogroup": 65534}.items())
    )
    (etc / "shadow").write_text("".join(f"{login}:*:19000:0:99999:7:::\n" for login in ("root", *USERS)))
    (etc / "pam.d/sshd").write_text(
        "account required pam_permit.so\nsession required pam_loginuid.so\nsession required pam_env.so user_readenv=1\n"
    )
    for login, uid in {"root": 0, **USERS}.items():
        home = folder / "home" / login
        (home / ".ssh").mkdir(parents=True)
        for path in (home, home / ".ssh"):
            os.chown(path, uid, uid)
            path.chmod(0o700)
    subprocess.run(["mount", "--bind", str(etc), "/etc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/sshd").mkdir(mode=0o755)


def install_sudo(login: str) -> None:
    """Debian's, for this namespace alone: `login` may do everything, and is asked for nothing."""
    tree = unpacked(PARTS["sudo"].packages)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/usr/libexec"], check=True)
    shutil.copytree(tree / "usr/libexec/sudo", "/usr/libexec/sudo", symlinks=True)
    shutil.copy(tree / "usr/bin/sudo", SUDO)
    SUDO.chmod(0o4755)
    for path, text in (
        ("/etc/sudoers", f"{login} ALL=(ALL) NOPASSWD: ALL\n"),
        ("/etc/pam.d/sudo", "account required pam_permit.so\nsession required pam_permit.so\n"),
    ):
        Path(path).unlink(missing_ok=True)
        Path(path).write_text(text)
        Path(path).chmod(0o440)


def a_grant() -> str:
    return new_id(system_clock(), os.urandom)
