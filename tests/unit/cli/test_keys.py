"""Keys that are not in a plain file: with a passphrase, in an agent; and what the agent is given."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService

from jitgate.ssh.pubkey import parse_public_key_line

pytestmark = [
    pytest.mark.enable_socket,  # a service on loopback, made for these tests
    pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs the OpenSSH client: openssh-client"),
]

SignIn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def agent(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running ssh-agent, in the machine's environment."""
    path = str(tmp_path_factory.mktemp("agent") / "sock")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not os.path.exists(path):  # noqa: PTH110  # a socket of which the agent says nothing
        assert process.poll() is None
    machine.environment["SSH_AUTH_SOCK"] = path
    yield path
    process.terminate()
    process.wait()


def in_agent(path: str) -> list[str]:
    done = subprocess.run(
        ["ssh-add", "-L"], env=os.environ | {"SSH_AUTH_SOCK": path}, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()


def with_passphrase(key: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-p", "-f", key, "-P", "", "-N", "a passphrase"], check=True)
    return Path(key)


def test_a_key_in_an_agent_signs_through_ssh_keygen(
    machine: Machine, sign_in: SignIn, service: FakeService, other_key: str, agent: str
):
    subprocess.run(["ssh-add", "-q", other_key], env=os.environ | {"SSH_AUTH_SOCK": agent}, check=True)
    public = parse_public_key_line(Path(f"{other_key}.pub").read_text().strip())[0]
    Path(other_key).unlink()
    status, _, err = sign_in("--key", f"{other_key}.pub")
    assert status == 0, err
    assert service.keys == [public]
    assert machine.jitctl("vm", "connect", "web1", "--print")[0] == 0
    assert f'IdentityFile "{other_key}.pub"' in (machine.state / "ssh_config").read_text()
    assert not (machine.state / "id").exists()


def test_a_key_with_a_passphrase_signs_through_the_agent(
    sign_in: SignIn, service: FakeService, other_key: str, agent: str
):
    subprocess.run(["ssh-add", "-q", other_key], env=os.environ | {"SSH_AUTH_SOCK": agent}, check=True)
    locked = with_passphrase(other_key)
    status, _, err = sign_in("--key", str(locked))
    assert status == 0, err
    assert service.keys[0].line() == Path(f"{other_key}.pub").read_text().rpartition(" ")[0]


def test_a_key_that_cannot_sign_now_says_so_and_does_not_hang(sign_in: SignIn, other_key: str):
    locked = with_passphrase(other_key)
    status, _, err = sign_in("--key", str(locked))
    assert status == 1
    assert "ssh-keygen could not sign with" in err
    Path(f"{other_key}.pub").unlink()
    status, _, err = sign_in("--key", str(locked))
    assert status == 6
    assert f"ssh-keygen -y -f {locked} > {locked}.pub" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "holds no key"), (b"ssh-rsa AAAA", "holds no key"), (b"\xff\xfe", "holds no key"), (b"x" * 70_000, "holds")],
)
def test_a_key_file_that_is_none(sign_in: SignIn, tmp_path: Path, content: bytes, words: str):
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    status, _, err = sign_in("--key", str(file))
    assert status == 1
    assert words in err


def test_a_private_key_that_others_can_read_is_refused(sign_in: SignIn, other_key: str):
    Path(other_key).chmod(0o644)
    status, _, err = sign_in("--key", other_key)
    assert status == 1
    assert "a private key is for its owner only" in err


def test_the_agent_gets_key_and_certificate_for_as_long_as_it_lives(alice: Machine, agent: str):
    assert alice.jitctl("vm", "connect", "web1", "--print")[0] == 0
    held = in_agent(agent)
    assert [line.split()[0] for line in held] == ["ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"]
    assert not list(alice.state.glob(".agent-*"))


def test_a_logout_takes_it_from_the_agent_again_and_nothing_else(alice: Machine, agent: str, other_key: str):
    subprocess.run(["ssh-add", "-q", other_key], env=os.environ | {"SSH_AUTH_SOCK": agent}, check=True)
    assert alice.jitctl("vm", "connect", "web1", "--print")[0] == 0
    assert len(in_agent(agent)) == 3
    assert alice.jitctl("logout")[0] == 0
    assert [line.split()[1] for line in in_agent(agent)] == [Path(f"{other_key}.pub").read_text().split()[1]]


def test_a_logout_leaves_the_persons_own_key_in_the_agent(
    machine: Machine, sign_in: SignIn, other_key: str, agent: str
):
    assert sign_in("--key", other_key)[0] == 0
    assert machine.jitctl("vm", "connect", "web1", "--print")[0] == 0
    assert machine.jitctl("logout")[0] == 0
    assert [line.split()[0] for line in in_agent(agent)] == ["ssh-ed25519"]


def test_an_agent_that_is_gone_or_hangs_stops_nobody(alice: Machine, tmp_path: Path):
    alice.environment["SSH_AUTH_SOCK"] = str(tmp_path / "gone")
    assert alice.jitctl("vm", "connect", "web1", "--print")[0] == 0


def test_another_registered_key_gets_a_certificate(alice: Machine, service: FakeService, other_key: str):
    to = alice.home / "id-cert.pub"
    status, _, err = alice.jitctl("cert", "get", "web1", "--key", other_key, "-o", str(to))
    assert status == 4
    assert "is not registered to you" in err
    assert f"jitctl keys add {other_key}" in err
    assert not service.granted, "no grant for nothing"
    key = parse_public_key_line(Path(f"{other_key}.pub").read_text().strip())[0]
    service.instead["GET /v1/keys"] = lambda _: (200, {"keys": [{"fingerprint": key.fingerprint}]})
    status, out, err = alice.jitctl("cert", "get", "web1", "--key", other_key, "-o", str(to))
    assert (status, out) == (0, "")
    assert f"written to {to}" in err
    shown = subprocess.run(["ssh-keygen", "-L", "-f", str(to)], capture_output=True, text=True, check=True).stdout
    own = parse_public_key_line(Path(f"{other_key}.pub").read_text().strip())[0]
    assert own.fingerprint in shown
    assert "ubuntu@host:web1" in shown
    assert alice.jitctl("cert", "show", str(to))[0] == 0


def test_cert_get_writes_over_nothing_but_a_certificate(alice: Machine, other_key: str):
    before = Path(other_key).read_bytes()
    status, _, err = alice.jitctl("cert", "get", "web1", "-o", other_key)
    assert status == 1
    assert "exists and is no certificate" in err
    assert Path(other_key).read_bytes() == before
