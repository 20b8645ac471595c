"""Logins that jitgate alone opens: those that had no account when the host joined, and those that the owner names."""

from collections.abc import Callable, Iterator

import pytest
from tests.enroller import Enroller
from tests.interop.agents import agent, join, leave
from tests.interop.trusting import let_in_by_key, opens, tree

from jitgate.agent import jit
from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.private import generate_ed25519

OWNER = generate_ed25519()


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    """`jit1` has no account yet."""
    host = start_sshd("web1", "ubuntu", "deploy", "jit1")
    let_in_by_key(host, "ubuntu", OWNER)
    users = host.etc.parent / "passwd"
    line = next(line for line in users.read_text().splitlines() if line.startswith("jit1:"))
    users.write_text(users.read_text().replace(f"{line}\n", ""))
    (host.etc.parent / "jit1.line").write_text(f"{line}\n")
    return host


@pytest.fixture
def service(host: LocalHost) -> Iterator[Enroller]:
    with Enroller(host.etc.parent, "web1", ("ubuntu", "deploy", "jit1")) as service:
        yield service


def add_account(host: LocalHost) -> None:
    users = host.etc.parent / "passwd"
    users.write_text(users.read_text() + (host.etc.parent / "jit1.line").read_text())
    let_in_by_key(host, "jit1", OWNER)


def drop_in(host: LocalHost) -> str:
    path = host.etc / "sshd_config.d" / jit.NAME
    return path.read_text() if path.exists() else ""


def test_a_login_without_an_account_is_jitgates_alone(host: LocalHost, service: Enroller):
    before = tree(host.etc)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert drop_in(host) == ""  # whose users this sshd has, the agent cannot know: it is not the machine's own
    assert agent(host, "logins", "--only", "jit1").returncode == 0
    assert "Match User jit1\n" in drop_in(host)
    add_account(host)
    assert opens(host, "jit1", "jit1@host:web1")
    assert not opens(host, "jit1", key=OWNER)
    assert opens(host, "ubuntu", key=OWNER)  # nobody who came before is locked out
    assert leave(host).returncode == 0
    assert tree(host.etc) == before
    assert opens(host, "jit1", key=OWNER)


def test_the_owner_names_others_and_takes_it_back(host: LocalHost, service: Enroller):
    assert join(host, service).returncode == 0
    assert agent(host, "logins", "--only", "jit1").returncode == 0
    done = agent(host, "logins", "--only", "ubuntu")
    assert done.returncode == 0, done.stderr
    assert "only     jit1 ubuntu" in done.stdout
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert not opens(host, "ubuntu", key=OWNER)
    assert agent(host, "logins", "--open", "ubuntu").returncode == 0
    assert opens(host, "ubuntu", key=OWNER)
    assert agent(host, "logins", "--open", "jit1").returncode == 0
    assert drop_in(host) == ""


def test_a_match_that_stands_before_is_said_and_nothing_changes(host: LocalHost, service: Enroller):
    """sshd takes the first value: with somebody else's block before ours it would only look closed."""
    assert join(host, service).returncode == 0
    keys = host.etc.parent / "home/ubuntu/.ssh/authorized_keys"
    (host.etc / "sshd_config.d/05-other.conf").write_text(f"Match User ubuntu\n  AuthorizedKeysFile {keys}\n")
    before = drop_in(host)
    done = agent(host, "logins", "--only", "ubuntu")
    assert done.returncode == 7
    assert "not in force for ubuntu" in done.stderr
    assert drop_in(host) == before
    assert opens(host, "ubuntu", key=OWNER)


@pytest.mark.parametrize("login", ["ubuntu,root", "*", "!root", "a b", "", "root\nPermitRootLogin yes"])
def test_what_is_no_login_is_refused(host: LocalHost, service: Enroller, login: str):
    assert join(host, service).returncode == 0
    before = drop_in(host)
    assert agent(host, "logins", "--only", login).returncode != 0
    assert drop_in(host) == before
