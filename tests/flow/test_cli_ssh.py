"""The main job with nothing stood in for: service, signer, stock sshd, stock ssh, jitctl as a process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pexpect
import pytest
from tests import people
from tests.people import Person

from jitgate.app.demo.world import World, open_world
from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.cert import parse_certificate_line

REASON = ("--reason", "disk full, OPS-12")
DIRECT = ("-o", "ProxyCommand=none")


@pytest.fixture(scope="module")
def world(programs: Mapping[str, Path]) -> Iterator[World]:
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sign_in(world: World) -> Callable[[str], Person]:
    """`sign_in("alice")`: once in a module, because a code works once."""
    return lambda name: people.sign_in(world, name)


@pytest.fixture(scope="module")
def signed_in(sign_in: Callable[[str], Person]) -> Person:
    return sign_in("alice")


@pytest.fixture
def alice(signed_in: Person, world: World) -> Iterator[Person]:
    """A home of its own for each test, in which alice is signed in and has done nothing yet."""
    with tempfile.TemporaryDirectory(prefix="jitgate-home-") as folder:
        shutil.copytree(signed_in.home, folder, dirs_exist_ok=True)
        yield Person(Path(folder), world)


def test_connect_passes_command_input_output_and_status(alice: Person):
    done = alice.jitctl(
        "vm", "connect", "ubuntu@web1", *REASON, "--", "cat; echo $USER >&2; exit 7", stdin="in", status=7
    )
    assert done.stdout == "in"
    assert done.stderr.endswith("ubuntu\n")
    assert "jitctl: connecting to web1" in done.stderr


def test_plain_ssh_goes_on_working_when_the_certificate_is_gone(alice: Person):
    """Under the grant that runs, a new certificate is fetched before ssh looks for it; nothing is asked."""
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    assert alice.ssh("ubuntu@web1", "echo $USER").stdout == "ubuntu\n"
    shutil.rmtree(alice.state / "certs")
    done = alice.ssh("ubuntu@web1.default.jitgate", "echo $USER")
    assert (done.stdout, done.stderr) == ("ubuntu\n", "")
    assert len(list(alice.state.glob("certs/*/*-cert.pub"))) == 1


def test_files_go_through(alice: Person, tmp_path: Path):
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(300_000))
    config = str(alice.home / ".ssh/config")
    for command in ((str(there), "ubuntu@web1:x"), ("ubuntu@web1:x", str(back))):
        done = alice.run("scp", "-q", "-F", config, *command)
        assert done.returncode == 0, done.stderr
    assert back.read_bytes() == there.read_bytes()


def test_a_shell_on_a_terminal(alice: Person):
    command = ["-m", "jitgate.cli", "vm", "connect", "web1", "--login", "ubuntu", *REASON]
    child = pexpect.spawn(sys.executable, command, env=alice.environment, timeout=30, encoding="utf-8")
    child.expect("connecting to web1")
    child.expect("[$#] ")
    child.sendline("tty -s && echo on a t''ty")
    child.expect("on a tty")
    child.sendline("exit 3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def test_no_ssh_without_a_grant_however_it_is_called(alice: Person):
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    for grant in json.loads(alice.jitctl("grants", "ls", "-o", "json").stdout):
        done = alice.jitctl("grants", "end", grant["id"], "--reason", "done")
        assert "hosts without an agent take it until" in done.stderr
    done = alice.ssh("ubuntu@web1", "true", status=255)
    said = "jitctl: error: a reason is required\njitctl: hint: jitctl vm connect ubuntu@web1 --reason TEXT\n"
    assert done.stderr.startswith(said)
    assert "jitctl: error: there is no ticket for this host" in done.stderr
    assert alice.jitctl("vm", "connect", "ubuntu@web1", status=4).stderr == said


def test_a_host_that_is_another_one_is_refused(alice: Person, world: World):
    """db1 answers in web1's place with its own, valid host certificate."""
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    done = alice.ssh(*DIRECT, "-p", str(world.hosts["db1"].port), "ubuntu@web1", "true", status=255)
    assert "Host key verification failed" in done.stderr or "Certificate invalid" in done.stderr


def test_a_host_that_nobody_vouches_for_is_refused_and_not_asked_about(
    alice: Person, world: World, start_sshd: Callable[..., LocalHost]
):
    """A stock sshd with a plain host key in web1's place: no first-use question, no way in."""
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    plain = start_sshd("web1", "ubuntu")
    done = alice.ssh(*DIRECT, "-p", str(plain.port), "ubuntu@web1", "true", status=255)
    assert "Host key verification failed" in done.stderr
    assert plain.host_key.split()[1] not in (alice.state / "known_hosts").read_text()
    assert world.hosts["web1"].port != plain.port


