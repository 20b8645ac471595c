"""A secret is read when nobody but us, root and what root chose can read it."""

import os
import stat
import struct
from pathlib import Path

import pytest

from jitgate.adapters.secret_file import SECRET_MAX, read_secret, readable_by_us_alone
from jitgate.core.errors import BadInput, Error, NotFound, Unsafe


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("hunter2\n")
    return path


def test_a_secret_is_one_line(secret):
    assert read_secret(str(secret)).reveal() == "hunter2"
    assert read_secret("").reveal() == ""
    link = secret.with_name("link")
    link.symlink_to(secret)
    assert read_secret(str(link)).reveal() == "hunter2"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o602])
def test_a_secret_that_others_can_reach_is_refused(secret, mode):
    secret.chmod(mode)
    with pytest.raises(Unsafe, match="read by others"):
        read_secret(str(secret))


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"\x1b[31m", b"x" * (SECRET_MAX + 1)])
def test_what_is_no_secret_is_refused_without_its_words(secret, content):
    secret.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_secret(str(secret))
    assert "x" * 100 not in str(caught.value)


def test_what_is_no_file_is_refused(secret):
    with pytest.raises(NotFound):
        read_secret(str(secret.with_name("none")))
    os.mkfifo(secret.with_name("fifo"), 0o600)
    for other in (secret.parent, secret.with_name("fifo")):
        with pytest.raises(Error):
            read_secret(str(other))


OWNER, USER, OUR_GROUP, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF
CREDENTIAL = [(OWNER, 4, NOBODY), (USER, 4, 990), (OUR_GROUP, 0, NOBODY), (MASK, 4, NOBODY), (OTHER, 0, NOBODY)]


def found(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 100, 0, 0, 0))


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


def test_a_credential_of_systemd_is_read():
    """As systemd writes it for `User=`: root's, 0400, with an ACL that names the user; the mode then shows its mask."""
    assert readable_by_us_alone(found(0o400, 990), b"", 990, {990})
    assert readable_by_us_alone(found(0o440), acl(*CREDENTIAL), 990, {990})


@pytest.mark.parametrize(
    "entry", [(USER, 4, 991), (OUR_GROUP, 4, NOBODY), (GROUP, 4, 990), (OTHER, 4, NOBODY), (0x40, 4, 990)]
)
def test_an_acl_that_lets_anybody_else_in_is_refused(entry):
    assert not readable_by_us_alone(found(0o440), acl(*CREDENTIAL, entry), 990, {990})


@pytest.mark.parametrize("form", [b"\x02\0\0\0\0", acl(*CREDENTIAL)[:-1], b"\x03" + acl(*CREDENTIAL)[1:]])
def test_an_acl_of_another_form_is_refused(form):
    assert not readable_by_us_alone(found(0o440), form, 990, {990})


def test_a_secret_of_root_for_our_group_is_read():
    """As Kubernetes mounts it with `fsGroup`."""
    assert readable_by_us_alone(found(0o440, gid=2000), b"", 990, {990, 2000})
    assert not readable_by_us_alone(found(0o440, gid=2001), b"", 990, {990, 2000})
    assert not readable_by_us_alone(found(0o460, gid=2000), b"", 990, {990, 2000})
    assert not readable_by_us_alone(found(0o444, gid=2000), b"", 990, {990, 2000})
    assert not readable_by_us_alone(found(0o440, uid=990, gid=2000), b"", 990, {990, 2000})
    assert not readable_by_us_alone(found(0o440), b"", 0, {0})
