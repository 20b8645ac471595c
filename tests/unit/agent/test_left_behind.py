"""What a login left to come back by, looked for by root in folders that its user arranged: nothing there stops the
agent, hides another thing, or makes a report that the service refuses."""

import os
from pathlib import Path
from pwd import struct_passwd

import pytest

from jitgate.agent.left_behind import changed
from jitgate.core.clock import system_clock
from jitgate.hosts.host_login import ITEMS_MAX, LeftBehind, make_report, take_report

ULID = "01JD8Z5X2R8QK3N4M5P6S7T8V9"
BACK = ".config/systemd/user/back.service"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/.config/systemd/user").mkdir(parents=True)
    (tmp_path / "home/.ssh").mkdir()
    return tmp_path / "home"


def found(home: Path) -> list[tuple[str, str]]:
    """As the service reads it."""
    account = struct_passwd(("ubuntu", "x", os.getuid(), os.getgid(), "", str(home), "/bin/sh"))
    items = tuple(changed(account, 0, (home / ".ssh/authorized_keys",), root=home.parent))
    said = take_report(make_report(LeftBehind(ULID, "ubuntu", "", system_clock(), items)))
    assert isinstance(said, LeftBehind)
    return list(said.items)


@pytest.mark.parametrize("name", [".config", ".ssh"])
def test_a_link_that_cannot_be_followed_stops_nothing(home: Path, name: str):
    (home / name).rename(home / "away")
    (home / name).symlink_to("x" * 300)  # too long for any name: no ENOENT, but an error of its own
    (home.parent / "etc/sudoers.d").mkdir(parents=True)
    (home.parent / "etc/sudoers.d/back").touch()
    assert ("sudo", str(home.parent / "etc/sudoers.d/back")) in found(home)


@pytest.mark.parametrize("name", [b"a\nb.service", b"\xff.service", b"\x1b[2J", b"\xe2\x80\xae.service"])
def test_a_name_that_cannot_be_shown_hides_nothing(home: Path, name: bytes):
    (home / BACK).touch()
    os.close(os.open(os.fsencode(home / ".config/systemd/user") + b"/" + name, os.O_CREAT))
    said = found(home)
    assert ("user unit", str(home / BACK)) in said
    assert len(said) == 2


def test_many_files_of_ones_own_hide_nothing_else(home: Path):
    for count in range(4 * ITEMS_MAX):
        (home / f".config/systemd/user/{count:0200}.service").touch()
    (home / ".ssh/authorized_keys").touch()
    (home.parent / "etc").mkdir()
    (home.parent / "etc/sudoers").touch()
    said = found(home)
    assert ("sudo", str(home.parent / "etc/sudoers")) in said
    assert ("key", str(home / ".ssh/authorized_keys")) in said
    assert any("more" in where for kind, where in said if kind == "user unit")


def test_a_deep_or_endless_tree_is_left_at_some_point(home: Path, monkeypatch: pytest.MonkeyPatch):
    deep = home / ".config/systemd/user"
    deep.joinpath(*"d" * 60).mkdir(parents=True)
    looked, scandir = [], os.scandir

    def look(path: Path) -> object:
        looked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)
    (home / ".config/autostart").mkdir()
    (home / ".config/autostart/back").touch()
    assert ("autostart", str(home / ".config/autostart/back")) in found(home)
    assert len(looked) < 10


def test_a_link_out_of_the_home_is_named_and_one_within_is_followed(home: Path):
    (home / ".config").rename(home / "dotfiles")
    (home / ".config").symlink_to("dotfiles")
    (home / "dotfiles/systemd/user/back.service").touch()
    assert ("user unit", str(home / "dotfiles/systemd/user/back.service")) in found(home)
    (home / ".config").unlink()
    (home / ".config").symlink_to("/etc")
    said = found(home)
    assert ("user unit: a link that leads elsewhere", str(home / ".config")) in said
    assert not any(where.startswith("/etc") for _, where in said)
