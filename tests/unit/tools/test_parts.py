"""Fetching programs without installing them: what is decided before anything is fetched."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from tools import debian, parts


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JITGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tree(folder: Path, *programs: str) -> Path:
    for name in programs:
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n')
        program.chmod(0o755)
    return folder


def test_a_program_of_the_machine_is_used_and_nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "unpacked", pytest.fail)
    monkeypatch.setenv("PATH", str(tree(tmp_path, "ssh")))
    assert parts.find(["ssh"]) == {"ssh": tmp_path / "ssh"}


def test_an_unpacked_program_runs_with_its_own_libraries(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library = "usr/lib/x86_64-linux-gnu/libown.so.1"
    folder = tree(tmp_path / "a tree", "usr/bin/ssh", library)
    monkeypatch.setattr(parts, "unpacked", lambda _packages: folder)
    monkeypatch.setattr(parts, "_on_machine", lambda _part, _name: None)
    program = parts.find(["ssh"])["ssh"]
    assert program.is_relative_to(cache)
    said = subprocess.run([program, "-x", "a b"], capture_output=True, text=True, check=True, env={}).stdout
    assert said == f"{folder}/usr/lib/x86_64-linux-gnu -x a b\n"


def test_sshd_is_told_where_its_other_halves_are(tmp_path: Path):
    folder = tree(tmp_path, "usr/sbin/sshd", "usr/lib/openssh/sshd-session", "usr/lib/openssh/sshd-auth")
    last = parts.start_script(folder / "usr/sbin/sshd", folder).splitlines()[-1]
    halves = {"SshdSessionPath": "sshd-session", "SshdAuthPath": "sshd-auth"}
    assert shlex.split(last)[2:-1] == [f"-o{name}={folder}/usr/lib/openssh/{half}" for name, half in halves.items()]
    (folder / "usr/lib/openssh/sshd-auth").unlink()
    assert "SshdAuthPath" not in parts.start_script(folder / "usr/sbin/sshd", folder)


def test_what_is_unpacked_is_not_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch):
    fetched = []

    def fetch(_packages: object, folder: Path) -> Path:
        fetched.append(tree(folder / "some_1.0", "usr/bin/some"))
        return fetched[-1]

    monkeypatch.setattr(debian, "_fetch", fetch)
    assert debian.unpacked(["some"]) == debian.unpacked(["some"]) == fetched[0]
    assert len(fetched) == 1
    record = next((cache / "parts").rglob("some-*.json"))
    for damage in ("", "{}", json.dumps({"tree": "gone"})):
        record.write_text(damage)
        debian.unpacked(["some"])
    assert len(fetched) == 4


def test_the_machines_apt_settings_are_kept_and_its_hooks_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    etc = tmp_path / "apt"
    (etc / "apt.conf.d").mkdir(parents=True)
    (etc / "apt.conf.d" / "proxy").write_text('Acquire::http::Proxy "http://proxy.example:3128";')
    hooks = 'APT::Update::Post-Invoke { "touch done"; }; DPkg::Post-Invoke { "touch done"; };'
    (etc / "apt.conf").write_text(hooks)
    monkeypatch.setattr(debian, "ETC_APT", etc)
    work = tmp_path / "work"
    debian._apt_settings(work)
    settings = [path.read_text() for path in sorted((work / "conf").iterdir())]
    assert any("proxy.example" in text for text in settings)
    assert settings.index(hooks) < len(settings) - 1
    assert settings[-1].startswith("#clear APT::Update;\n#clear DPkg;\n")


def test_nothing_unpacked_keeps_set_uid(tmp_path: Path):
    program = tree(tmp_path, "usr/bin/ssh-agent") / "usr/bin/ssh-agent"
    program.chmod(0o6755)
    debian._drop_privileges(tmp_path)
    assert program.stat().st_mode & 0o7777 == 0o755


def test_without_apt_the_error_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch):
    assert not cache.exists()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(debian.MissingError) as error:
        debian.unpacked(["slapd", "ldap-utils"])
    assert error.value.args == (
        "slapd is not on this machine, and there is no apt to fetch it with",
        "install it by hand",
    )
