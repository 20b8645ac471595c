"""A certificate logs in to a stock sshd, is revoked by jitctl, and is refused there with the list that is served."""

import json
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests import people
from tests.people import Person

from jitgate.app.demo.world import World, open_world
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.krl import merge, parse_krl


@pytest.fixture(scope="module")
def world(programs: Mapping[str, Path]) -> Iterator[World]:
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as opened:
        yield opened


@pytest.fixture(scope="module")
def alice(world: World) -> Person:
    return people.sign_in(world, "alice")


@pytest.fixture(scope="module")
def admin(world: World) -> Person:
    name = next(each.name for each in world.people.values() if each.admin)
    return people.sign_in(world, name)


def fetch(world: World) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whose it is, is another test's question
    url = f"{world.url.partition('#')[0]}/.well-known/jitgate/krl?realm=default"
    with urllib.request.urlopen(url, context=context if url.startswith("https") else None) as answer:
        content: bytes = answer.read()
    return content


def install(world: World, data: bytes, host: str = "web1") -> None:
    """As an operator without an agent does it: beside it, and moved over it. sshd reads it at the next login."""
    path = world.hosts[host].etc / "jitgate/krl"
    new = path.with_name("krl.new")
    new.write_bytes(data)
    new.chmod(0o644)
    new.rename(path)


def certificate(alice: Person, name: str, target: str = "ubuntu@web1") -> Path:
    path = alice.home / f"{name}-cert.pub"
    alice.jitctl("cert", "get", target, "--reason", "disk full, OPS-12", "-o", str(path))
    return path


def logs_in(alice: Person, file: Path, target: str = "ubuntu@web1") -> bool:
    login, _, name = target.partition("@")
    host = alice.world.hosts[name]
    options = {
        "CertificateFile": str(file),
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "HostKeyAlias": f"{name}.default.jitgate",
        "UserKnownHostsFile": str(alice.state / "known_hosts"),
        "GlobalKnownHostsFile": "none",
    }
    told = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    where = ["-p", str(host.port), f"{login}@{host.address}", "true"]
    done = alice.run("ssh", "-F", "none", "-i", str(alice.state / "id"), *told, *where)
    if done.returncode != 0:
        assert "Permission denied (publickey" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.fixture(scope="module", autouse=True)
def known(alice: Person) -> None:
    """What `vm connect` leaves: known_hosts with the realm's host CA."""
    alice.jitctl("vm", "connect", "ubuntu@web1", "--reason", "disk full, OPS-12", "--", "true")


def test_a_certificate_that_is_revoked_is_refused_and_the_next_one_is_not(world: World, alice: Person):
    file = certificate(alice, "first")
    install(world, fetch(world))
    assert logs_in(alice, file)
    done = alice.jitctl("revoke", "certificate", str(file), "--reason", "left on a train")
    hosts = len(world.hosts)
    assert done.stdout == f"revoked on 0/{hosts} hosts\n"
    assert "without an agent, good there until it ends" in done.stderr
    assert logs_in(alice, file)  # nobody has told the host yet
    install(world, fetch(world))
    assert not logs_in(alice, file)
    assert "revoked" in world.hosts["web1"].log_text()
    assert logs_in(alice, certificate(alice, "second"))  # under a new grant


def test_a_list_of_somebody_elses_goes_on_holding(world: World, alice: Person, tmp_path: Path):
    """Another tool revoked by key id, with ssh-keygen; ours comes beside it."""
    file = certificate(alice, "third")
    body = parse_certificate_line(file.read_text().strip()).body
    (tmp_path / "ca.pub").write_text(body.ca.line() + "\n")
    (tmp_path / "spec").write_text(f"id: {body.key_id}\n")
    theirs = tmp_path / "theirs"
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", theirs, "-s", tmp_path / "ca.pub", tmp_path / "spec"], check=True)
    install(world, fetch(world))
    assert logs_in(alice, file)
    install(world, merge([fetch(world), theirs.read_bytes()], version=1, generated=1))
    assert not logs_in(alice, file)


def test_a_key_takes_its_certificates_with_it_and_a_person_all_of_theirs(world: World, alice: Person, admin: Person):
    file = certificate(alice, "fourth")
    install(world, fetch(world))
    assert logs_in(alice, file)
    done = admin.jitctl("revoke", "person", "alice", "--yes", "--reason", "laptop stolen", "-o", "json")
    assert json.loads(done.stdout)["revocation"]["keys"] == 1
    install(world, fetch(world))
    assert not logs_in(alice, file)
    assert parse_krl(fetch(world)).keys
    done = alice.jitctl("cert", "get", "ubuntu@web1", "--reason", "disk full, OPS-12", status=3)
    assert "jitctl login" in done.stderr
    log = json.loads(admin.jitctl("audit", "--type", "revocation.made", "-o", "json").stdout)[-1]
    assert (log["subject"]["name"], log["reason"]) == ("alice", "laptop stolen")


def test_a_ca_key_takes_everything(world: World, admin: Person):
    """The host trusts the key still; the list alone refuses what it signed."""
    target = "postgres@db1"
    admin.jitctl("vm", "connect", target, "--reason", "disk full, OPS-12", "--", "true")
    file = certificate(admin, "fifth", target)
    install(world, fetch(world), "db1")
    assert logs_in(admin, file, target)
    ca = parse_certificate_line(file.read_text().strip()).body.ca
    admin.jitctl("revoke", "ca", ca.fingerprint, "--yes", "--reason", "copied")
    install(world, fetch(world), "db1")
    assert not logs_in(admin, file, target)
    assert ca.line() in (world.hosts["db1"].etc / "jitgate/user_ca.pub").read_text()


def test_a_host_that_is_revoked_is_refused_by_ssh(world: World, admin: Person):
    """Its sshd goes on with its old key and certificate, as a stolen one would."""
    host = world.hosts["db1"]
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "HostKeyAlias": "db1.default.jitgate",
        "UserKnownHostsFile": str(admin.state / "known_hosts"),
        "GlobalKnownHostsFile": "none",
        "RevokedHostKeys": str(admin.state / "revoked_host_keys"),
    }
    told = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    command = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(admin.state / "id"),
        *told,
        "-p",
        str(host.port),
        f"postgres@{host.address}",
    ]
    before = admin.run(*command, "true").stderr
    assert "Permission denied (publickey" in before, before
    admin.jitctl("revoke", "host", "db1", "--yes", "--reason", "disk was sold")
    admin.jitctl("ssh-config", "install")
    after = admin.run(*command, "true").stderr
    assert "revoked" in after.lower(), after
    assert "Permission denied" not in after
