"""The stock sshd that demo and tests call a host: real logins with certificates that ssh-keygen made."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from jitgate.app import local_sshd
from jitgate.app.local_sshd import LocalHost
from jitgate.core.errors import Unreachable, Unsafe

DROP_IN = """\
TrustedUserCAKeys {etc}/jitgate/user_ca.pub
AuthorizedPrincipalsFile {etc}/jitgate/principals/%u
RevokedKeys {etc}/jitgate/krl
HostCertificate {etc}/jitgate/host-cert.pub
"""


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


@dataclass
class Person:
    """Somebody with a key, a certificate and a known_hosts that trusts the host CA, and no configuration."""

    folder: Path
    host: LocalHost

    def options(self, login: str) -> list[str]:
        names = (
            f"HostName={self.host.address}",
            f"HostKeyAlias={self.host.name}",
            f"User={login}",
            f"Port={self.host.port}",
        )
        files = f"UserKnownHostsFile={self.folder}/known_hosts", f"IdentityFile={self.folder}/id"
        rules = "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "IdentityAgent=none"
        return ["-F", "none", *(word for option in (*names, *files, *rules) for word in ("-o", option))]

    def ssh(self, login: str, *command: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        line = ["ssh", *flags, *self.options(login), self.host.name, *command]
        return subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def person(tmp_path: Path, start_sshd: Callable[..., LocalHost]) -> Person:
    """alice, certified as ubuntu@host:web1, and web1 that admits this principal as `ubuntu` and as `root`."""
    host = start_sshd("web1", "ubuntu", "deploy", "root")
    for key in ("user_ca", "host_ca", "id"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", tmp_path / key)
    options = ("-I", "grant=1", "-z", "7", "-V", "-1m:+5m", "-n", "ubuntu@host:web1")
    run("ssh-keygen", "-q", "-s", tmp_path / "user_ca", *options, tmp_path / "id.pub")
    managed = host.etc / "jitgate"
    (managed / "principals").mkdir(parents=True)
    (managed / "user_ca.pub").write_bytes((tmp_path / "user_ca.pub").read_bytes())
    (managed / "principals" / "ubuntu").write_text("ubuntu@host:web1\n")
    (managed / "principals" / "root").write_text("ubuntu@host:web1\n")
    (managed / "principals" / "deploy").write_text("deploy@host:web1\n")
    (managed / "host.pub").write_text(host.host_key + "\n")
    run("ssh-keygen", "-q", "-s", tmp_path / "host_ca", "-h", "-I", "web1", "-n", "web1", managed / "host.pub")
    run("ssh-keygen", "-q", "-k", "-f", managed / "krl")
    (host.etc / "sshd_config.d" / "10-jitgate.conf").write_text(DROP_IN.format(etc=host.etc))
    (tmp_path / "known_hosts").write_text(f"@cert-authority web1 {(tmp_path / 'host_ca.pub').read_text()}")
    host.reload()
    return Person(tmp_path, host)


@pytest.mark.parametrize("login", ["ubuntu", "root"])
def test_any_login_works_and_the_session_is_a_plain_one(person: Person, login: str):
    done = person.ssh(login, "echo $USER $HOME $LOCAL_HOST; env; exit 3")
    assert done.returncode == 3, done.stderr + person.host.log_text()
    assert done.stdout.startswith(f"{login} {person.host.etc.parent}/home/{login} web1\n")
    assert not any(name in done.stdout for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "NSS_WRAPPER"))
    assert "ID grant=1 (serial 7)" in person.host.log_text()


def test_a_principal_opens_only_the_logins_that_list_it(person: Person):
    assert person.ssh("deploy", "true").returncode == 255
    assert person.ssh("nobody-here", "true").returncode == 255


def test_refusals_do_not_shut_the_address_out(person: Person):
    for _ in range(5):
        assert person.ssh("deploy", "true").returncode == 255
    assert person.ssh("ubuntu", "true").returncode == 0


def test_the_revocation_list_is_read(person: Person):
    run("ssh-keygen", "-q", "-k", "-f", person.host.etc / "jitgate" / "krl", person.folder / "id-cert.pub")
    assert person.ssh("ubuntu", "true").returncode == 255


def test_a_terminal_and_files(person: Person):
    assert "/dev/pts/" in person.ssh("ubuntu", "tty", flags=("-tt",)).stdout
    (person.folder / "file").write_bytes(b"here")
    run("sftp", *person.options("ubuntu"), "-b", _script(person.folder, "put {0}/file\nget file {0}/back\n"), "web1")
    assert (person.folder / "back").read_bytes() == b"here"


def _script(folder: Path, text: str) -> Path:
    script = folder / "batch"
    script.write_text(text.format(folder))
    return script


def test_what_sshd_does_can_be_asked(person: Person):
    assert f"revokedkeys {person.host.etc}/jitgate/krl\n" in person.host.run_sshd("-T").stdout


@pytest.mark.parametrize(("handler", "ready"), [("SIG_DFL", False), ("SIG_IGN", False), ("print", True)])
def test_an_sshd_is_ready_only_when_a_reload_would_not_be_lost(handler: str, *, ready: bool):
    program = f"from signal import *; signal(SIGHUP, {handler}); print(flush=True); pause()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert local_sshd._catches_hangup(process.pid) is ready
        process.kill()


def test_a_broken_configuration_is_told_in_sshds_words(person: Person):
    (person.host.etc / "sshd_config.d" / "20-wrong.conf").write_text("NoSuchOption yes\n")
    with pytest.raises(Unreachable, match="did not reload: "):
        person.host.reload()
    assert "NoSuchOption" in person.host.log_text()


def test_stop_ends_the_sessions_too(person: Person):
    command = ["ssh", *person.options("ubuntu"), "web1", "echo ready; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"ready\n"
        person.host.stop()
        person.host.stop()
        assert session.wait() == 255


def test_it_ends_when_whoever_started_it_is_killed(start_sshd: Callable[..., LocalHost]):
    folder = start_sshd("other", "ubuntu").etc.parent.parent / "orphan"
    program = f"""
        import pathlib, signal
        from jitgate.app import local_sshd
        host = local_sshd.start(pathlib.Path({str(folder)!r}), "orphan", ("ubuntu",), local_sshd.find_programs())
        print(host.process.pid, flush=True)
        signal.pause()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "src"}) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    while _runs(pid):  # the test's own time limit ends this
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_folder_that_the_hosts_user_cannot_reach_is_refused(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(Unsafe, match="is closed to others"):
        local_sshd._check_reachable(closed / "web1")


def test_a_second_start_keeps_the_host_key_and_follows_no_link_that_a_session_left(person: Person, tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("untouched")
    before = person.host.host_key
    folder = person.host.etc.parent
    assert person.ssh("ubuntu", f"ln -sf {other} {folder}/etc/sshd_config").returncode == 0
    person.host.stop()
    person.host = local_sshd.start(folder, "web1", ("ubuntu",), local_sshd.find_programs())
    try:
        assert other.read_text() == "untouched"
        assert person.host.host_key == before
        assert person.ssh("ubuntu", "true").returncode == 0
    finally:
        person.host.stop()
