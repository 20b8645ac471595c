"""Our ssh config as OpenSSH itself reads it, and the one line in the person's own."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import CODE, GRANT, PASSWORD, FakeService

pytestmark = [
    pytest.mark.enable_socket,  # a service on loopback, made for these tests
    pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client: openssh-client"),
]

CONNECT = ("vm", "connect", "web1", "--print")


def ssh_sees(machine: Machine, *arguments: str) -> dict[str, list[str]]:
    """What `ssh -G` says it would do: every option with its values."""
    file = machine.home / ".ssh/config"
    done = subprocess.run(
        ["ssh", "-G", "-T", "-F", str(file), *arguments],
        env=machine.process_environment(),
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert not done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("name", ["web1", "web1.default.jitgate"])
def test_plain_ssh_knows_the_host(alice: Machine, name: str):
    assert alice.jitctl(*CONNECT)[0] == 0
    seen = ssh_sees(alice, name)
    state = alice.state
    wanted = {
        "hostname": "127.0.0.1",
        "port": "2222",
        "user": "ubuntu",
        "hostkeyalias": "web1.default.jitgate",
        "userknownhostsfile": f"{state}/known_hosts",
        "globalknownhostsfile": "/dev/null",
        "revokedhostkeys": f"{state}/revoked_host_keys",
        "stricthostkeychecking": "true",
        "identityfile": f"{state}/id",
        "identitiesonly": "yes",
        "certificatefile": f"{state}/certs/web1.default.jitgate/ubuntu.pub",
        "updatehostkeys": "false",
        "forwardagent": "no",
    }
    assert {option: seen[option][0] for option in wanted} == wanted
    assert (state / "revoked_host_keys").read_bytes() == b""


def test_other_hosts_are_left_alone(alice: Machine):
    assert alice.jitctl(*CONNECT)[0] == 0
    before = subprocess.run(
        ["ssh", "-G", "-T", "-F", "none", "other"], capture_output=True, text=True, check=True
    ).stdout
    wanted = [line for line in before.splitlines() if not line.startswith("hostname")]
    seen = ssh_sees(alice, "other")
    assert seen["hostname"] == ["other"]
    assert all(line.partition(" ")[2] in seen[line.partition(" ")[0]] for line in wanted)


def test_known_hosts_name_the_realm_never_everything(alice: Machine, service: FakeService):
    assert alice.jitctl(*CONNECT)[0] == 0
    line = f"@cert-authority *.default.jitgate {service.host_ca.public.line()}\n"
    assert (alice.state / "known_hosts").read_text() == line


def test_the_persons_config_gets_one_line_once(alice: Machine):
    own = "# mine\nHost *\n  ServerAliveInterval 30\r\n\xe4".encode("latin-1")
    config = alice.home / ".ssh/config"
    config.parent.mkdir(mode=0o700)
    config.write_bytes(own)
    config.chmod(0o644)
    for _ in range(2):
        assert alice.jitctl(*CONNECT)[0] == 0
    line = f"Include {alice.config}/ssh_config\n".encode()
    assert config.read_bytes() == line + own
    assert config.stat().st_mode & 0o777 == 0o644
    config.write_bytes(own)  # taken out: it stays out
    status, _, err = alice.jitctl(*CONNECT)
    assert status == 0
    assert "added" not in err
    assert config.read_bytes() == own
    _, out, _ = alice.jitctl("doctor")
    assert f"put this line on top of it: {line.decode().strip()}" in out


def test_a_config_that_is_a_link_stays_one(alice: Machine, tmp_path: Path):
    real = tmp_path / "dotfiles"
    real.write_text("# mine\n")
    (alice.home / ".ssh").mkdir(mode=0o700)
    (alice.home / ".ssh/config").symlink_to(real)
    assert alice.jitctl(*CONNECT)[0] == 0
    assert (alice.home / ".ssh/config").readlink() == real
    assert real.read_text().endswith("# mine\n")


def test_names_of_the_person_and_of_the_dns_are_not_taken(alice: Machine, service: FakeService):
    service.hosts += [service.host("github.com", "git"), service.host("db2", "ubuntu")]
    (alice.home / ".ssh").mkdir(mode=0o700)
    (alice.home / ".ssh/config").write_text("Host db2 other\n  HostName 192.0.2.7\n")
    assert alice.jitctl(*CONNECT)[0] == 0
    assert ssh_sees(alice, "github.com")["hostname"] == ["github.com"]
    assert ssh_sees(alice, "db2")["hostname"] == ["192.0.2.7"]
    assert ssh_sees(alice, "github.com.default.jitgate", "-l", "nobody")["hostname"] == ["127.0.0.1"]


def test_names_in_files_that_the_persons_config_includes_are_not_taken(alice: Machine, service: FakeService):
    service.hosts += [service.host("db2", "ubuntu"), service.host("db3", "ubuntu")]
    folder = alice.home / ".ssh"
    (folder / "work.d").mkdir(mode=0o700, parents=True)
    (folder / "config").write_text('Include work.d/* "~/.ssh/missing"\nInclude config\n')  # itself too
    (folder / "work.d/a").write_text("Host db2\n  HostName 192.0.2.7\nMatch all\n  Include ~/.ssh/more\n")
    (folder / "more").write_text("host=db3\n  HostName 192.0.2.8\n")
    assert alice.jitctl(*CONNECT)[0] == 0
    text = (alice.state / "ssh_config").read_text()
    assert "Host web1 web1.default.jitgate\n" in text
    assert "Host db2.default.jitgate\n" in text
    assert "Host db3.default.jitgate\n" in text
    (folder / "config").write_text(f"Include {alice.state}/ssh_config\n")  # ours, by another way
    assert alice.jitctl(*CONNECT)[0] == 0
    assert "Host web1 web1.default.jitgate\n" in (alice.state / "ssh_config").read_text()


def test_a_second_service_takes_no_name_of_the_first(alice: Machine):
    """Whoever runs it would be shown what is meant for the other's host."""
    assert alice.jitctl(*CONNECT)[0] == 0
    second = FakeService()
    second.hosts[0]["address"] = "127.0.0.66"
    second.hosts.append(second.host("other", "ubuntu"))
    login = ("login", second.url, "--name", "aaa", "--user", "alice", "--password-file", "-", "--code", CODE)
    assert alice.jitctl(*login, stdin=f"{PASSWORD}\n".encode())[0] == 0
    assert alice.jitctl(*CONNECT, "--profile", "aaa")[0] == 0
    for name in ("web1", "web1.default.jitgate"):
        seen = ssh_sees(alice, name)
        assert seen["hostname"] == ["127.0.0.1"]
        assert seen["userknownhostsfile"] == [f"{alice.state}/known_hosts"]
    assert ssh_sees(alice, "other", "-l", "nobody")["userknownhostsfile"] == [f"{alice.state.parent}/aaa/known_hosts"]
    assert alice.jitctl(*CONNECT, "--profile", "aaa")[0] == 0
    assert alice.jitctl(*CONNECT, "--profile", "default")[0] == 0
    assert ssh_sees(alice, "web1")["hostname"] == ["127.0.0.1"]
    second.stop()


