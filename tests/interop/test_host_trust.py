"""`jitgate host trust` on a real sshd: who gets in, what it refuses to touch, and that it can be undone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.interop.trusting import apply, let_in_by_key, opens, ssh, tree, trust_of, write
from tests.unit.agent.trusts import USER_CA, certify

from jitgate.agent.script import render
from jitgate.agent.trust import dump
from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import generate_ed25519
from jitgate.ssh.pubkey import parse_public_key_line

STRANGER = generate_ed25519()
Start = Callable[..., LocalHost]


@pytest.fixture
def host(start_sshd: Start) -> LocalHost:
    return start_sshd("web1", "ubuntu", "deploy")


def test_only_the_hosts_own_principals_open_it(host: LocalHost):
    done = apply(host, trust_of(host))
    assert done.returncode == 0, done.stderr
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert opens(host, "deploy", "ubuntu@host:db1", "deploy@host:web1")
    assert not opens(host, "ubuntu", "deploy@host:web1")
    assert not opens(host, "ubuntu", "ubuntu@host:db1")
    assert not opens(host, "ubuntu", "ubuntu")
    assert not opens(host, "ubuntu", "ubuntu@host:web1", ca=STRANGER)


def test_a_login_that_is_not_in_the_file_is_not_opened(host: LocalHost):
    assert apply(host, trust_of(host, "deploy")).returncode == 0
    assert not opens(host, "ubuntu", "ubuntu@host:web1", "ubuntu", "deploy@host:web1")


def test_what_let_people_in_before_still_does_at_every_stage(host: LocalHost):
    let_in_by_key(host, "ubuntu", STRANGER)
    assert opens(host, "ubuntu", key=STRANGER)
    for arguments in ((), (), ("--remove",)):
        assert apply(host, trust_of(host), *arguments).returncode == 0
        assert opens(host, "ubuntu", key=STRANGER)


def test_removed_it_opens_to_no_certificate(host: LocalHost):
    assert apply(host, trust_of(host)).returncode == 0
    assert apply(host, trust_of(host), "--remove").returncode == 0
    assert not opens(host, "ubuntu", "ubuntu@host:web1", "ubuntu", by_key=True)


def test_remove_restores_the_folder_byte_for_byte(host: LocalHost):
    before = tree(host.etc)
    assert apply(host, trust_of(host)).returncode == 0
    assert tree(host.etc) != before
    assert apply(host, trust_of(host), "--remove").returncode == 0
    assert tree(host.etc) == before
    done = apply(host, trust_of(host), "--remove")
    assert (done.returncode, tree(host.etc)) == (0, before)
    assert "nothing of jitgate to undo" in done.stdout


def test_a_drop_in_folder_of_its_own_making_goes_too(host: LocalHost):
    (host.etc / "sshd_config.d").rmdir()
    before = tree(host.etc)
    assert apply(host, trust_of(host)).returncode == 0
    assert apply(host, trust_of(host, "deploy")).returncode == 0
    assert apply(host, trust_of(host, "deploy"), "--remove").returncode == 0
    assert tree(host.etc) == before


def test_a_drop_in_folder_with_other_files_stays(host: LocalHost):
    (host.etc / "sshd_config.d").rmdir()
    assert apply(host, trust_of(host)).returncode == 0
    write(host, "sshd_config.d/50-other.conf", "X11Forwarding no\n")
    before = tree(host.etc)["sshd_config.d/50-other.conf"]
    done = apply(host, trust_of(host), "--remove")
    assert done.returncode == 0
    assert "sshd_config.d stays" in done.stdout
    assert tree(host.etc)["sshd_config.d/50-other.conf"] == before


def test_the_second_run_changes_nothing(host: LocalHost):
    same = trust_of(host)
    apply(host, same)
    before = {path: path.lstat() for path in host.etc.rglob("*")}
    done = apply(host, same, reload="exit 1")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done     all is in place: nothing to do")
    assert {path: (s.st_ino, s.st_mtime_ns) for path, s in before.items()} == {
        path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in host.etc.rglob("*")
    }


def test_a_newer_file_updates_and_keeps_what_is_revoked(host: LocalHost):
    before = tree(host.etc)
    apply(host, trust_of(host))
    revoke(host, serial=7)
    assert not opens(host, "deploy", "deploy@host:web1", serial=7)
    newer = trust_of(host, "deploy", user_ca=(USER_CA.public, STRANGER.public))
    assert apply(host, newer).returncode == 0
    assert opens(host, "deploy", "deploy@host:web1", ca=STRANGER)
    assert opens(host, "deploy", "deploy@host:web1", serial=8)
    assert not opens(host, "deploy", "deploy@host:web1", serial=7)
    assert not opens(host, "ubuntu", "ubuntu@host:web1")
    assert apply(host, newer, "--remove").returncode == 0
    assert tree(host.etc) == before


def revoke(host: LocalHost, serial: int) -> None:
    """Replaces the KRL on the host by one that ssh-keygen made."""
    folder = host.etc.parent
    (folder / "ca.pub").write_text(USER_CA.public.line() + "\n")
    (folder / "revoked").write_text(f"serial: {serial}\n")
    krl = host.etc / "jitgate/krl"
    made = ["ssh-keygen", "-q", "-k", "-f", str(folder / "new"), "-s", str(folder / "ca.pub"), str(folder / "revoked")]
    subprocess.run(made, check=True)
    (folder / "new").chmod(0o644)
    (folder / "new").rename(krl)


def test_the_first_revocation_list_is_a_valid_empty_one(host: LocalHost):
    apply(host, trust_of(host))
    shown = subprocess.run(
        ["ssh-keygen", "-Q", "-l", "-f", str(host.etc / "jitgate/krl")], capture_output=True, text=True, check=True
    )
    assert [line for line in shown.stdout.splitlines() if line and not line.startswith("#")] == []
    (host.etc.parent / "key.pub").write_text(STRANGER.public.line() + "\n")
    asked = ["ssh-keygen", "-Q", "-f", str(host.etc / "jitgate/krl"), str(host.etc.parent / "key.pub")]
    assert subprocess.run(asked, check=False, capture_output=True).returncode == 0


def test_a_folder_that_somebody_took_away_is_mended(host: LocalHost):
    """The drop-in alone makes sshd refuse every key: the one state in which nobody gets in."""
    let_in_by_key(host, "ubuntu", STRANGER)
    apply(host, trust_of(host))
    (host.etc / "jitgate").rename(host.etc.parent / "taken")
    assert not opens(host, "ubuntu", key=STRANGER)
    assert apply(host, trust_of(host)).returncode == 0
    assert opens(host, "ubuntu", key=STRANGER)
    (host.etc / "jitgate").rename(host.etc.parent / "taken again")
    assert apply(host, trust_of(host), "--remove").returncode == 0
    assert opens(host, "ubuntu", key=STRANGER)


def test_check_says_what_would_be_done_and_does_nothing(host: LocalHost):
    before = tree(host.etc)
    done = apply(host, trust_of(host), "--check", reload="exit 1")
    assert (done.returncode, tree(host.etc)) == (0, before)
    assert f"would    install {host.etc}/sshd_config.d/10-jitgate.conf" in done.stdout


def main_file(host: LocalHost, *, first: str = "", last: str = "", include: str | None = None) -> None:
    text = host.config.read_text()
    line = f"Include {host.etc}/sshd_config.d/*.conf"
    assert line in text
    host.config.write_text(first + text.replace(line, line if include is None else include) + last)


def other_certificate(host: LocalHost, *, same_key: bool) -> None:
    """A HostCertificate by another CA: for the host's only key, or for a second key beside it."""
    key = parse_public_key_line(host.host_key)[0]
    if not same_key:
        path = host.etc / "ssh_host_ecdsa_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(path)], check=True)
        shutil.chown(path, (host.etc / "ssh_host_ed25519_key").stat().st_uid)
        key = parse_public_key_line(path.with_suffix(".pub").read_text())[0]
        main_file(host, last=f"HostKey {path}\n")
    write(host, "other-cert.pub", certify(STRANGER, CertType.HOST, key, ("web1",)).line() + "\n")
    write(host, "sshd_config.d/20-other.conf", f"HostCertificate {host.etc}/other-cert.pub\n")


