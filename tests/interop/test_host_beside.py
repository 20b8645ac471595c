"""Ours beside another CA, principals file or revocation list that a host has: both go on, neither opens more."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.interop.test_host_trust_steps import OWNER, each_step, finished
from tests.interop.trusting import KILL, apply, let_in_by_key, opens, tree, trust_of, write

from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.private import generate_ed25519

OTHER_CA = generate_ed25519()
Start = Callable[..., LocalHost]


@pytest.fixture
def host(start_sshd: Start) -> LocalHost:
    host = start_sshd("web1", "ubuntu", "deploy")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


def other_ca(host: LocalHost, more: str = "", name: str = "20-other.conf") -> None:
    """Somebody else's certificate set-up, in force."""
    write(host, "other_ca.pub", OTHER_CA.public.line() + "\n")
    write(host, f"sshd_config.d/{name}", f"TrustedUserCAKeys {host.etc}/other_ca.pub\n{more}")
    host.reload()


def other_principals(host: LocalHost) -> None:
    write(host, "other_principals/ubuntu", "web-admins\n")
    write(host, "other_principals/deploy", "deployers\n")
    other_ca(host, f"AuthorizedPrincipalsFile {host.etc}/other_principals/%u\n")


def by_other(host: LocalHost, login: str, principal: str, **how: object) -> bool:
    return opens(host, login, principal, ca=OTHER_CA, by_key=True, **how)


def check_both(host: LocalHost, theirs: str) -> None:
    """`theirs`: the principal by which the other CA opens ubuntu."""
    assert by_other(host, "ubuntu", theirs)
    assert opens(host, "ubuntu", key=OWNER)
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert opens(host, "deploy", "deploy@host:web1")
    assert not by_other(host, "ubuntu", "ubuntu@host:web1")
    assert not opens(host, "ubuntu", theirs)
    assert not opens(host, "ubuntu", "deploy@host:web1")
    assert not opens(host, "ubuntu", "ubuntu@host:db1")


def test_beside_another_ca(host: LocalHost):
    other_ca(host)
    before = tree(host.etc)
    assert by_other(host, "ubuntu", "ubuntu")
    same = trust_of(host)
    done = apply(host, same, "--beside")
    assert done.returncode == 0, done.stderr
    assert "decided  beside another set-up, which goes on" in done.stdout
    check_both(host, "ubuntu")
    again = apply(host, same, "--beside", reload="exit 1")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "done     all is in place: nothing to do")
    assert apply(host, trust_of(host), "--remove").returncode == 0
    assert tree(host.etc) == before
    assert by_other(host, "ubuntu", "ubuntu")
    assert not opens(host, "ubuntu", "ubuntu@host:web1", by_key=True)


def test_beside_another_principals_file(host: LocalHost):
    other_principals(host)
    assert apply(host, trust_of(host), "--beside").returncode == 0
    check_both(host, "web-admins")
    assert not by_other(host, "ubuntu", "ubuntu")


def test_beside_a_principals_command(host: LocalHost):
    command = host.etc.parent / "principals"
    command.write_text("#!/bin/sh\necho web-admins\n")
    command.chmod(0o755)
    other_ca(host, "AuthorizedPrincipalsCommand /bin/echo web-admins\nAuthorizedPrincipalsCommandUser nobody\n")
    assert apply(host, trust_of(host), "--beside").returncode == 0
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert not by_other(host, "ubuntu", "ubuntu@host:web1")
    theirs = "authorizedprincipalscommand /bin/echo web-admins\n"
    assert theirs in host.run_sshd("-T").stdout


def test_a_ca_for_some_connections_only(host: LocalHost):
    other_ca(host, name="99-other.conf")
    write(
        host, "sshd_config.d/99-other.conf", f"Match Address 127.0.0.0/8\nTrustedUserCAKeys {host.etc}/other_ca.pub\n"
    )
    host.reload()
    assert apply(host, trust_of(host), "--beside").returncode == 0
    check_both(host, "ubuntu")


def test_where_keys_in_files_are_off_only_ours_is_added(host: LocalHost):
    other_ca(host, "AuthorizedKeysFile none\n")
    assert not opens(host, "ubuntu", key=OWNER)
    assert apply(host, trust_of(host), "--beside").returncode == 0
    assert not opens(host, "ubuntu", key=OWNER)
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert by_other(host, "ubuntu", "ubuntu")


def test_a_key_that_is_in_a_file_of_another_login_is_not_an_authority(host: LocalHost):
    """The line names the principals: who may write one login's file gains nothing at another's."""
    other_ca(host)
    assert apply(host, trust_of(host, "ubuntu"), "--beside").returncode == 0
    assert not opens(host, "deploy", "deploy@host:web1", "ubuntu@host:web1")


