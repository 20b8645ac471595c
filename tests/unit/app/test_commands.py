"""What an operator reads: results, empty lists, and what to do about what stands in the way."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jitgate.app.commands import host as hosts
from jitgate.app.commands import policy, user
from jitgate.app.control import Json
from jitgate.app.main import run
from jitgate.app.ports import open_listener
from jitgate.core.errors import Conflict

Jitgate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def jitgate(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Jitgate:
    """A command on settings of an installation, in an empty folder: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "jitgate.toml"
    config.write_text(f'state = "{tmp_path}"\nurl = "https://jit.example.org"\n')
    monkeypatch.setenv("JITGATE_CONFIG", str(config))

    def command(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        shown = capfd.readouterr()
        return status, shown.out, shown.err

    return command


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Json], None]:
    """What the service answers to the next act."""

    def give(done: Json) -> None:
        for module in (hosts, policy, user):
            monkeypatch.setattr(module, "operate", lambda *_: done)

    return give


def test_empty_lists_say_what_to_do(jitgate: Jitgate, answer: Callable[[Json], None]):
    answer({"users": [], "hosts": []})
    assert jitgate("user", "ls") == (0, "", "jitgate: there is no user yet; jitgate user add NAME\n")
    assert jitgate("host", "ls") == (0, "", "jitgate: there is no host yet; jitgate host add NAME\n")
    assert jitgate("user", "ls", "-o", "json") == (0, "[]\n", "jitgate: there is no user yet; jitgate user add NAME\n")


def test_users_have_a_state(jitgate: Jitgate, answer: Callable[[Json], None]):
    row = {"name": "alice", "groups": ["ops", "dba"], "admin": True, "disabled_at": None}
    answer({"users": [row, row | {"name": "bob", "admin": False, "disabled_at": "2026-01-31T08:00:00Z"}]})
    assert jitgate("user", "ls")[1].splitlines() == [
        "NAME   GROUPS   RIGHTS  STATE",
        "alice  ops dba  admin   enabled",
        "bob    ops dba  -       disabled 2026-01-31T08:00:00Z",
    ]


ROLE = "role: web\neffect: allow\nwho: {groups: [ops]}\nwhat: {hosts: [web1]}\nas: [ubuntu]\n"


def test_an_applied_policy_in_columns(jitgate: Jitgate, answer: Callable[[Json], None], tmp_path: Path):
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles/web.yaml").write_text(ROLE)
    done: Json = {"digest": "ab12", "roles": 2, "added": ["web", "db"], "changed": [], "removed": ["old"]}
    answer(done | {"lost_denials": [], "changed_denials": []})
    status, out, _ = jitgate("policy", "apply", "roles", "--without-manifest")
    assert (status, out) == (0, "digest   ab12\nroles    2\nadded    web\nadded    db\nremoved  old\n")
    answer(done | {"added": [], "removed": [], "lost_denials": [], "changed_denials": []})
    assert jitgate("policy", "apply", "roles", "--without-manifest")[2] == "jitgate: it was in force already\n"


def test_a_host_key_that_is_not_there(jitgate: Jitgate):
    given = ("--address", "10.0.0.11", "--login", "ubuntu", "--host-key", "web1.pub")
    assert jitgate("host", "add", "web1", *given)[2] == (
        "jitgate: error: cannot read web1.pub: No such file or directory\n"
        "jitgate: hint: copy it from the host: /etc/ssh/ssh_host_ed25519_key.pub\n"
    )


def test_init_takes_no_url_that_nobody_could_use(jitgate: Jitgate, tmp_path: Path):
    new = ("--config", str(tmp_path / "new.toml"), "--state", str(tmp_path / "new"))
    status, _, err = jitgate("init", *new, "--url", "http://jit.example.org")
    assert status == 2
    assert "plain http only reaches this machine" in err
    assert "hint: --url https://jit.example.org" in err
    assert not (tmp_path / "new").exists()
    assert jitgate("init", *new, "--url", "http://127.0.0.1:8443")[0] == 0
    # The file names the document that describes it.
    assert (Path(__file__).parents[3] / "docs/operations.md").is_file()
    assert "docs/operations.md" in (tmp_path / "new.toml").read_text()


def test_folders_of_somebody_else_say_what_to_do(jitgate: Jitgate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/jitgate")

    monkeypatch.setattr(Path, "mkdir", refused)
    given = ("--config", str(tmp_path / "new.toml"), "--url", "https://jit.example.org")
    assert jitgate("init", *given)[2] == (
        "jitgate: error: /var/lib/jitgate: Permission denied\n"
        "jitgate: hint: run it as root, or name places of your own: --config FILE --state DIR\n"
    )
    monkeypatch.setattr(socket.socket, "connect", lambda *_: refused())
    assert jitgate("user", "ls")[2] == (
        f"jitgate: error: {tmp_path}/control.sock: Permission denied\n"
        "jitgate: hint: run it as root, or as the user who runs jitgate serve\n"
    )


@pytest.mark.enable_socket
def test_a_port_that_is_taken_is_named():
    with open_listener("127.0.0.1", 0) as taken:
        host, port = taken.getsockname()
        with pytest.raises(Conflict, match=f"127.0.0.1 port {port} is taken by another program"):
            open_listener(host, port)


BASE = """
import sys

class OnlyTheBase:
    def find_spec(self, name, path=None, target=None):
        if name in {"segno", "sqlalchemy", "uvloop", "pydantic"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyTheBase())
from jitgate.app.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", [("user", "ls"), ("init", "--url", "https://jit.example.org"), ("serve",)])
def test_the_base_install_says_what_to_install(command: tuple[str, ...]):
    done = subprocess.run([sys.executable, "-c", BASE, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        "jitgate: error: the base install, which runs jitctl and jitgate host trust, has no [a-z]+\n"
        "jitgate: hint: install jitgate with the extra \\[server\\]\n",
        done.stderr,
    )


def test_help_has_its_short_name(jitgate: Jitgate):
    assert jitgate("user", "-h")[1] == jitgate("user", "--help")[1]
    assert jitgate("user", "ls", "-h")[1].startswith("Usage: jitgate user ls")
    assert "Did you mean 'policy'?" in jitgate("polcy")[2]
