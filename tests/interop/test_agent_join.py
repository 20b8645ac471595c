"""`jitgate agent join` and `leave` on a real sshd: what is proved, what is believed, and that it can be undone."""

from collections.abc import Callable, Iterator

import pytest
from tests.enroller import Enroller
from tests.interop.agents import agent, join, leave, state_of
from tests.interop.trusting import let_in_by_key, opens, tree

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
    with Enroller(host.etc.parent, "web1", ("ubuntu", "deploy")) as service:
        yield service


def test_a_host_joins_and_leaves_byte_for_byte(host: LocalHost, service: Enroller):
    before = tree(host.etc)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "probe    the sshd that listens shows the new host certificate" in done.stdout
    assert service.secret.reveal() not in done.stdout + done.stderr
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert opens(host, "ubuntu", key=OWNER)
    assert not opens(host, "ubuntu", "deploy@host:web1")
    done = leave(host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(host.etc) == before
    assert not state_of(host).exists()
    assert opens(host, "ubuntu", key=OWNER)
    assert not opens(host, "ubuntu", "ubuntu@host:web1", by_key=True)
    assert agent(host, "leave").returncode == 6


def test_a_second_run_asks_nothing_and_changes_nothing(host: LocalHost, service: Enroller):
    assert join(host, service).returncode == 0
    before = tree(host.etc.parent)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout
    assert service.joins == 1
    assert {n: t for n, t in tree(host.etc).items()} == {  # noqa: C416  # names without their folder
        n.removeprefix("etc/"): t for n, t in before.items() if n.startswith("etc/")
    }
