"""Files of keys in homes, counted by root: it ends, and opens nothing that is none."""

import os
import socket
from pathlib import Path

import pytest

from jitgate.agent.doctor import count_keys

KEYS = "# who\n\nssh-ed25519 AAAA one\n  # none\nssh-ed25519 AAAA two\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "authorized_keys"


def test_keys_are_counted_also_where_a_link_leads(file: Path, tmp_path: Path):
    file.write_text(KEYS)
    (tmp_path / "link").symlink_to("again")
    (tmp_path / "again").symlink_to(file)
    assert (count_keys(file), count_keys(tmp_path / "link"), count_keys(tmp_path / "none")) == (2, 2, 0)


@pytest.mark.timeout(20)
def test_a_pipe_that_nobody_writes_to_is_no_file_of_keys(file: Path, tmp_path: Path):
    os.mkfifo(file)
    (tmp_path / "link").symlink_to(file)
    assert (count_keys(file), count_keys(tmp_path / "link")) == (0, 0)


@pytest.mark.parametrize("target", ["/dev/tty", "/dev/zero", "/proc/self/environ", "/dev/null", "/", "authorized_keys"])
def test_what_a_link_leads_to_is_not_opened_unless_it_is_a_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, target: str
):
    """To open a device may do something: a watchdog begins to count, a tape is wound back."""
    file.symlink_to(target)
    opened, real = [], os.open

    def look(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if not flags & os.O_PATH:
            opened.append(path)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", look)
    assert count_keys(file) == 0
    assert not opened


@pytest.mark.enable_socket
def test_a_socket_is_no_file_of_keys(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(file.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(file.name)
        assert count_keys(file) == 0


def test_a_file_without_end_is_left_at_some_point(file: Path):
    with file.open("wb") as stream:
        stream.write(b"ssh-ed25519 AAAA one\n")
        stream.truncate(1 << 40)
    assert count_keys(file) == 2  # the rest is one line of zeros
