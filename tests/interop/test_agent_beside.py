"""An agent on a host that has another CA, list of revoked keys and host certificate already (invariant 31)."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.enroller import Enroller
from tests.interop.agents import agent, join, leave, running, until, where
from tests.interop.test_host_beside import OTHER_CA, by_other, other_ca, revoked
from tests.interop.trusting import let_in_by_key, opens, tree, write
from tests.unit.agent.trusts import certify

from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import generate_ed25519
from jitgate.ssh.pubkey import parse_public_key_line

OWNER, BANNED = generate_ed25519(), generate_ed25519()


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    host = start_sshd("web1", "ubuntu")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


@pytest.fixture
def service(host: LocalHost) -> Iterator[Enroller]:
    with Enroller(host.etc.parent, "web1", ("ubuntu",)) as service:
        yield service


def test_another_ca_and_its_list_go_on_and_both_lists_count(host: LocalHost, service: Enroller):
    theirs = revoked(host, "other_krl", "serial: 7")
    other_ca(host, f"RevokedKeys {theirs}\n")
    before = tree(host.etc)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert opens(host, "ubuntu", "ubuntu@host:web1", serial=7)
    assert not by_other(host, "ubuntu", "ubuntu@host:web1")
    with running(host, service):
        told = service.revoke(8)
        service.wait(lambda: service.acked(told.version))
        assert not opens(host, "ubuntu", "ubuntu@host:web1", serial=8)
        assert not by_other(host, "ubuntu", "ubuntu", serial=7)
        assert by_other(host, "ubuntu", "ubuntu", serial=8)
        revoked(host, "other_krl", "serial: 9")  # their own tool makes a new one
        until(lambda: not by_other(host, "ubuntu", "ubuntu", serial=9))
        assert by_other(host, "ubuntu", "ubuntu", serial=7)
        assert not opens(host, "ubuntu", "ubuntu@host:web1", serial=8)
        theirs.unlink()  # what was merged of it stays, and it is said
        service.wait(lambda: service.problem("krl"))
        assert not by_other(host, "ubuntu", "ubuntu", serial=9)
        told = service.revoke(10)
        service.wait(lambda: service.acked(told.version))
        assert not by_other(host, "ubuntu", "ubuntu", serial=9)
    revoked(host, "other_krl", "serial: 7")
    assert leave(host).returncode == 0
    assert tree(host.etc).keys() == before.keys()
    assert not by_other(host, "ubuntu", "ubuntu", serial=7)


def test_a_text_of_revoked_keys_is_merged(host: LocalHost, service: Enroller):
    """`RevokedKeys` may name one; it may hold keys of kinds that nothing takes any more."""
    let_in_by_key(host, "ubuntu", BANNED)
    dsa = "ssh-dss AAAAB3NzaC1kc3MAAAABAQ== old"
    write(host, "banned", f"# banned\n{dsa}\n{BANNED.public.line()} who left\n\n")
    write(host, "sshd_config.d/20-other.conf", f"RevokedKeys {host.etc}/banned\n")
    host.reload()
    assert not opens(host, "ubuntu", key=BANNED)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not opens(host, "ubuntu", key=BANNED)
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert not opens(host, "ubuntu", "ubuntu@host:web1", key=BANNED)
    let_in_by_key(host, "ubuntu", OWNER)
    assert opens(host, "ubuntu", key=OWNER)


def several(host: LocalHost) -> None:
    a, b = revoked(host, "a", "serial: 1"), revoked(host, "b", "serial: 2")
    write(host, "sshd_config.d/20-other.conf", f"RevokedKeys {a}\nRevokedKeys {b}\n")


def for_some(host: LocalHost) -> None:
    write(host, "sshd_config.d/20-other.conf", f"Match User ubuntu\nRevokedKeys {revoked(host, 'a', 'serial: 1')}\n")


def missing(host: LocalHost) -> None:
    write(host, "sshd_config.d/20-other.conf", f"RevokedKeys {host.etc}/nothing\n")


def unsound(host: LocalHost) -> None:
    write(host, "a", "SSHKRL\n\0 and nothing more")
    write(host, "sshd_config.d/20-other.conf", f"RevokedKeys {host.etc}/a\n")


def before_ours(host: LocalHost) -> None:
    write(host, "sshd_config.d/05-other.conf", f"RevokedKeys {revoked(host, 'a', 'serial: 1')}\n")


def certificate_of_its_own(host: LocalHost) -> None:
    key = parse_public_key_line(host.host_key)[0]
    write(host, "other-cert.pub", certify(OTHER_CA, CertType.HOST, key, ("web1",)).line() + "\n")
    write(host, "sshd_config.d/20-other.conf", f"HostCertificate {host.etc}/other-cert.pub\n")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (several, "RevokedKeys is set more than once"),
        (for_some, "RevokedKeys is set for some connections only"),
        (missing, "cannot read"),
        (unsound, "RevokedKeys"),
        (before_ours, "not in force in general: RevokedKeys"),
        (certificate_of_its_own, "has a certificate already"),
    ],
)
def test_what_cannot_be_merged_stops_it_and_nothing_is_changed(
    host: LocalHost, service: Enroller, prepare: Callable[[LocalHost], None], reason: str
):
    prepare(host)
    before = tree(host.etc)
    done = join(host, service)
    assert (done.returncode, tree(host.etc)) == (1, before), done.stdout
    assert reason in done.stdout + done.stderr or prepare is unsound
    assert service.joins == (1 if prepare is before_ours else 0)


def test_where_one_host_key_has_a_certificate_another_is_taken(host: LocalHost, service: Enroller):
    certificate_of_its_own(host)
    path = host.etc / "ssh_host_ecdsa_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", path], check=True)
    shutil.chown(path, (host.etc / "ssh_host_ed25519_key").stat().st_uid)
    with host.config.open("a") as config:
        config.write(f"HostKey {path}\n")
    host.reload()
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.host_key
    assert service.host_key.algorithm == "ecdsa-sha2-nistp256"
    said = host.run_sshd("-T").stdout
    assert f"hostcertificate {host.etc}/other-cert.pub\n" in said


def doctor(host: LocalHost, *logins: str) -> subprocess.CompletedProcess[str]:
    """With the user list of the host's sshd."""
    options = [part for login in logins for part in ("--login", login)]
    users = {name: value for name, value in host.environment.items() if name != "PATH"}
    return agent(host, "doctor", *options, *where(host), environment=users)


