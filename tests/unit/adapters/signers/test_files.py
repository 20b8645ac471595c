"""Invariant 29 for the keys that matter most: read only when nobody else could have read or written them."""

import os
from pathlib import Path

import pytest
from tests.unit.ca.samples import private, public

from jitgate.adapters.signers.files import (
    check_folder,
    load_key,
    load_text,
    write_key,
    write_new,
)
from jitgate.core.errors import BadInput, NotFound, Unsafe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    write_key(keys, "ca", private("user"))
    return keys


def test_a_key_is_written_for_its_owner_only_and_read_back(folder):
    assert (folder / "ca").stat().st_mode & 0o777 == 0o600
    assert load_key(folder, "ca").public == public("user")
    with pytest.raises(FileExistsError):
        write_key(folder, "ca", private("host"))


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o602, 0o601, 0o777])
def test_a_key_that_others_can_reach_is_refused(folder, mode):
    (folder / "ca").chmod(mode)
    with pytest.raises(Unsafe, match=f"has mode {mode:04o}"):
        load_key(folder, "ca")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_that_only_its_owner_can_reach_is_read(folder, mode):
    (folder / "ca").chmod(mode)
    load_key(folder, "ca")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(Unsafe, match="others can write"):
        load_key(folder, "ca")


def test_a_folder_on_a_read_only_mount_is_written_by_nobody(folder, monkeypatch):
    folder.chmod(0o1777)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, os.ST_RDONLY, 255)))
    assert check_folder(folder) == folder


def test_a_key_of_another_user_is_refused(folder, monkeypatch):
    if os.geteuid() == 0:
        os.chown(folder / "ca", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Unsafe, match="belongs to uid"):
        load_key(folder, "ca")


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Unsafe, match="belongs to uid"):
        check_folder(folder)


def test_a_secret_as_kubernetes_mounts_it_is_read(folder):
    version = folder / "..2026"
    version.mkdir(mode=0o700)
    (folder / "ca").rename(version / "ca")
    (folder / "..data").symlink_to("..2026")
    (folder / "ca").symlink_to("..data/ca")
    assert load_key(folder, "ca").public == public("user")


@pytest.mark.parametrize("target", ["../elsewhere", "/etc/shadow"])
def test_a_link_out_of_the_folder_is_refused(folder, target):
    write_key(folder.parent, "elsewhere", private("host"))
    (folder / "link").symlink_to(target)
    with pytest.raises(Unsafe, match="leads out"):
        load_key(folder, "link")


def test_what_is_no_key_file_is_refused_without_waiting(folder):
    os.mkfifo(folder / "pipe", 0o600)
    (folder / "sub").mkdir(mode=0o700)
    write_new(folder / "text", b"hello")
    write_new(folder / "big", b"-" * 100_000)
    with pytest.raises(Unsafe, match="not a file"):
        load_key(folder, "pipe")
    with pytest.raises(Unsafe, match="not a file"):
        load_key(folder, "sub")
    with pytest.raises(BadInput):
        load_key(folder, "text")
    with pytest.raises(BadInput, match="100000 bytes"):
        load_key(folder, "big")
    with pytest.raises(NotFound):
        load_key(folder, "nothing")
    with pytest.raises(NotFound):
        load_key(folder / "nowhere", "ca")


def test_rules_may_be_read_by_others_but_not_written(folder):
    path = folder / "signer.toml"
    write_new(path, b"text")
    path.chmod(0o644)
    assert load_text(path, 100) == "text"
    path.chmod(0o664)
    with pytest.raises(Unsafe):
        load_text(path, 100)
