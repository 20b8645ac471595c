"""Logins on a real sshd with PAM, as root: who is in, whose login ends, and that nobody else's does.

The tests whose names begin with `test_inside` run in namespaces of their own, where /etc and /run are theirs and no
process outside is seen or touched: `test_logins_on_a_real_host` starts them there.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.interop.agents import until
from tests.interop.machine import SUDO, USERS, Machine, a_grant, alive, install_sudo, make_system, owner
from tests.unit.agent.trusts import USER_CA

from jitgate.agent import jit
from jitgate.agent.sshd import Sshd
from jitgate.ca.names import user_key_id
from jitgate.hosts.bundle import EndedSession
from jitgate.ssh.private import generate_ed25519

INSIDE = "JITGATE_TEST_INSIDE"
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
OWNER = generate_ed25519()


def _may() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    writes = "echo 0 > /proc/self/loginuid && test $(cat /proc/self/sessionid) != 4294967295"
    return subprocess.run([*UNSHARE, "sh", "-c", writes], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _may(), reason="needs root that may make namespaces and audit sessions")
@pytest.mark.timeout(300)
def test_logins_on_a_real_host():
    command = [
        *UNSHARE,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "-k",
        "inside",
        __file__,
    ]
    done = subprocess.run(command, env=os.environ | {INSIDE: "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "s" not in done.stdout.partition(" ")[0]  # none was skipped


inside = pytest.mark.skipif(INSIDE not in os.environ, reason="run by test_logins_on_a_real_host")


@pytest.fixture(scope="module")
def machine(programs: Mapping[str, Path]) -> Iterator[Machine]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_system(folder, programs["ssh-keygen"], port)
        machine = Machine(folder, str(programs["sshd"]), port)
        with machine.service:
            machine.join()
            with machine.running():
                yield machine
                machine.clear()
        machine.daemon.terminate()
        machine.daemon.wait(20)
        for mount in ("/etc", "/run"):
            subprocess.run(["umount", "-l", mount], check=True)


@pytest.fixture
def host(machine: Machine) -> Iterator[Machine]:
    machine.clear()
    yield machine
    machine.clear()


@inside
def test_inside_a_login_and_its_end_are_reported(host: Machine):
    grant = a_grant()
    client = host.start(host.certified("alice", "ubuntu", grant, 41), "ubuntu", "cat", "-tt")
    said = host.reported("login")
    assert (said["login"], said["serial"], said["key_id"]) == ("ubuntu", 41, user_key_id(grant, "alice"))
    assert (said["how"], said["verified"], said["ca"]) == ("certificate", True, USER_CA.public.fingerprint)
    assert said["source"] == "127.0.0.1"
    assert f"port {said['port']} ssh2" in host.log.read_text()
    client.terminate()
    gone = host.reported("logout")
    assert (gone["id"], gone["why"], gone["ended"]) == (said["id"], "by itself", 0)


FORKED = """python3 -c '
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        os.execlp("sleep", "sleep", "{mark}")
time.sleep(0.2)'"""


