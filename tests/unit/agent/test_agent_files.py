"""What an agent keeps on disk: whole at every moment, never through a link, and refused when others could write it."""

import os
import stat
from pathlib import Path

import pytest

from jitgate.agent import durable, pins
from jitgate.agent.pins import Gateway, Pins
from jitgate.agent.sshd import Sshd
from jitgate.core.errors import BadInput, Error, NotFound, Unsafe, UsageError
from jitgate.ssh.private import generate_ed25519
from jitgate.ssh.wire import FormatError

ULID = "01JD8Z5X2R8QK3N4M5P6S7T8V9"
ROOT = generate_ed25519().public
PINS = Pins(
    url="https://jit.example.com",
    installation=ULID,
    realm="default",
    host_id=ULID,
    host="web1",
    logins=("ubuntu", "deploy"),
    root=ROOT,
    tls_pin="sha256=" + "0a" * 32,
    gateways=(Gateway("jit.example.com", 443, "jit.example.com"), Gateway("2001:db8::1", 2222, "jit.example.com")),
    host_key=Path("/etc/ssh/ssh_host_ed25519_key"),
    sshd=Sshd(Path("/srv/etc"), "/usr/sbin/sshd", 'kill -HUP "$(cat /run/x)"'),
    sshd_at="127.0.0.1:22",
)


def test_what_is_written_is_read_back(tmp_path: Path):
    pins.write(tmp_path / "agent.toml", PINS)
    assert pins.read(tmp_path / "agent.toml") == PINS


def test_a_host_that_has_not_joined_is_told_so(tmp_path: Path):
    with pytest.raises(NotFound, match="has not joined"):
        pins.read(tmp_path / "agent.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("default", "De fault"),
        ('"ubuntu"', '"ubuntu\\nroot"'),
        ('"ubuntu"', '"../root"'),
        (ULID, "no-id"),
        ("https://jit", "ftp://jit"),
        ("port = 443", 'port = "443"'),
        ("port = 443", "port = 65536"),
        ('address = "jit.example.com"', 'address = "-oProxyCommand=x"'),
        ("sha256=0a", "sha256=xx"),
        ("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"),
        ('etc = "/srv/etc"', 'etc = "/srv/../etc"'),
        ('etc = "/srv/etc"', 'etc = "/srv/e tc"'),
        ('host = "web1"', 'host = "localhost"'),
        ('host = "web1"', 'host = "web1"\nmore = 1'),
        ('realm = "default"', ""),
        ("[[gateway]]", "[[gateway]"),
    ],
)
def test_settings_with_anything_else_in_them_are_refused(tmp_path: Path, old: str, new: str):
    file = tmp_path / "agent.toml"
    pins.write(file, PINS)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(Error):
        pins.read(file)


def test_settings_that_others_can_write_are_refused(tmp_path: Path):
    file = tmp_path / "agent.toml"
    pins.write(file, PINS)
    file.chmod(0o666)
    with pytest.raises(Unsafe, match="others than its owner can write"):
        pins.read(file)


def test_a_file_is_never_written_through_a_link(tmp_path: Path):
    target = tmp_path / "target"
    target.write_text("theirs")
    for link in (tmp_path / "file", tmp_path / "file.jitgate-new"):
        link.symlink_to(target)
    durable.put(tmp_path / "file", b"ours", durable.PRIVATE)
    assert target.read_text() == "theirs"
    assert durable.get(tmp_path / "file", 10) == b"ours"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_link_is_not_read(tmp_path: Path):
    (tmp_path / "target").write_text("x")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    with pytest.raises(Unsafe):
        durable.get(tmp_path / "file", 10)


def test_what_the_check_refuses_changes_nothing(tmp_path: Path):
    def refuse(path: Path) -> None:
        raise FormatError(path.read_text())

    durable.put(tmp_path / "file", b"old", durable.PUBLIC)
    with pytest.raises(FormatError, match="new"):
        durable.put(tmp_path / "file", b"new", durable.PUBLIC, check=refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert durable.get(tmp_path / "file", 10) == b"old"


def test_the_mode_is_what_was_asked_whatever_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        durable.put(tmp_path / "file", b"x", durable.PUBLIC)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("etc", ["relative", "/a b", "/a/../b", "/a;b", "/a\n"])
def test_a_folder_that_could_mean_more_in_sshds_files_is_refused(etc: str):
    with pytest.raises(UsageError):
        Sshd(Path(etc), "", "true")


def test_another_folder_needs_its_own_reload():
    with pytest.raises(UsageError, match="needs --reload"):
        Sshd(Path("/srv/etc"))


@pytest.mark.parametrize("address", ["", "-x", "a b", "a;b", "a\n", "x" * 300])
def test_a_gateway_is_an_address(address: str):
    with pytest.raises(BadInput):
        Gateway(address, 443, "x")