def test_a_host_with_several_logins_has_no_default_one(alice: Machine, service: FakeService):
    service.hosts = [service.host("web1", "ubuntu", "deploy")]
    assert alice.jitctl(*CONNECT)[0] == 2
    status, out, _ = alice.jitctl("vm", "connect", "ubuntu@web1", "--print")
    assert status == 0
    assert " -l ubuntu " in out
    assert ssh_sees(alice, "-l", "ubuntu", "web1")["certificatefile"] == [
        f"{alice.state}/certs/web1.default.jitgate/ubuntu.pub"
    ]
    assert "certificatefile" not in ssh_sees(alice, "-l", "root", "web1")


def test_a_login_with_a_dollar_sign_is_never_run(alice: Machine, tmp_path: Path):
    """Match exec goes through the person's shell: only fixed words may stand in it."""
    assert alice.jitctl(*CONNECT)[0] == 0
    trap = tmp_path / "trap"
    for login in (f"$(touch${{IFS}}{trap})", f"`touch {trap}`", f"';touch {trap};'"):
        subprocess.run(
            ["ssh", "-G", "-F", str(alice.state / "ssh_config"), "-l", login, "web1"],
            env=alice.process_environment(),
            capture_output=True,
            check=False,
        )
    assert not trap.exists()


def test_a_fresh_certificate_starts_no_jitctl_and_an_old_one_is_renewed(alice: Machine, service: FakeService):
    assert alice.jitctl(*CONNECT)[0] == 0
    before = len(service.requests)
    ssh_sees(alice, "web1")
    assert len(service.requests) == before
    file = alice.state / f"certs/web1.default.jitgate/{GRANT}-cert.pub"
    os.utime(file, (1, 1))  # the time at which it should be renewed
    (alice.state / "certs/web1.default.jitgate/ubuntu.pub").unlink()
    ssh_sees(alice, "web1")
    asked = [request[1] for request in service.requests[before:]]
    about = "/.well-known/jitgate"  # again at the end: who has a certificate knows every host key listed before it
    assert asked == ["/v1/hosts?name=web1", about, "/v1/grants?host=web1", "/v1/certificates", about]
    assert file.stat().st_mtime > 1  # written anew
    ssh_sees(alice, "web1")
    assert len(service.requests) == before + 5


