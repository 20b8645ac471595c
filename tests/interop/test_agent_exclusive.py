"""`jitgate agent exclusive`: nothing but jitgate opens the host, by the owner's word, and undone unless confirmed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.enroller import Enroller
from tests.interop.agents import PROGRAM, agent, join, leave, running, state_of, until
from tests.interop.test_host_beside import by_other, other_ca
from tests.interop.trusting import let_in_by_key, opens, tree, write

from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.private import generate_ed25519

OWNER = generate_ed25519()


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    host = start_sshd("web1", "ubuntu", "deploy")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


@pytest.fixture
def service(host: LocalHost) -> Iterator[Enroller]:
    with Enroller(host.etc.parent, "web1", ("ubuntu",)) as service:
        yield service


def users(host: LocalHost) -> dict[str, str]:
    """The user list of the host's sshd."""
    return {name: value for name, value in host.environment.items() if name != "PATH"}


def exclusive(host: LocalHost, *arguments: str) -> subprocess.CompletedProcess[str]:
    return agent(host, "exclusive", *arguments, environment=users(host))


def joined(host: LocalHost, service: Enroller) -> None:
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_lists_what_stops_and_stops_it_and_nothing_else(host: LocalHost, service: Enroller):
    joined(host, service)
    before = tree(host.etc)
    done = exclusive(host, "--yes", "--undo-after", "10m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"stops    ubuntu: 1 key(s) in {host.etc.parent}/home/ubuntu/.ssh/authorized_keys" in done.stdout
    assert "deploy: 1 key" not in done.stdout
    assert not opens(host, "ubuntu", key=OWNER)
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert exclusive(host, "--yes").returncode == 7
    assert exclusive(host, "--keep").returncode == 0
    assert not list(state_of(host).glob("exclusive*"))
    assert exclusive(host, "--undo").returncode == 0
    assert tree(host.etc) == before
    assert opens(host, "ubuntu", key=OWNER)


def test_without_a_yes_nothing_is_changed(host: LocalHost, service: Enroller):
    joined(host, service)
    before = tree(host.etc)
    done = exclusive(host)
    assert (done.returncode, tree(host.etc)) == (7, before)
    assert "stops    ubuntu: 1 key(s)" in done.stdout
    assert "nothing was changed" in done.stderr


def test_beside_another_ca_that_one_stops_too(host: LocalHost, service: Enroller):
    other_ca(host)
    joined(host, service)
    before = tree(host.etc)
    done = exclusive(host, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"stops    everybody: certificates of the CA keys in {host.etc}/other_ca.pub" in done.stdout
    assert not by_other(host, "ubuntu", "ubuntu")
    assert not opens(host, "ubuntu", key=OWNER)
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert exclusive(host, "--undo").returncode == 0
    assert tree(host.etc) == before
    assert by_other(host, "ubuntu", "ubuntu")


def running_as(words: str) -> list[int]:
    """Processes whose command line has these words."""
    found = []
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if each.name.isdecimal() and words in (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(
                errors="replace"
            ):
                found.append(int(each.name))
    return found


def test_unconfirmed_it_is_undone_though_who_began_it_was_killed(host: LocalHost, service: Enroller):
    """Its whole process group goes, as with a session that ends; no agent runs. A process of its own undoes it."""
    joined(host, service)
    before = tree(host.etc)
    command = [*PROGRAM, "exclusive", "--state", str(state_of(host)), "--yes", "--undo-after", "4s"]
    code = f"import subprocess,sys,time; subprocess.run({command!r}); print('begun', flush=True); time.sleep(600)"
    session = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True, env=None
    )
    assert session.stdout
    while not session.stdout.readline().startswith("begun"):
        assert session.poll() is None
    assert not opens(host, "ubuntu", key=OWNER)
    session.send_signal(signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session.pid, signal.SIGKILL)
    session.wait()
    session.stdout.close()
    until(lambda: not list(state_of(host).glob("exclusive*")))  # it goes once sshd has been reloaded
    assert tree(host.etc) == before
    assert opens(host, "ubuntu", key=OWNER)


def test_the_agent_undoes_it_where_the_watch_was_killed_too(host: LocalHost, service: Enroller):
    """As after a reboot: only what lies on the disk says that it was not confirmed."""
    joined(host, service)
    before = tree(host.etc)
    assert exclusive(host, "--yes", "--undo-after", "3s").returncode == 0
    watches = running_as(f"jitgate-undo {state_of(host)}")
    assert watches
    for pid in watches:
        os.kill(pid, signal.SIGKILL)
    time.sleep(3.5)  # the time itself is what this is about
    assert not opens(host, "ubuntu", key=OWNER)
    with running(host, service):
        assert tree(host.etc) == before
        assert opens(host, "ubuntu", key=OWNER)


def test_confirmed_it_stays_after_its_time(host: LocalHost, service: Enroller):
    joined(host, service)
    assert exclusive(host, "--yes", "--undo-after", "2s").returncode == 0
    assert exclusive(host, "--keep").returncode == 0
    time.sleep(3)  # as above
    assert not opens(host, "ubuntu", key=OWNER)
    assert leave(host).returncode == 0
    assert opens(host, "ubuntu", key=OWNER)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "PasswordAuthentication yes\nMatch User deploy\nAuthenticationMethods publickey,password\n",
            "of deploy asks for",
        ),
        ("Match User deploy\nAuthorizedKeysFile .ssh/authorized_keys\n", "not in force for deploy: AuthorizedKeysFile"),
    ],
)
def test_where_it_would_not_hold_or_lock_out_it_is_put_back(host: LocalHost, service: Enroller, text: str, reason: str):
    joined(host, service)
    write(host, "sshd_config.d/50-other.conf", text)
    before = tree(host.etc)
    done = exclusive(host, "--yes")
    assert (done.returncode, tree(host.etc)) == (1, before), done.stdout
    assert reason in done.stderr
    assert not list(state_of(host).glob("exclusive*"))


def test_a_join_may_go_on_to_it(host: LocalHost, service: Enroller):
    done = join(host, service, "--exclusive", "--yes", "--undo-after", "10m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not opens(host, "ubuntu", key=OWNER)
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert exclusive(host, "--undo").returncode == 0