def test_the_certificate_in_the_agent_is_enough_for_other_programs(alice: Person, world: World, tmp_path: Path):
    path = str(tmp_path / "a")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not Path(path).exists():
        assert agent.poll() is None
    try:
        alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true", SSH_AUTH_SOCK=path)
        known = f"UserKnownHostsFile={alice.state}/known_hosts"
        host = world.hosts["web1"]
        options = ["-o", known, "-o", "HostKeyAlias=web1.default.jitgate", "-o", "BatchMode=yes", "-p", str(host.port)]
        done = alice.run("ssh", "-F", "none", *options, f"ubuntu@{host.address}", "echo $USER", SSH_AUTH_SOCK=path)
        assert done.stdout == "ubuntu\n"
    finally:
        agent.terminate()
        agent.wait()


def test_another_key_is_registered_certified_and_removed(alice: Person, world: World):
    key = alice.home / "id_second"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "second", "-f", str(key)], check=True)
    certificate = alice.home / "id_second-cert.pub"
    get = ("cert", "get", "ubuntu@web1", *REASON, "--key", str(key), "-o", str(certificate))
    refused = alice.jitctl(*get, status=4)
    assert "is not registered to you" in refused.stderr
    alice.jitctl("keys", "add", str(key))
    alice.jitctl(*get)
    assert parse_certificate_line(certificate.read_text().strip()).body.principals == ("ubuntu@host:web1",)
    host, known = world.hosts["web1"], alice.home / "known_hosts"
    known.write_text(f"[{host.address}]:{host.port} {host.host_key}\n")
    options = ["-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}"]
    assert alice.run("ssh", *options, "-p", str(host.port), f"ubuntu@{host.address}", "echo $USER").stdout == "ubuntu\n"
    rows = json.loads(alice.jitctl("keys", "ls", "-o", "json").stdout)
    second = next(row for row in rows if row["comment"] == "second")
    alice.jitctl("keys", "rm", second["id"], "--yes")
    alice.jitctl(*get, status=4)


def test_refused_sign_ins_say_the_same_whoever_was_named(world: World, tmp_path: Path):
    said = set()
    for name in ("bob", "nobody"):
        home = tmp_path / name
        home.mkdir()
        person = Person(home, world)
        given = ("login", world.url, "--user", name, "--password-file", "-", "--code", "000000")
        said.add(person.jitctl(*given, status=3, stdin="guess\n").stderr)
        assert not (person.state / "token").exists()
    assert len(said) == 1


def test_a_wrong_fingerprint_stops_before_anything_is_sent(world: World, tmp_path: Path):
    person = Person(tmp_path, world)
    url = world.url.partition("#")[0] + "#sha256=" + "ab" * 32
    done = person.jitctl("login", url, "--user", "alice", "--password-file", "-", "--code", "1", status=1, stdin="x\n")
    assert "is not the one you were told of" in done.stderr


def test_what_is_shown_of_hosts_doctor_and_the_log(alice: Person, sign_in: Callable[[str], Person], world: World):
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    alice.jitctl("vm", "connect", "db1", status=4)
    alice.jitctl("vm", "connect", "nowhere", status=6)
    assert alice.jitctl("vm", "ls").stdout.splitlines()[1].split()[:3] == ["web1", "ubuntu", "deploy"]
    assert "postgres@db1: not in group dba" in alice.jitctl("explain", "db1").stdout
    assert alice.jitctl("whoami").stdout.startswith("name     alice\n")
    found = alice.jitctl("doctor", status=1).stdout.splitlines()
    # The home of this test is one that ssh does not look into.
    assert [line.split(":")[0] for line in found if not line.startswith(("passed", " "))] == ["failed  plain ssh"]
    bob = sign_in("bob")
    lines = bob.jitctl("audit", "--person", "alice", "--outcome", "refused").stdout.splitlines()
    assert any("grant.refused alice host:db1" in line for line in lines)
    assert all(" alice " in line for line in lines)
    events = json.loads(bob.jitctl("audit", "--since", "1h", "-o", "json").stdout)
    assert [event["index"] for event in events] == list(range(len(events)))
    assert bob.jitctl("grants", "ls", "--everybody", "--all").stdout.count("alice") >= 1
    alice.jitctl("grants", "ls", "--everybody", status=4)
    own = json.loads(alice.jitctl("audit", "-o", "json").stdout)
    assert all("alice" in (event["actor"]["name"], event["subject"]["name"]) for event in own)
    token = bob.state / "token"
    kept = token.read_bytes()
    bob.jitctl("logout")
    token.write_bytes(kept)
    token.chmod(0o600)
    bob.jitctl("whoami", status=3)
    assert world.hosts
