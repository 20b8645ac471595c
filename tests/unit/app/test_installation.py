"""A new installation: whatever the umask, nothing of it is for others, and nothing that stands is overwritten."""

import os
import stat
from pathlib import Path

import pytest

from jitgate.app.installation import make_installation, sealing_key
from jitgate.app.settings import Settings
from jitgate.core.clock import system_clock
from jitgate.core.errors import Conflict, Unsafe


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", url="https://jit.example.org:8443", listen="127.0.0.1:8443")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nothing_of_an_installation_is_for_others(tmp_path: Path, settings: Settings, umask: int):
    before = os.umask(umask)
    try:
        make_installation(tmp_path / "jitgate.toml", settings, system_clock)
    finally:
        os.umask(before)
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o700
    found = [path for path in settings.state.rglob("*") if path.is_file()]
    assert {"user_ca", "host_ca", "log", "sealing.key", "jitgate.db", "signer.toml"} <= {path.name for path in found}
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & 0o077, f"others reach {path.name}: {mode:o}"


def test_what_stands_there_is_never_overwritten(tmp_path: Path, settings: Settings):
    make_installation(tmp_path / "jitgate.toml", settings, system_clock)
    kept = {path: path.read_bytes() for path in settings.state.rglob("*") if path.is_file()}
    for config in (tmp_path / "jitgate.toml", tmp_path / "other.toml"):
        with pytest.raises(Conflict):
            make_installation(config, settings, system_clock)
    assert {path: path.read_bytes() for path in settings.state.rglob("*") if path.is_file()} == kept


def test_a_sealing_key_that_others_can_read_is_refused(tmp_path: Path, settings: Settings):
    make_installation(tmp_path / "jitgate.toml", settings, system_clock)
    assert len(sealing_key(settings).reveal()) == 32
    for mode in (0o604, 0o640, 0o644):
        (settings.state / "sealing.key").chmod(mode)
        with pytest.raises(Unsafe, match="read by others"):
            sealing_key(settings)
