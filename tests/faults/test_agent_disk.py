"""An agent whose disk is lost, full or torn: sshd has a sound revocation list at every moment, and nobody is let in
who was revoked for as long as anything of it is left."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.enroller import Enroller
from tests.interop.agents import join, log_of, running, state_of, status, until
from tests.interop.trusting import let_in_by_key, opens

from jitgate.agent.revoked import installed
from jitgate.agent.sshd import Sshd
from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.private import generate_ed25519

OWNER = generate_ed25519()


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    host = start_sshd("web1", "ubuntu")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


@pytest.fixture
def service(host: LocalHost) -> Iterator[Enroller]:
    with Enroller(host.etc.parent, "web1", ("ubuntu",)) as service:
        done = join(host, service)
        assert done.returncode == 0, done.stdout + done.stderr
        yield service


def enters(host: LocalHost, serial: int) -> bool:
    """Also: whoever came by a key before still does, which is what a list that is not sound would end."""
    assert opens(host, "ubuntu", key=OWNER)
    return opens(host, "ubuntu", "ubuntu@host:web1", serial=serial)


def revoke(service: Enroller, *serials: int) -> None:
    told = service.revoke(*serials)
    service.wait(lambda: service.acked(told.version))


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """The folder on a tmpfs of that size, with what is in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, who may mount")
    kept = path.with_name(path.name + ".kept")
    subprocess.run(["cp", "-a", path, kept], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", path], check=True)
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", path], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path) -> Path:
    """To the last byte."""
    file = path / "filler"
    with file.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):  # noqa: PT012  # until full
        while True:
            stream.write(bytes(4096))
    return file


def test_a_full_disk_under_sshd(host: LocalHost, service: Enroller):
    """The old list stays, whole; the new one is not acknowledged, and takes effect when there is room."""
    with small_disk(host.etc, "256k"), running(host, service):
        revoke(service, 7)
        filler = fill(host.etc)
        service.revoke(*range(7, 2000, 2))
        service.wait(lambda: service.problem("krl"))
        assert not service.acked(service.bundle.version)
        assert not enters(host, 7)
        assert enters(host, 9)
        assert "is the disk full" in log_of(host) or "No space left" in log_of(host)
        filler.unlink()
        service.wait(lambda: service.acked(service.bundle.version) and not service.problem("krl"))
        assert not enters(host, 9)
        assert not list(host.etc.glob(".jitgate*"))


def test_a_full_disk_under_the_state(host: LocalHost, service: Enroller):
    """What is revoked takes effect all the same; a restart, which knows less, takes nothing of it back."""
    with small_disk(state_of(host), "256k"):
        with running(host, service):
            revoke(service, 7)
            filler = fill(state_of(host))
            service.revoke(*range(7, 2000, 2))
            service.wait(lambda: service.problem("state"))
            service.wait(lambda: service.acked(service.bundle.version))
            assert not enters(host, 9)
        service.close_gateways()
        with running(host):
            until(lambda: "stopped" in log_of(host))
            assert not enters(host, 9)
            filler.unlink()
            service.open_gateways()
            service.wait(lambda: service.connected() == 2)
            service.wait(lambda: service.acked(service.bundle.version) and not service.problem("state"))
            assert not enters(host, 9)


def test_a_list_that_somebody_deletes_or_tears_is_put_back(host: LocalHost, service: Enroller):
    with running(host, service):
        revoke(service, 7)
        krl = host.etc / "jitgate/krl"
        sound = krl.read_bytes()
        krl.unlink()
        until(krl.exists)
        assert not enters(host, 7)
        krl.write_bytes(sound[:-3])
        until(lambda: krl.read_bytes() == sound)
        assert not enters(host, 7)
        krl.write_bytes(b"")
        until(lambda: krl.read_bytes() == sound)
        assert enters(host, 8)


def test_a_lost_state_folder(host: LocalHost, service: Enroller):
    """The settings beside it say whom to obey: what sshd reads stays as it was until the service is heard."""
    settings = host.etc.parent / "agent.toml"
    shutil.copy(state_of(host) / "agent.toml", settings)
    with running(host, service):
        revoke(service, 7)
    service.close_gateways()
    service.wait(lambda: service.connected() == 0)
    shutil.rmtree(state_of(host))
    state_of(host).mkdir(0o700)
    shutil.copy(settings, state_of(host) / "agent.toml")
    service.acks.clear()
    with running(host):
        until(lambda: status(host)["running"])
        assert not enters(host, 7)
        assert enters(host, 8)
        service.open_gateways()
        service.wait(lambda: service.acked(service.bundle.version) and service.acked(service.trust.version))
        assert not enters(host, 7)
        until(lambda: status(host)["problems"] == [])


def test_a_lost_state_folder_and_list_is_better_than_nobody_getting_in(host: LocalHost, service: Enroller):
    (host.etc / "jitgate/krl").unlink()
    for path in state_of(host).iterdir():
        if path.name != "agent.toml":
            path.unlink()
    service.close_gateways()
    with running(host):
        until((host.etc / "jitgate/krl").exists)
        assert enters(host, 7)
        service.open_gateways()
        service.revoke(7)
        service.wait(lambda: service.acked(service.bundle.version))
        assert not enters(host, 7)


@pytest.mark.parametrize("name", ["trust.json", "bundle.json", "certificate.pub", "krl-"])
def test_a_torn_file_of_the_state_is_as_none(host: LocalHost, service: Enroller, name: str):
    with running(host, service):
        revoke(service, 7)
    file = next(state_of(host).glob(f"{name}*"))
    file.write_bytes(file.read_bytes()[:-5])
    service.wait(lambda: service.connected() == 0)
    service.acks.clear()
    with running(host, service):
        service.wait(lambda: service.acked(service.bundle.version) and service.acked(service.trust.version))
        assert not enters(host, 7)
        assert enters(host, 8)


def test_a_state_that_was_put_back_from_a_copy_takes_nothing_back(host: LocalHost, service: Enroller):
    kept = host.etc.parent / "copy"
    shutil.copytree(state_of(host), kept)
    with running(host, service):
        revoke(service, 7)
    shutil.rmtree(state_of(host))
    shutil.copytree(kept, state_of(host))
    service.close_gateways()
    service.wait(lambda: service.connected() == 0)
    with running(host):
        until(lambda: status(host)["running"])
        assert not enters(host, 7)


def test_what_this_machines_openssh_cannot_read_never_comes_into_place(host: LocalHost, service: Enroller):
    """Its ssh-keygen is asked first: a list that its sshd does not take would keep everybody out."""
    folder = host.etc.parent / "old"
    folder.mkdir()
    (folder / "ssh-keygen").write_text("#!/bin/sh\nexit 255\n")
    (folder / "ssh-keygen").chmod(0o755)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        with running(host, service):
            service.revoke(7)
            service.wait(lambda: service.problem("krl"))
            assert not service.acked(service.bundle.version)
    assert enters(host, 7)
    assert installed(Sshd(host.etc, "sshd", "true"))