def findings(host: LocalHost, *logins: str) -> str:
    return doctor(host, *logins).stdout


def test_the_doctor_says_what_sshd_really_does(host: LocalHost, service: Enroller):
    assert "stop" not in findings(host, "ubuntu")
    assert join(host, service).returncode == 0
    done = doctor(host)
    assert done.returncode == 0, done.stdout
    assert f"1 key(s) in {host.etc.parent}/home/ubuntu/.ssh/authorized_keys open it too" in done.stdout
    write(
        host,
        "sshd_config.d/99-more.conf",
        "LogLevel QUIET\nMatch User ubuntu\nForceCommand /bin/true\nAuthorizedPrincipalsFile none\n"
        "Match Address 10.0.0.0/8\nTrustedUserCAKeys none\n",
    )
    done = doctor(host)
    assert done.returncode == 1
    for words in (
        "not in force for ubuntu: authorizedprincipalsfile",
        "Match User ubuntu: authorizedprincipalsfile none at",
        "Match Address 10.0.0.0/8: trustedusercakeys none at",
        "99-more.conf line 6",
        "ubuntu: forcecommand '/bin/true': outranks a certificate's own",
    ):
        assert words in done.stdout
    (host.etc / "jitgate/krl").write_bytes(b"torn")
    assert "missing or unsound: sshd refuses every key" in findings(host)
    (host.etc / "sshd_config.d/99-more.conf").write_text("NoSuchThing yes\n")
    assert "sshd does not accept its configuration" in findings(host)


def test_whatever_users_make_of_their_file_of_keys_holds_nobody_up(host: LocalHost, service: Enroller):
    """Joining, the doctor and the preview of `exclusive` look into homes as root."""
    keys = host.etc.parent / "home/ubuntu/.ssh/authorized_keys"
    keys.unlink()
    os.mkfifo(keys)
    users = {name: value for name, value in host.environment.items() if name != "PATH"}
    done = join(host, service, environment=users)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "key(s)" not in findings(host) + agent(host, "exclusive", environment=users).stdout
    keys.unlink()
    keys.symlink_to(host.etc / "secret")
    write(host, "secret", "root:nobody's business\n")
    (host.etc / "secret").chmod(0o600)
    done = doctor(host)
    assert f"1 key(s) in {keys}" in done.stdout
    assert "business" not in done.stdout + done.stderr


def test_the_doctor_names_other_keys_files_and_ways_in(host: LocalHost):
    keys = host.etc / "keys"
    write(host, "keys/ubuntu", f"{OWNER.public.line()}\n# no key\n{BANNED.public.line()}\n")
    write(
        host,
        "sshd_config.d/20-other.conf",
        f"AuthorizedKeysFile {keys}/%u .ssh/authorized_keys\nPasswordAuthentication yes\nMaxAuthTries 3\n"
        "PerSourceMaxStartups 5\nAuthenticationMethods publickey,password\n",
    )
    said = findings(host, "ubuntu")
    assert f"ubuntu: 2 key(s) in {keys}/ubuntu open it too" in said
    assert f"ubuntu: 1 key(s) in {host.etc.parent}/home/ubuntu/.ssh/authorized_keys open it too" in said
    assert "ubuntu: passwordauthentication is on" in said
    assert "PerSourceMaxStartups 5 holds for a gateway as for one person" in said
    assert "ubuntu: authenticationmethods 'publickey,password': a certificate alone is not enough" in said
    assert "nobody-there: no such login" in findings(host, "nobody-there")