def test_plain_ssh_without_a_sign_in_says_what_to_do(alice: Machine):
    assert alice.jitctl(*CONNECT)[0] == 0
    assert alice.jitctl("logout")[0] == 0
    done = subprocess.run(
        ["ssh", "-G", "-T", "-F", str(alice.home / ".ssh/config"), "web1"],
        env=alice.process_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("jitctl: error: not signed in to ")
    assert "jitctl: hint: jitctl login " in done.stderr


def test_who_fetches_for_one_host_does_not_wait_for_another(alice: Machine, service: FakeService):
    assert alice.jitctl(*CONNECT)[0] == 0
    (alice.state / "certs/web1.default.jitgate/ubuntu.pub").unlink()
    before = len(service.requests)
    with held(alice.state / "lock"):  # somebody signs in, or connects to another one
        done = alice.start("cert", "renew", "web1.default.jitgate", "--login", "ubuntu")
        assert ("certificate" in done.communicate(timeout=30)[1], done.returncode) == (True, 0)
    (alice.state / "certs/web1.default.jitgate/ubuntu.pub").unlink()
    with held(alice.state / "certs/web1.default.jitgate/ubuntu.lock"):
        waits = alice.start("cert", "renew", "web1.default.jitgate", "--login", "ubuntu")
        with pytest.raises(subprocess.TimeoutExpired):
            waits.communicate(timeout=1)
    assert ("certificate" in waits.communicate(timeout=30)[1], waits.returncode) == (True, 0)
    assert [request[1] for request in service.requests[before:]].count("/v1/certificates") == 2


def test_a_certificate_is_there_once_the_hosts_keys_are(alice: Machine, service: FakeService):
    """Another ssh that finds it goes to the host at once: it has to know the keys that were listed meanwhile."""
    assert alice.jitctl(*CONNECT)[0] == 0
    certificate = alice.state / "certs/web1.default.jitgate/ubuntu.pub"
    certificate.unlink()
    before = len(service.requests)
    with held(alice.state / "ssh_config.lock"):
        renewing = alice.start("cert", "renew", "web1.default.jitgate", "--login", "ubuntu")
        until = time.monotonic() + 30
        while "/v1/certificates" not in [request[1] for request in service.requests[before:]]:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(subprocess.TimeoutExpired):
            renewing.communicate(timeout=0.5)
        assert not certificate.exists()
    assert (renewing.communicate(timeout=30)[1].count("error"), renewing.returncode) == (0, 0)
    assert certificate.exists()


@contextmanager
def held(lock: Path) -> Iterator[None]:
    file = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def test_a_renewal_looks_at_all_hosts_only_now_and_then(alice: Machine, service: FakeService):
    """With ten thousand of them the list is megabytes, and a renewal is a part of each ssh's start."""
    assert alice.jitctl(*CONNECT)[0] == 0

    def renewed() -> list[str]:
        (alice.state / "certs/web1.default.jitgate/ubuntu.pub").unlink()
        before = len(service.requests)
        ssh_sees(alice, "web1")
        return [request[1] for request in service.requests[before:]]

    service.hosts.append(service.host("new1", "ubuntu"))
    assert "/v1/hosts" not in renewed()
    config = alice.state / "ssh_config"
    os.utime(config, (config.stat().st_mtime - 301,) * 2)
    assert "/v1/hosts" in renewed()
    assert ssh_sees(alice, "new1", "-l", "nobody")["hostkeyalias"] == ["new1.default.jitgate"]
    service.hosts[0]["address"] = "127.0.0.9"  # this very host's is never old
    assert "/v1/hosts" in renewed()
    assert ssh_sees(alice, "web1")["hostname"] == ["127.0.0.9"]


def test_a_hundred_ssh_fetch_one_certificate(alice: Machine, service: FakeService):
    assert alice.jitctl(*CONNECT)[0] == 0
    shutil.rmtree(alice.state / "certs")
    before = len(service.requests)
    forks = [alice.start("cert", "renew", "web1.default.jitgate", "--login", "ubuntu") for _ in range(8)]
    for fork in forks:
        assert fork.communicate(timeout=30)[1].count("error") == 0
        assert fork.returncode == 0
    assert [request[1] for request in service.requests[before:]].count("/v1/certificates") == 1
