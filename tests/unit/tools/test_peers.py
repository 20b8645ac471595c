"""Building peers from Go modules: what is decided around the build, with a stand-in for Go."""

import subprocess
import sys
from pathlib import Path

import pytest
from tools import bootstrap, debian, peers

GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit; fi
echo "$@" >> "{log}"
for word in "$@"; do [ "$before" = -o ] && program=$word; before=$word; done
echo "go: downloading example.com/x v1.0.0" >&2
echo "example.com/x/cmd" >&2
{end}
"""
BUILDS = 'echo "$GOMODCACHE" > "$program"; chmod 755 "$program"'


@pytest.fixture
def go_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JITGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(peers, "ON_MACHINE", ())
    return tmp_path / "log"


def put_go(go_log: Path, version: str = "1.26.1", end: str = BUILDS) -> None:
    go = go_log.with_name("go")
    go.write_text(GO.format(version=version, log=go_log, end=end))
    go.chmod(0o755)


def test_a_peer_is_built_once_and_nothing_else_is_left(go_log: Path):
    put_go(go_log)
    program = peers.build("dex")
    assert peers.build("dex") == program == peers.place("dex")
    assert len(go_log.read_text().splitlines()) == 1
    folder = program.parents[1]
    assert {path.name for path in folder.iterdir()} == {"lock", program.parent.name}
    modules = Path(program.read_text().strip())  # where Go was told to fetch to
    assert modules.is_relative_to(folder)
    assert not modules.exists()


def test_what_it_is_made_from_is_in_its_place(go_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_go(go_log)
    before = peers.place("dex")
    for name in ("go.mod", "go.sum"):
        (tmp_path / "dex").mkdir(exist_ok=True)
        (tmp_path / "dex" / name).write_bytes((peers.MODULES / "dex" / name).read_bytes())
    monkeypatch.setattr(peers, "MODULES", tmp_path)
    assert peers.place("dex") == before
    with (tmp_path / "dex" / "go.sum").open("a") as file:
        file.write("\n")
    assert peers.place("dex") != before


def test_a_build_that_fails_says_the_compilers_words_and_leaves_nothing(go_log: Path):
    put_go(go_log, end="echo 'go: the module proxy does not answer' >&2; exit 1")
    with pytest.raises(debian.MissingError, match="the module proxy does not answer"):
        peers.build("dex")
    assert not peers.place("dex").exists()
    assert [path.name for path in peers.place("dex").parents[1].iterdir()] == ["lock"]


def test_an_old_go_is_not_used(go_log: Path, monkeypatch: pytest.MonkeyPatch):
    put_go(go_log, version="1.25.9")
    installed = []

    def install(requirements: Path, _python: Path, *where: str) -> None:
        installed.append(requirements.name)
        bin_folder = Path(where[1]) / "go" / "bin"
        bin_folder.mkdir(parents=True)
        put_go(go_log)
        go_log.with_name("go").rename(bin_folder / "go")

    monkeypatch.setattr(bootstrap, "install", install)
    assert peers.build("dex").is_file()
    assert installed == ["go.txt"]


def test_an_unknown_peer_is_a_usage_error():
    done = subprocess.run(
        [sys.executable, "-m", "tools.peers", "ghost"], capture_output=True, text=True, check=False, cwd=bootstrap.ROOT
    )
    assert done.returncode == 2
    assert "dex" in done.stderr
