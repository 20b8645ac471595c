"""What jitctl leaves on a machine, and what it refuses to touch there."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import PASSWORD, TOKEN, FakeService

from jitgate.cli.files import write_private

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

CONNECT = ("vm", "connect", "web1", "--print")


def modes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            found[str(path.relative_to(folder))] = f"{stat.S_IMODE(mode):o}"
    return found


def test_all_that_is_written_is_for_its_owner_only(alice: Machine):
    os.umask(0o000)
    assert alice.jitctl(*CONNECT)[0] == 0
    os.umask(0o022)
    state, config = modes(alice.state.parent), modes(alice.config)
    names = {Path(name).name for name in state}
    assert {"id", "id.pub", "token", "ssh_config", "known_hosts", "revoked_host_keys", "certs"} <= names
    assert set((state | config).values()) == {"700", "600"}
    assert stat.S_IMODE((alice.home / ".ssh/config").stat().st_mode) == 0o600
    assert stat.S_IMODE((alice.home / ".ssh").stat().st_mode) == 0o700


def test_no_secret_in_argv_environment_or_words(
    machine: Machine, service: FakeService, sign_in: Callable[..., tuple[int, str, str]], tmp_path: Path
):
    """A stand-in for ssh and its tools writes down what it was given."""
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    for name in ("ssh", "ssh-add", "ssh-keygen"):
        (tools / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" >> {log}\nenv >> {log}\n')
        (tools / name).chmod(0o755)
    machine.environment |= {"SSH_AUTH_SOCK": "/nowhere"}
    said = "".join(map(str, sign_in()))
    status, out, err = machine.process("vm", "connect", "web1", PATH=f"{tools}:{os.environ['PATH']}")
    assert status == 0, err
    key = (machine.state / "id").read_text().splitlines()[1]
    seen = log.read_text() + out + err + said
    assert "ssh-add" in seen
    for secret in (TOKEN, PASSWORD, key):
        assert secret not in seen
    assert "passwo" not in json.dumps([request[1] for request in service.requests])


@pytest.mark.parametrize("name", ["", "certs", "token", "id"])
def test_a_link_in_the_state_folder_is_refused(alice: Machine, service: FakeService, tmp_path: Path, name: str):
    """Where others can write (a shared XDG_STATE_HOME), a link would lead our secrets, or our trust, elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    place = alice.state / name
    if place.exists():
        place.rename(elsewhere)
    else:
        elsewhere.mkdir(0o700)
    place.symlink_to(elsewhere)
    before = len(service.requests)
    status, _, err = alice.jitctl(*CONNECT)
    assert status == 1
    assert "is a link" in err
    assert name != "token" or len(service.requests) == before


@pytest.mark.parametrize(("name", "mode"), [("token", 0o640), ("id", 0o604), ("", 0o770), ("", 0o755)])
def test_a_file_or_folder_open_to_others_is_refused(alice: Machine, name: str, mode: int):
    (alice.state / name).chmod(mode)
    status, _, err = alice.jitctl(*CONNECT)
    assert status == 1
    assert "is open to others" in err
    assert "hint: chmod go-rwx" in err


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b'{"token": 7}', b"[" * 4000, b"", b"x" * 5000])
def test_a_broken_token_file_asks_for_a_sign_in(alice: Machine, content: bytes):
    (alice.state / "token").write_bytes(content)
    status, _, err = alice.jitctl("whoami")
    assert status in (1, 3)
    assert err.startswith("jitctl: error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "content",
    [
        b"[",
        b"\xff",
        b"profiles = 3",
        b"profiles.default = 3",
        b"[profiles.default]",
        b"[profiles.default]\nurl = 7",
        b'[profiles.default]\nurl = "http://example.com"',
        b'[profiles.default]\nurl = "https://a"\npinned = "no"',
        b'[profiles."a b"]\nurl = "https://a"',
        b"output = 'xml'\n",
        b"profile = '../..'\n",
        b"a.a" * 30_000,
    ],
)
def test_a_broken_config_is_named(machine: Machine, content: bytes):
    machine.config.mkdir(parents=True)
    (machine.config / "config.toml").write_bytes(content)
    status, _, err = machine.jitctl("vm", "ls")
    assert status in (1, 2)
    assert err.startswith("jitctl: error: ")
    assert "a mistake in jitctl" not in err


