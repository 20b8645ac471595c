"""Two realms with real sshd and real ssh: a host of one takes nothing of the other, though all names are the same."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests import people
from tests.people import Person

from jitgate.agent.trust import parse
from jitgate.app import local_sshd
from jitgate.app.demo.world import World, open_world, trust_host
from jitgate.app.key_files import make_realm
from jitgate.app.local_sshd import LocalHost
from jitgate.app.operate import operate
from jitgate.policy.bundle import load_files
from jitgate.ssh.cert import parse_certificate_line

ROLE = b"""
role: web
effect: allow
who: {groups: [engineers]}
what: {labels: {tier: web}}
as: [ubuntu]
how_long: {grant: 1h, certificate: 15m}
extensions: [permit-pty]
"""
EU = ROLE.replace(b"role: web\n", b"role: web-eu\nrealm: eu\n")


@pytest.fixture(scope="module")
def world(programs: Mapping[str, Path]) -> Iterator[World]:
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as opened:
        operate(opened.settings, "policy apply", {"bundle": load_files({"web.yaml": ROLE, "eu.yaml": EU}).text})
        yield opened


@pytest.fixture(scope="module")
def eu_web1(world: World) -> Iterator[LocalHost]:
    """A host of the realm `eu` that is called web1, as one of `default` is."""
    from tests.flow.test_realms import wait_for_realm  # noqa: PLC0415  # loads the service's side

    make_realm(world.settings, "eu")
    wait_for_realm(world.settings, "eu")
    (world.folder / "eu").mkdir(mode=0o755)
    host = local_sshd.start(world.folder / "eu" / "web1", "web1", ("ubuntu",), local_sshd.find_programs())
    try:
        trust_host(world.settings, host, {"tier": "web"}, world.folder / "eu-web1.trust", realm="eu")
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="module")
def alice(world: World) -> Person:
    return people.sign_in(world, "alice")


def test_a_name_in_two_realms_is_asked_for_by_realm(world: World, eu_web1: LocalHost, alice: Person):
    asked = alice.jitctl("vm", "connect", "web1", "--", "true", status=7)
    assert "web1 stands in 2 realms: default, eu" in asked.stderr
    assert "--realm default" in asked.stderr
    listed = alice.jitctl("vm", "ls").stdout
    assert "REALM" in listed
    for realm in ("default", "eu"):
        done = alice.jitctl("vm", "connect", "web1", "--realm", realm, "--", "echo $SSH_CONNECTION")
        port = {"default": world.hosts["web1"].port, "eu": eu_web1.port}[realm]
        assert done.stdout.split()[-1] == str(port)
        assert alice.ssh(f"ubuntu@web1.{realm}.jitgate", "echo $USER").stdout == "ubuntu\n"
    known = (alice.state / "known_hosts").read_text().splitlines()
    assert {line.split()[1] for line in known} == {"*.default.jitgate", "*.eu.jitgate"}
    assert "Host web1 " not in (alice.state / "ssh_config").read_text()  # the short name is neither's alone


def test_a_certificate_of_one_realm_opens_no_host_of_the_other(world: World, eu_web1: LocalHost, alice: Person):
    for realm in ("default", "eu"):
        alice.jitctl("vm", "connect", "web1", "--realm", realm, "--", "true")
    certificates = {
        realm: next((alice.state / "certs" / f"web1.{realm}.jitgate").glob("*-cert.pub")) for realm in ("default", "eu")
    }
    hosts = {"default": world.hosts["web1"], "eu": eu_web1}
    said = {realm: parse_certificate_line(path.read_text()).body for realm, path in certificates.items()}
    assert said["default"].principals == said["eu"].principals == ("ubuntu@host:web1",)  # all that differs is the CA
    for mine, path in certificates.items():
        for theirs, host in hosts.items():
            options = ["-o", f"CertificateFile={path}", "-o", f"IdentityFile={alice.state / 'id'}"]
            options += ["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
            options += ["-o", f"UserKnownHostsFile={alice.state / 'known_hosts'}"]
            options += ["-o", f"HostKeyAlias=web1.{theirs}.jitgate", "-p", str(host.port)]
            done = alice.run("ssh", "-F", "none", *options, f"ubuntu@{host.address}", "echo in")
            opened = (done.returncode, done.stdout) == (0, "in\n")
            assert opened == (mine == theirs), (mine, theirs, done.stderr)
            if mine != theirs:
                assert "Permission denied" in done.stderr
        # and no host shows itself as one of the other realm
        other = next(realm for realm in hosts if realm != mine)
        options = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={alice.state / 'known_hosts'}"]
        options += ["-o", f"HostKeyAlias=web1.{other}.jitgate", "-p", str(hosts[mine].port), "-o", "BatchMode=yes"]
        done = alice.run("ssh", "-F", "none", *options, f"ubuntu@{hosts[mine].address}", "true")
        assert "Host key verification failed" in done.stderr


def test_the_trust_file_of_a_realm_names_that_realm_alone(world: World, eu_web1: LocalHost):
    trust = parse((world.folder / "eu-web1.trust").read_bytes())
    published = {row["fingerprint"]: row for row in operate(world.settings, "ca ls", {})["keys"]}
    assert {published[key.fingerprint]["realm"] for key in trust.user_ca} == {"eu"}
    assert published[trust.host_certificate.body.ca.fingerprint]["realm"] == "eu"
    assert eu_web1.name == "web1"