def drop_in(text: str, name: str = "20-other.conf") -> Callable[[LocalHost], None]:
    return lambda host: write(host, f"sshd_config.d/{name}", text.replace("ETC", str(host.etc)))


def included(host: LocalHost) -> None:
    write(host, "more/a.conf", "X11Forwarding no\n\n  authorizedprincipalsfile=/etc/ssh/p/%u\n")
    drop_in("# other\nInclude ETC/more/*.conf\n")(host)


def linked(host: LocalHost) -> None:
    (host.etc.parent / "elsewhere").mkdir()
    (host.etc / "jitgate").symlink_to(host.etc.parent / "elsewhere")


IN_THE_WAY: Mapping[str, tuple[Callable[[LocalHost], None], str]] = {
    "another CA": (drop_in("TrustedUserCAKeys /etc/ssh/ca.pub\n"), "20-other.conf line 1"),
    "written otherwise": (drop_in('\n\t"trustedUSERcaKeys" = /etc/ssh/ca.pub\r\n'), "20-other.conf line 2"),
    "explicitly none": (drop_in("TrustedUserCAKeys none\n", "00-a.conf"), "00-a.conf line 1"),
    "another KRL, in the main file": (lambda h: main_file(h, first="RevokedKeys /etc/krl\n"), "sshd_config line 1"),
    "principals for some": (
        lambda h: main_file(h, last="Match Address 10.0.0.0/8\n AuthorizedPrincipalsFile none\n"),
        "authorizedprincipalsfile is set already",
    ),
    "principals two includes away": (included, "more/a.conf line 3"),
    "a principals command": (
        drop_in("AuthorizedPrincipalsCommand /bin/true\nAuthorizedPrincipalsCommandUser nobody\n"),
        "authorizedprincipalscommand is set already",
    ),
    "another certificate for the host key": (
        lambda h: other_certificate(h, same_key=True),
        "20-other.conf line 1",
    ),
    "no Include": (lambda h: main_file(h, include=""), "does not include"),
    "Include of one other file": (lambda h: main_file(h, include=f"Include {h.etc}/sshd_config.d/5*.conf"), "include"),
    "Include inside of Match": (
        lambda h: main_file(h, include="", last=f"Match User ubuntu\nInclude {h.etc}/sshd_config.d/*.conf\n"),
        "outside of Match",
    ),
    "an Include that cannot be followed": (
        lambda h: main_file(h, last=f'Include "{h.etc}/a b/*.conf"\n'),
        "cannot follow the Include",
    ),
    "no keys for one login": (
        lambda h: main_file(h, last="Match User deploy\nPubkeyAuthentication no\n"),
        "PubkeyAuthentication is off for deploy",
    ),
    "CA algorithm not taken": (
        drop_in("CASignatureAlgorithms rsa-sha2-512\n"),
        "no certificate that is signed by ssh-ed25519",
    ),
    "sshd does not start": (drop_in("NoSuchThing yes\n"), "does not accept its configuration as it is"),
    "a drop-in of our name": (drop_in("X11Forwarding no\n", "10-jitgate.conf"), "not as jitgate made it"),
    "a folder of our name": (lambda h: write(h, "jitgate/krl", "x"), "jitgate/krl is not as jitgate made it"),
    "a folder of our name elsewhere": (linked, "is not a folder"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_in_the_way_is_named_and_left_alone(host: LocalHost, case: str):
    prepare, reason = IN_THE_WAY[case]
    prepare(host)
    before = tree(host.etc)
    for arguments in ((), ("--check",)):
        done = apply(host, trust_of(host), *arguments, reload="exit 1")
        assert (done.returncode, tree(host.etc)) == (1, before)
        assert reason in done.stderr


def test_a_certificate_for_another_host_key_is_not_in_the_way(host: LocalHost):
    other_certificate(host, same_key=False)
    assert apply(host, trust_of(host)).returncode == 0
    assert opens(host, "ubuntu", "ubuntu@host:web1")


def test_a_trust_file_for_another_machine_is_refused(host: LocalHost, start_sshd: Start):
    done = apply(host, trust_of(start_sshd("db1", "ubuntu")))
    assert (done.returncode, "none of this host's" in done.stderr) == (1, True)
    assert not (host.etc / "jitgate").exists()


def test_an_ended_host_certificate_is_refused(host: LocalHost):
    assert "has ended" in apply(host, trust_of(host, lasts=-1)).stderr
    assert not (host.etc / "jitgate").exists()


def test_a_second_realm_is_refused_and_cannot_undo_the_first(host: LocalHost):
    assert apply(host, trust_of(host)).returncode == 0
    before = tree(host.etc)
    for arguments in ((), ("--remove",)):
        done = apply(host, trust_of(host, realm="other"), *arguments)
        assert (done.returncode, tree(host.etc)) == (1, before)
        assert "another realm already: default" in done.stderr


@pytest.mark.parametrize(
    "name", ["jitgate/user_ca.pub", "jitgate/principals/ubuntu", "jitgate/extra", "jitgate/.extra"]
)
def test_a_changed_file_is_never_overwritten_or_removed(host: LocalHost, name: str):
    apply(host, trust_of(host))
    write(host, name, STRANGER.public.line() + "\n")
    before = tree(host.etc)
    for arguments in ((), ("--remove",)):
        done = apply(host, trust_of(host), *arguments)
        assert (done.returncode, tree(host.etc)) == (1, before)
        assert f"{name} is not as jitgate made it" in done.stderr


def test_what_came_in_the_way_later_is_reported_by_check(host: LocalHost):
    apply(host, trust_of(host))
    main_file(host, last="Match User ubuntu\nAuthorizedPrincipalsFile none\n")
    done = apply(host, trust_of(host), "--check")
    assert done.returncode == 1
    assert "authorizedprincipalsfile is set already" in done.stderr


def test_what_the_owner_should_know_is_noted(host: LocalHost):
    main_file(host, last="Match User deploy\nForceCommand /bin/true\nAuthenticationMethods publickey,password\n")
    done = apply(host, trust_of(host, "deploy", "nobody-there"), "--check", environment=host.environment)
    assert done.returncode == 0
    assert [
        line for line in done.stdout.splitlines() if line.startswith("note     deploy") or "nobody-there:" in line
    ] == [
        "note     deploy: outranks a certificate's own: ForceCommand /bin/true",
        "note     deploy: AuthenticationMethods publickey,password",
        "note     nobody-there: no such login on this host yet",
    ]


def test_the_command_does_what_the_script_does(host: LocalHost):
    file = host.etc.parent / "web1.trust"
    file.write_text(dump(trust_of(host)))
    code = "from jitgate.app.commands.host_trust import host_trust; host_trust()"
    options = ["--etc", str(host.etc), "--sshd", str(host.own_sshd()), "--reload", host.reload_command()]
    done = subprocess.run([sys.executable, "-c", code, str(file), *options], check=False)
    assert done.returncode == 0
    assert opens(host, "ubuntu", "ubuntu@host:web1")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_coreutils_sshd_and_ssh_keygen_are_all_it_needs(host: LocalHost, programs: Mapping[str, Path], shell: str):
    folder = host.etc.parent / "only"
    folder.mkdir()
    for name in "cat chmod cp date id mkdir mv rm rmdir sha256sum sync tr sh".split():  # noqa: SIM905  # reads better
        (folder / name).symlink_to(Path("/bin") / name)
    (folder / "ssh-keygen").symlink_to(programs["ssh-keygen"])
    before, line, after = render(trust_of(host)).partition("PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin\n")
    assert line
    script = f"{before}PATH={folder}\n{after}"
    path = f"PATH={os.environ['PATH']}; {host.reload_command()}"
    for arguments in ((), (), ("--remove",)):
        done = apply(host, script, *arguments, shell=f"/bin/{shell}", reload=path)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_ended_host_certificate_keeps_nobody_out_who_knows_the_key(host: LocalHost):
    assert apply(host, trust_of(host)).returncode == 0
    ended = trust_of(host, lasts=-1).host_certificate
    (host.etc / "jitgate/host-cert.pub").write_text(ended.line() + "\n")
    host.reload()
    assert opens(host, "ubuntu", "ubuntu@host:web1", by_key=True)
    assert "Certificate invalid: expired" in ssh(host, "ubuntu", "ubuntu@host:web1").stderr