def test_the_rest_of_the_config_is_the_persons(machine: Machine, sign_in: Callable[..., object]):
    machine.config.mkdir(parents=True)
    path = machine.config / "config.toml"
    mine = '# mine\noutput = "json"\n\n[profiles.work]\nurl = "https://work.example"  # the other one\n'
    path.write_text(mine)
    sign_in("--name", "default")
    sign_in("--name", "default", "--key", str(machine.state / "id"))
    written = path.read_text()
    assert written.startswith(mine)
    assert written.count("[profiles.default]") == 1
    status, out, _ = machine.jitctl("whoami")  # two profiles: the one called default
    assert status == 0
    assert json.loads(out)["profile"] == "default"  # and the output is what the file says
    assert machine.jitctl("whoami", "-o", "table")[1].startswith("name")


def test_a_config_that_others_can_write_is_refused(alice: Machine):
    (alice.config / "config.toml").chmod(0o666)
    status, _, err = alice.jitctl("whoami")
    assert status == 1
    assert "can be written by others" in err


def test_a_profile_is_not_turned_to_another_service(alice: Machine):
    status, _, err = alice.jitctl("login", "https://other.example", "--name", "default")
    assert status == 7
    assert "profile default is for http://127.0.0.1:" in err


def test_an_unwritable_home_is_an_error_in_words(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]):
    machine.environment["XDG_STATE_HOME"] = "/proc/nowhere"
    status, _, err = sign_in()
    assert status == 1
    assert err.startswith("jitctl: error: /proc/nowhere")


def test_a_path_that_ssh_would_expand_is_refused(alice: Machine, tmp_path: Path, sign_in: Callable[..., object]):
    for name in ("%h", "a${HOME}", 'a"b', "a'b", "a\nb", "~root"):
        odd = tmp_path / name
        odd.mkdir()
        alice.environment["XDG_STATE_HOME"] = str(odd)
        sign_in()
        status, _, err = alice.jitctl(*CONNECT)
        assert status == 1, name
        assert "a path that ssh would read as something else" in err


def test_logout_takes_the_token_and_the_certificates_along(alice: Machine, service: FakeService):
    alice.jitctl(*CONNECT)
    service.stop()  # also when the service cannot be told
    status, _, err = alice.jitctl("logout")
    assert status == 0
    assert "warning: the service was not told" in err
    assert not (alice.state / "token").exists()
    assert not list(alice.state.glob("certs/*"))
    assert (alice.state / "id").exists()


def test_a_password_file_that_others_can_read_is_refused(machine: Machine, service: FakeService, tmp_path: Path):
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\nsecond line\n")
    secret.chmod(0o644)
    arguments = ("login", service.url, "--user", "alice", "--code", "123456", "--password-file", str(secret))
    status, _, err = machine.jitctl(*arguments)
    assert status == 1
    assert "others can read" in err
    secret.chmod(0o600)
    assert machine.jitctl(*arguments)[0] == 0


def test_half_written_files_are_never_seen(alice: Machine, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = (alice.state / "token").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, err = alice.jitctl(*CONNECT)
    assert status == 1
    assert err.endswith("jitctl: error: no space left on device\n")
    assert (alice.state / "token").read_bytes() == before
    assert not [path for path in alice.state.rglob(".*") if path.is_file()]


def test_a_file_that_cannot_be_written_is_named_as_the_person_named_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        write_private(tmp_path / "no/where", b"")
    assert caught.value.filename == str(tmp_path / "no/where")