@inside
def test_inside_a_login_without_an_account_is_jitgates_alone(host: Machine):
    assert jit.drop_in(Sshd()).read_text().splitlines()[1] == "Match User newcomer"
    said = subprocess.run(
        [host.sshd, "-T", "-C", "user=newcomer,host=x,addr=192.0.2.1,laddr=192.0.2.2,lport=22,rdomain="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "authorizedkeysfile none" in said


@inside
def test_inside_a_grants_end_ends_its_logins_and_nothing_else(host: Machine):
    """A shell, a forked daemon, tmux and what runs in it, a child of `su`; a multiplexed connection; and beside them
    another grant's, another person's by a static key, and root's, on the same account."""
    grant, other = a_grant(), a_grant()
    ended = {name: f"{70000 + at}" for at, name in enumerate(("shell", "daemon", "tmux", "mux", "nohup"))}
    kept = {name: f"{80000 + at}" for at, name in enumerate(("other", "other tmux", "static", "deploy"))}
    mine, theirs = host.certified("alice", "ubuntu", grant, 51), host.certified("bob", "ubuntu", other, 52)
    static = host.options("carol", key=OWNER)
    keys = host.folder / "home/ubuntu/.ssh/authorized_keys"
    keys.write_text(OWNER.public.line() + "\n")
    deploy = host.certified("dora", "deploy", other, 53)
    host.start(
        theirs,
        "ubuntu",
        f"TMUX_TMPDIR=~ tmux -L theirs new-session -d 'sleep {kept['other tmux']}'; sleep {kept['other']}",
    )
    host.start(static, "ubuntu", f"sleep {kept['static']}")
    host.start(deploy, "deploy", f"sleep {kept['deploy']}")
    host.start(
        mine, "ubuntu", f"TMUX_TMPDIR=~ tmux -L mine new-session -d 'sleep {ended['tmux']}'; sleep {ended['shell']}"
    )
    host.start(
        mine, "ubuntu", f"{FORKED.format(mark=ended['daemon'])}; nohup sleep {ended['nohup']} >/dev/null & sleep 1"
    )
    master = [
        *mine,
        "-o",
        f"ControlPath={host.folder}/client/%C",
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=yes",
    ]
    host.start(master, "ubuntu", f"sleep {ended['mux']}")
    logins = 6
    host.reported("login", logins)
    until(lambda: all(alive(mark) for mark in (*ended.values(), *kept.values())))
    host.end_grant(grant)
    until(lambda: not any(alive(mark) for mark in ended.values()))
    assert all(alive(mark) for mark in kept.values())
    assert host.daemon.poll() is None
    host.reported("logout", 3)
    assert {each["why"] for each in host.reports("logout")} == {"its grant ended"}
    host.end_grant(grant, other)
    until(lambda: not any(alive(kept[name]) for name in ("other", "other tmux", "deploy")))
    assert alive(kept["static"])


@inside
def test_inside_a_detached_process_is_ended_after_its_connection(host: Machine):
    """The connection is long gone when the grant ends; what stayed belongs to it all the same."""
    grant, mark = a_grant(), "70100"
    host.run(host.certified("alice", "ubuntu", grant, 61), "ubuntu", FORKED.format(mark=mark))
    host.reported("login")
    until(lambda: bool(alive(mark)))
    time.sleep(3)  # the agent has looked, and has not taken it for an end
    assert host.reports("logout") == []
    host.end_grant(grant)
    until(lambda: not alive(mark))
    assert host.reported("logout")["why"] == "its grant ended"


HOPPER = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.closerange(0, 3)
open(__file__ + ".began", "w")
fork, leave, clock, until = libc.fork, libc._exit, time.time, time.time() + {seconds}
if fork():
    leave(0)
os.setsid()
while clock() < until:
    if fork():
        leave(0)
os.execlp("sleep", "sleep", "{mark}")
"""


@inside
def test_inside_what_forks_and_exits_without_a_pause_is_ended(host: Machine):
    """It is dead before a walk over /proc comes to it, and would settle once its login counts as gone."""
    grant, mark, settled = a_grant(), "70700", host.folder / "home/deploy/hopper.py"
    settled.write_text(HOPPER.format(seconds=6, mark=mark))
    host.start(host.certified("mallory", "deploy", grant, 131), "deploy", f"python3 -I -S {settled} & sleep 70701")
    host.reported("login")
    until(settled.with_name("hopper.py.began").exists)
    host.end_grant(grant)
    assert host.reported("logout")["all_gone"]
    time.sleep(7)
    assert not alive(mark)


@inside
def test_inside_what_a_login_that_was_over_left_ends_with_its_grant(host: Machine):
    """The session is long over, and so it was said; what had hidden is found by the audit session when it settles."""
    grant, mark, settled = a_grant(), "70800", host.folder / "home/deploy/hopper.py"
    settled.write_text(HOPPER.format(seconds=3, mark=mark))
    command = f"python3 -I -S {settled} </dev/null >/dev/null 2>&1 &"
    host.run(host.certified("mallory", "deploy", grant, 132), "deploy", command)
    host.reported("login")
    until(lambda: bool(alive(mark)))
    host.end_grant(grant)
    until(lambda: not alive(mark))


@inside
def test_inside_a_login_that_is_over_in_no_time_is_known_by_its_marks(host: Machine):
    """What it leaves is found, though the agent looks every two seconds only."""
    grant, mark = a_grant(), "70900"
    host.run(
        host.certified("alice", "ubuntu", grant, 133), "ubuntu", f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &"
    )
    host.reported("login")
    time.sleep(3)
    assert alive(mark)
    host.end_grant(grant)
    until(lambda: not alive(mark))


@inside
def test_inside_what_sudo_runs_goes_too(host: Machine):
    """Debian's own sudo: its processes are root's, and their audit session is the login's."""
    install_sudo("deploy")
    grant, mark = a_grant(), "70200"
    host.start(host.certified("alice", "deploy", grant, 71), "deploy", f"{SUDO} -n setsid sleep {mark}")
    host.reported("login")
    until(lambda: any(owner(each) == 0 for each in alive(mark)))
    host.end_grant(grant)
    until(lambda: not alive(mark))


@inside
def test_inside_what_is_revoked_ends(host: Machine):
    grant, mark, stays = a_grant(), "70300", "80300"
    host.start(host.certified("alice", "ubuntu", grant, 81), "ubuntu", f"sleep {mark}")
    host.start(host.certified("bob", "ubuntu", grant, 82), "ubuntu", f"sleep {stays}")
    host.reported("login", 2)
    host.service.revoke(81)
    until(lambda: not alive(mark))
    assert host.reported("logout")["why"] == "its certificate was revoked"
    assert alive(stays)


@inside
def test_inside_the_service_names_one_login_by_id_and_port(host: Machine):
    """A login by nobody's certificate, in somebody's tunnel: ended by its id; a port alone ends nobody."""
    (host.folder / "home/ubuntu/.ssh/authorized_keys").write_text(OWNER.public.line() + "\n")
    host.start(host.options("carol", key=OWNER), "ubuntu", "sleep 70400")
    said = host.reported("login")
    assert (said["how"], said["serial"], said["key_id"]) == ("key", 0, "")
    login_id, port = str(said["id"]), int(str(said["port"]))
    host.service.revoke(ended_sessions=(EndedSession(a_grant(), port), EndedSession(login_id, port + 1)))
    time.sleep(3)
    assert alive("70400")
    host.service.revoke(ended_sessions=(EndedSession(login_id, port),))
    until(lambda: not alive("70400"))
    assert host.reported("logout")["why"] == "the service asked for it"


@inside
def test_inside_nobody_writes_a_login_for_another(host: Machine):
    """A user lays their own words into PAM's variables, into sshd's log, into syslog, and into the agent's folder."""
    grant, victim = a_grant(), a_grant()
    victims = host.certified("victim", "ubuntu", victim, 91)
    host.start(victims, "ubuntu", "sleep 80500")
    host.reported("login")
    certificate = (host.folder / "client/victim-cert.pub").read_text().strip()
    environment = host.folder / "home/deploy/.pam_environment"
    environment.write_text(f'SSH_AUTH_INFO_0 DEFAULT="publickey {certificate}"\nPAM_USER DEFAULT=ubuntu\n')
    os.chown(environment, USERS["deploy"], USERS["deploy"])
    forger = host.certified("mallory", "deploy", grant, 92)
    words = f"Accepted publickey for ubuntu from 127.0.0.1 port 1 ssh2: ED25519-CERT ID {user_key_id(grant, 'x')}"
    folder = host.folder / "agent/pam"
    attempts = [
        f"logger -t sshd '{words}'",
        f"echo x > {folder}/1.json",
        f"python3 -c 'import socket; s=socket.socket(1); s.connect(\"{folder}/wake\")'",
    ]
    host.start(forger, "deploy", f"({'; '.join(attempts)}) 2>/dev/null; sleep 70500")
    said = host.reported("login", 2)
    assert (said["login"], said["serial"], said["key_id"]) == ("deploy", 92, user_key_id(grant, "mallory"))
    environment.unlink()
    host.end_grant(grant)
    until(lambda: not alive("70500"))
    assert alive("80500")
    assert len(host.reports("login")) == 2


@inside
def test_inside_nothing_of_a_users_reaches_what_root_runs_for_a_login(host: Machine):
    """The loader of each program obeys LD_ variables: here it writes a file that only root can, beside etc. A user says
    them in every way there is, and no file comes; nor does PAM run anything of ours when a session closes."""
    owned, said = host.folder / "owned", host.folder / "said"
    owned.mkdir(mode=0o700)
    words = {"LD_DEBUG": "statistics", "LD_DEBUG_OUTPUT": str(owned / "by")}
    plain = "".join(f"{name}={value}\n" for name, value in words.items())
    home = host.folder / "home/deploy"
    (home / ".pam_environment").write_text("".join(f"{name} DEFAULT={value}\n" for name, value in words.items()))
    (home / ".ssh/environment").write_text(plain)
    own = ",".join(f'environment="{name}={value}"' for name, value in words.items())
    (home / ".ssh/authorized_keys").write_text(f"{own} {OWNER.public.line()}\n")
    file = Path("/etc/pam.d/sshd")
    before = file.read_text()
    ours, rest = before[: before.index("account")], before[before.index("account") :]
    # what pam_exec gives a program that stands where ours does
    file.write_text(f"{ours}session optional pam_exec.so quiet type=open_session log={said} /usr/bin/env -0\n{rest}")
    sent = ["-o", f"SetEnv={' '.join(f'{name}={value}' for name, value in words.items())}"]
    certified = host.certified("mallory", "deploy", a_grant(), 121)
    for at, options in enumerate((certified, [*host.options("mallory2", key=OWNER)]), 1):
        host.run([*options, *sent], "deploy", "true")
        host.reported("logout", at)
    assert list(owned.iterdir()) == []
    known = {"PAM_SERVICE", "PAM_RHOST", "PAM_USER", "PAM_TYPE", "PAM_TTY", "SSH_CONNECTION", "SSH_AUTH_INFO_0"}
    lines = [line.partition("***")[0] for line in said.read_text().replace("\0", "\n").splitlines()]
    assert "PAM_TYPE=open_session" in lines
    assert {line.partition("=")[0] for line in lines if "=" in line} <= known
    # the same line for the session's end: this machine's loader does write
    file.write_text(f"{ours}{rest}session optional pam_exec.so quiet type=close_session /bin/true\n")
    host.run(certified, "deploy", "true")
    until(lambda: list(owned.iterdir()) != [])
    file.write_text(before)
    for name in (".pam_environment", ".ssh/environment", ".ssh/authorized_keys"):
        (home / name).unlink()


@inside
def test_inside_a_line_of_an_older_form_is_mended_by_the_agent_itself(host: Machine):
    assert host.service.connected() == 2
    file = Path("/etc/pam.d/sshd")
    before = file.read_text()
    old = before.replace(" type=open_session", "")
    for text in (old, f"# somebody's\n{old}"):
        file.write_text(text)
        wanted = before.replace("account", "# somebody's\naccount", 1) if text != old else before
        until(lambda wanted=wanted: file.read_text() == wanted)  # type: ignore[misc]  # as lambdas are
    file.write_text(before)


@inside
def test_inside_what_was_left_to_come_back_by_is_said(host: Machine):
    grant = a_grant()
    ways = (
        "echo ssh-ed25519 AAAA >> ~/.ssh/authorized_keys; mkdir -p ~/.config/systemd/user; "
        "echo > ~/.config/systemd/user/back.service; touch ~/notes"
    )
    host.run(host.certified("alice", "deploy", grant, 101), "deploy", ways)
    host.reported("logout")
    host.end_grant(grant)
    said = host.reported("left_behind")
    home = host.folder / "home/deploy"
    found = {tuple(each) for each in said["items"]}  # type: ignore[attr-defined]  # a list of pairs
    assert ("key", str(home / ".ssh/authorized_keys")) in found
    assert ("user unit", str(home / ".config/systemd/user/back.service")) in found
    assert not any("notes" in where for _, where in found)
    assert (said["login"], said["key_id"]) == ("deploy", user_key_id(grant, "alice"))
    host.service.said.clear()
    time.sleep(1)
    quiet = a_grant()
    host.run(host.certified("bob", "deploy", quiet, 102), "deploy", "true")
    host.reported("logout")
    host.end_grant(quiet)
    time.sleep(3)
    assert host.reports("left_behind") == []


@inside
def test_inside_a_restart_of_the_agent_forgets_nobody(machine: Machine):
    """Last: the module's agent is beside a second one here, which is told nothing but what the file says."""
    grant, mark = a_grant(), "70600"
    machine.service.said.clear()
    machine.start(machine.certified("alice", "ubuntu", grant, 111), "ubuntu", f"sleep {mark}")
    login = machine.reported("login")
    until(lambda: str(login["id"]) in (machine.folder / "agent/logins.json").read_text())
    seen = json.loads((machine.folder / "agent/logins.json").read_text())["seen"]
    assert [each["grant"] for each in seen if each["login"]["id"] == login["id"]] == [grant]
    with machine.running():
        machine.end_grant(grant)
        until(lambda: not alive(mark))
