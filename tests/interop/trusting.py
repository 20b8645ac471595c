"""A stock sshd, the script run on it, and logins to it: what the tests of `host trust` share."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.unit.agent.trusts import HOST_CA, USER_CA, certify, trust

from jitgate.agent.script import render
from jitgate.agent.trust import HostTrust
from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import SoftwareKey, dump_private_key, generate_ed25519
from jitgate.ssh.pubkey import parse_public_key_line

PERSON = generate_ed25519()
Tree = dict[str, str]
RELOAD_S = 2.0  # an sshd that is told to read its settings again closes its port for a moment


def trust_of(host: LocalHost, *logins: str, **changed: object) -> HostTrust:
    """A trust file for that host, as the server makes it."""
    key = parse_public_key_line(host.host_key)[0]
    return trust(key, *(logins or host.logins), host=host.name, **changed)  # type: ignore[arg-type]  # passed on


def apply(
    host: LocalHost,
    trust_file: HostTrust | str,
    *arguments: str,
    sshd: str = "",
    reload: str = "",
    environment: Mapping[str, str] = {},
    shell: str = "sh",
) -> subprocess.CompletedProcess[str]:
    """Runs the script on the host, in a process group of its own."""
    script = trust_file if isinstance(trust_file, str) else render(trust_file)
    path = host.etc.parent / "jitgate-trust.sh"
    path.write_text(script)
    options = [
        "--etc",
        str(host.etc),
        "--sshd",
        sshd or str(host.own_sshd()),
        "--reload",
        reload or host.reload_command(),
    ]
    return subprocess.run(
        [shell, str(path), *arguments, *options],
        env={"PATH": os.environ["PATH"]} | dict(environment),
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def tree(folder: Path, *, without: str = "") -> Tree:
    """Each path below the folder with its kind, mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if without and name.split("/", maxsplit=1)[0] == without:
            continue
        mode = path.lstat().st_mode
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[name] = f"{stat.filemode(mode)} {content}"
    return found


def keep(host: LocalHost, name: str) -> Path:
    """A copy of the host's etc."""
    folder = host.etc.parent / name
    subprocess.run(["rm", "-rf", folder], check=True)
    subprocess.run(["cp", "-a", host.etc, folder], check=True)
    return folder


def restore(host: LocalHost, kept: Path) -> None:
    """Puts a copy of etc back, and its sshd reads it."""
    for path in host.etc.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)
    subprocess.run(["cp", "-a", f"{kept}/.", host.etc], check=True)
    host.reload()


def write(host: LocalHost, name: str, text: str) -> None:
    """A file of the host's etc."""
    path = host.etc / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def let_in_by_key(host: LocalHost, login: str, key: SoftwareKey) -> None:
    """The access that was there before: a line in authorized_keys."""
    folder = host.etc.parent / "home" / login / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "authorized_keys").write_text(key.public.line() + "\n")


def ssh(
    host: LocalHost,
    login: str,
    *principals: str,
    by_key: bool = False,
    key: SoftwareKey = PERSON,
    ca: SoftwareKey = USER_CA,
    serial: int = 1,
) -> subprocess.CompletedProcess[str]:
    """One command by stock ssh: with a certificate for the principals, or by the bare key without any.

    With a certificate the host is known only by its CA; without one, or with `by_key`, only by its key, as before.
    """
    folder = host.etc.parent / "client"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / "id").write_bytes(dump_private_key(key).reveal())
    (folder / "id").chmod(0o600)
    known = f"[{host.address}]:{host.port} {host.host_key}"
    options = ["-i", str(folder / "id")]
    if principals:
        line = certify(ca, CertType.USER, key.public, principals, serial=serial).line()
        (folder / "id-cert.pub").write_text(line + "\n")
    if principals and not by_key:
        known = f"@cert-authority *.default.jitgate {HOST_CA.public.line()}"
        options += ["-o", f"HostKeyAlias={host.name}.default.jitgate"]
    (folder / "known_hosts").write_text(known + "\n")
    settings = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "GlobalKnownHostsFile": "none",
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
        "KexAlgorithms": "curve25519-sha256",  # the default's sntrup761 is slow, and no matter here
    }
    options += [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    where = ["-p", str(host.port), f"{login}@{host.address}"]
    command = ["ssh", "-F", "none", *options, *where, "echo $LOCAL_HOST"]
    until = time.monotonic() + RELOAD_S
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if "Connection refused" not in done.stderr or time.monotonic() > until:
            return done
        time.sleep(0.1)


def opens(host: LocalHost, login: str, *principals: str, **how: object) -> bool:
    """Is the login possible? Fails the test when it is refused for another reason than the key."""
    done = ssh(host, login, *principals, **how)  # type: ignore[arg-type]  # passed on
    if done.returncode == 0:
        assert done.stdout == f"{host.name}\n"
        return True
    assert "Permission denied (publickey" in done.stderr, done.stderr
    return False


STEPS = ("mkdir", "mv", "rm", "rmdir")
"""The commands by which the script changes anything outside of its own work folder."""


def stumble(host: LocalHost, at: int, action: str) -> dict[str, str]:
    """An environment in which the `at`-th of STEPS does `action` (a line of sh) instead of its work."""
    folder = host.etc.parent / "stumble"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    count = folder / "count"
    count.write_text("0")
    for name in STEPS:
        path = folder / name
        path.write_text(
            f"#!/bin/sh\nread n <{count}; n=$((n + 1)); echo $n >{count}\n"
            f'[ $n != {at} ] || {{ {action}; }}\nexec /bin/{name} "$@"\n'
        )
        path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def steps_taken(host: LocalHost) -> int:
    return int((host.etc.parent / "stumble" / "count").read_text())


KILL = "kill -9 0"
TERMINATE = f"kill -{signal.SIGTERM.value} $PPID; exit 1"
FAIL = "exit 1"
