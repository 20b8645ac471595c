"""Our line in sshd's PAM file: no variable of a user's reaches what root runs by it, and the rest stays as it is."""

from pathlib import Path

import pytest

from jitgate.agent import pam
from jitgate.core.errors import Unsafe

THEIRS = "@include common-auth\naccount required pam_nologin.so\nsession required pam_env.so user_readenv=1\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "sshd"
    found.write_text(THEIRS)
    return found


@pytest.fixture
def state(tmp_path: Path, file: Path) -> Path:
    pam._put(tmp_path / "state", file)
    return tmp_path / "state"


def old(file: Path) -> str:
    """As versions before wrote it."""
    return file.read_text().replace(" type=open_session", "").replace("-session optional pam_loginuid.so\n", "")


def test_the_line_is_for_the_opening_alone_and_first(state: Path, file: Path):
    first, audit, second, rest = file.read_text().split("\n", 3)
    assert first.startswith("# jitgate agent")
    assert audit == "-session optional pam_loginuid.so"  # else a login is told before it has what it is known by
    assert second.startswith("session optional pam_exec.so quiet type=open_session /")
    assert (rest, pam.trouble(file)) == (THEIRS, "")
    assert pam.is_installed(state, file)


@pytest.mark.parametrize("above", ["", "# somebody's\n", "session required pam_env.so user_readenv=1\n"])
def test_an_older_form_is_said_and_mended_and_taken_out_byte_for_byte(state: Path, file: Path, above: str):
    new = file.read_text()
    file.write_text(above + old(file))
    assert "may become root" in pam.trouble(file)
    assert pam.mend(state, file) == ""
    assert pam.trouble(file) == ""
    assert file.read_text() == new.replace(THEIRS, above + THEIRS)
    file.write_text(above + new.replace(" type=open_session", "").removesuffix(THEIRS) + THEIRS)
    assert pam.remove(file)
    assert file.read_text() == above + THEIRS


def test_another_agents_line_and_a_file_without_one_are_left_alone(state: Path, file: Path, tmp_path: Path):
    file.write_text(old(file))
    text = file.read_text()
    assert pam.mend(tmp_path / "another", file) == ""
    assert file.read_text() == text
    file.write_text(THEIRS)
    assert (pam.mend(state, file), file.read_text()) == ("", THEIRS)


def test_a_line_that_was_edited_is_not_guessed_at(state: Path, file: Path):
    assert pam.is_installed(state, file)
    file.write_text(file.read_text().replace("optional", "required"))
    with pytest.raises(Unsafe, match="not as jitgate made it"):
        pam.remove(file)


@pytest.mark.parametrize(
    "line",
    [
        "auth required pam_env.so user_readenv=1",
        "-auth [success=ok default=ignore] /lib/security/pam_env.so readenv=1 \\\n user_readenv=1",
    ],
)
def test_a_users_file_that_is_read_before_the_session_takes_the_line_out(state: Path, file: Path, line: str):
    """sshd has the auth stack set its credentials first: LD_PRELOAD would be there when the session opens."""
    common = file.with_name("common-auth")
    common.write_text("auth include common-auth\nauth required pam_env.so user_readenv=0\n")
    assert pam.mend(state, file) == ""
    common.write_text(common.read_text() + line + "\n")
    assert "common-auth" in pam.trouble(file)
    assert "common-auth" in pam.mend(state, file)
    assert not any(each.startswith("session optional pam_exec.so") for each in file.read_text().splitlines())
    assert not pam.is_installed(state, file)
    common.unlink()
    assert pam.mend(state, file) == ""
    assert pam.is_installed(state, file)