def test_a_rotation_and_other_logins_beside(host: LocalHost):
    other_ca(host)
    apply(host, trust_of(host), "--beside")
    newer = generate_ed25519()
    done = apply(host, trust_of(host, "deploy", user_ca=(newer.public,)), "--beside")
    assert done.returncode == 0, done.stderr
    assert opens(host, "deploy", "deploy@host:web1", ca=newer)
    assert not opens(host, "deploy", "deploy@host:web1")
    assert not opens(host, "ubuntu", "ubuntu@host:web1", ca=newer)
    assert not (host.etc / "jitgate/authorized_keys/ubuntu").exists()
    assert by_other(host, "ubuntu", "ubuntu")


def test_a_ca_that_came_later_is_let_into_force(host: LocalHost):
    apply(host, trust_of(host), "--beside")
    other_ca(host)
    assert not by_other(host, "ubuntu", "ubuntu")
    assert apply(host, trust_of(host), "--beside").returncode == 0
    check_both(host, "ubuntu")


def test_without_leave_it_stops(host: LocalHost):
    other_ca(host)
    before = tree(host.etc)
    done = apply(host, trust_of(host), reload="exit 1")
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert "put this one beside it: --beside" in done.stderr


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("Match User deploy\nAuthorizedKeysFile /etc/keys/%u\n", "AuthorizedKeysFile is another one for deploy"),
        ('AuthorizedKeysFile "/etc/a b/%u"\n', "cannot be kept beside ours"),
    ],
)
def test_what_cannot_be_kept_stops_it(host: LocalHost, more: str, reason: str):
    other_ca(host, more)
    before = tree(host.etc)
    done = apply(host, trust_of(host), "--beside", reload="exit 1")
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert reason in done.stderr


def revoked(host: LocalHost, name: str, *lines: str) -> Path:
    """A KRL as another tool would have put it there."""
    folder = host.etc.parent
    (folder / "spec").write_text("\n".join(lines) + "\n")
    (folder / "ca.pub").write_text(OTHER_CA.public.line() + "\n")
    path = host.etc / name
    made = ["ssh-keygen", "-q", "-k", "-f", str(path), "-s", str(folder / "ca.pub"), str(folder / "spec")]
    subprocess.run(made, check=True)
    path.chmod(0o644)
    return path


def test_another_list_that_was_merged_goes_on(host: LocalHost):
    krl = revoked(host, "other_krl", "serial: 7")
    other_ca(host, f"RevokedKeys {krl}\n")
    assert not by_other(host, "ubuntu", "ubuntu", serial=7)
    before = tree(host.etc)
    done = apply(host, trust_of(host), "--beside", "--krl", str(krl), "--merged", str(krl))
    assert done.returncode == 0, done.stderr
    check_both(host, "ubuntu")
    assert not by_other(host, "ubuntu", "ubuntu", serial=7)
    assert apply(host, trust_of(host), "--remove").returncode == 0
    assert tree(host.etc) == before


@pytest.mark.parametrize(
    "line",
    [
        "RevokedKeys ETC/another\n",
        "Match User ubuntu\nRevokedKeys ETC/other_krl\n",
        "RevokedKeys ETC/other_krl # why\n",
    ],
)
def test_another_list_than_the_merged_one_stops_it(host: LocalHost, line: str):
    krl = revoked(host, "other_krl", "serial: 7")
    write(host, "another", "")
    write(host, "sshd_config.d/20-other.conf", line.replace("ETC", str(host.etc)))
    before = tree(host.etc)
    done = apply(host, trust_of(host), "--beside", "--krl", str(krl), "--merged", str(krl), reload="exit 1")
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert "revokedkeys is set already" in done.stderr


def test_killed_beside_another_ca(host: LocalHost):
    """At each step: both who came by a key, and who came by the other CA, still come in; the next run finishes."""
    other_ca(host)
    undone, trust = tree(host.etc), trust_of(host, "ubuntu")
    done = finished(host, trust, "--beside")
    seen = []
    for _ in each_step(host, KILL, trust, "--beside"):
        state = tree(host.etc, without="jitgate.work")
        if state not in seen:
            seen.append(state)
            host.reload()
            assert opens(host, "ubuntu", key=OWNER)
            assert by_other(host, "ubuntu", "ubuntu")
            way, end = (("--beside",), done) if len(seen) % 2 else (("--remove",), undone)
            assert apply(host, trust, *way).returncode == 0
            assert tree(host.etc) == end
    assert len(seen) > 8
