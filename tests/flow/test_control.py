"""The operator's socket and the state folder: whose they are, what they take, and one writer at a time."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from tests.client import PASSWORD, code, somebody
from tests.service import ROLES, Service

from jitgate.app.control import LINE_MAX, SOCKET, call_control
from jitgate.app.operate import only_writer, operate
from jitgate.core.clock import system_clock
from jitgate.core.errors import Conflict, Error, NotFound

Install = Callable[..., Service]
NOBODY = 65534


def spoken(service: Service, data: bytes, *, half: bool = False) -> Any:
    """What the service answers to these bytes on its control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(service.state / SOCKET))
        try:
            connection.sendall(data)
            if not half:
                connection.shutdown(socket.SHUT_WR)
        except BrokenPipeError:  # it has answered, and hung up on the rest
            pass
        with connection.makefile("rb") as file:
            return json.loads(file.readline() or b"null")


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "an empty line": b"\n",
    "no JSON": b"hello\n",
    "no line": b'{"act": "user ls", "with"',
    "no object": b"[]\n",
    "a number": b"1\n",
    "no act": b"{}\n",
    "another act": b'{"act": "shutdown", "with": {}}\n',
    "an act that is no text": b'{"act": ["user ls"], "with": {}}\n',
    "nothing to act with": b'{"act": "user ls"}\n',
    "something else to act with": b'{"act": "user add", "with": 1}\n',
    "too little to act with": b'{"act": "user add", "with": {}}\n',
    "another thing than a name": b'{"act": "user disable", "with": {"name": 1}}\n',
    "a list for a name": b'{"act": "user disable", "with": {"name": []}}\n',
    "a text for a port": b'{"act": "host add", "with": {"name": "x", "address": "x", "port": "x", "logins": ["x"], '
    b'"labels": {}, "host_key": "x"}}\n',
    "no bundle": b'{"act": "policy apply", "with": {"bundle": "x"}}\n',
    "no UTF-8": b"\xff\xfe\n",
    "depth": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_answered_and_the_service_goes_on(service: Service, data: bytes):
    answer = spoken(service, data)
    assert answer["error"]["what"]
    assert answer["error"]["exit_status"]
    assert service.act("user ls")["users"] is not None


def test_a_line_without_end_is_refused(service: Service):
    answer = spoken(service, b"x" * (LINE_MAX + 100), half=True)
    assert answer["error"]["what"] == "the request is too large"
    assert "users" in service.act("user ls")


def test_who_hangs_up_or_stays_silent_harms_nobody(service: Service):
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(20)]
    for each in silent:
        each.connect(str(service.state / SOCKET))
    assert "users" in service.act("user ls")
    for each in silent:
        each.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(service.state / SOCKET))
        connection.sendall(b'{"act": "user ls", "with": {}}\n')
    assert "users" in service.act("user ls")


def test_an_error_comes_back_as_it_was_raised(service: Service):
    with pytest.raises(Error) as caught:
        service.act("user disable", name="nobody-here")
    assert (caught.value.code, caught.value.exit_status) == ("not_found", 6)
    assert caught.value.hint == "jitgate user ls"


def test_the_operators_name_is_in_the_log(service: Service):
    olga = service.enter(somebody(), admin=True)
    name = somebody()
    service.add_person(name)
    events = olga.get("/v1/audit?type=person.added").json["events"]
    (mine,) = [event for event in events if event["subject"]["name"] == name]
    uid = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert mine["actor"] == {"kind": "operator", "id": "", "name": uid}


def test_the_folder_and_all_in_it_is_the_services_own(service: Service):
    assert service.state.stat().st_mode & 0o777 == 0o700
    for path in (path for path in service.state.rglob("*") if path.name != "log.key"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == wanted, path
    assert (service.state / SOCKET).is_socket()


SPEAK = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(b'{"act": "user ls", "with": {}}\\n')
    sys.stdout.write(connection.makefile().readline())
"""


def as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    setpriv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command = [*setpriv, "/usr/bin/python3", "-I", "-c", SPEAK, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="only root can be another user")
def test_another_user_is_refused_even_where_the_folder_lets_them_in(install: Install):
    service = install()
    service.start()
    path = service.state / SOCKET
    assert "PermissionError" in as_nobody(path).stderr
    for open_ in (service.folder, service.state):
        open_.chmod(0o755)
    assert "PermissionError" in as_nobody(path).stderr
    path.chmod(0o666)
    said = json.loads(as_nobody(path).stdout)
    assert said["error"]["what"] == "this socket is for the service's own user and root"
    assert "users" in service.act("user ls")
    service.state.chmod(0o700)


# --- one writer ---


@pytest.mark.databases
def test_the_same_act_is_done_whether_the_service_runs_or_not(install: Install):
    service = install()
    assert operate(service.settings, "user ls", {})["users"] == []
    told = {"name": "alice", "groups": [], "admin": False, "password": PASSWORD}
    alice = operate(service.settings, "user add", told)["person"]
    assert call_control(service.state, "user ls", {}) is None
    service.start()
    assert operate(service.settings, "user ls", {})["users"] == [alice]
    with pytest.raises(Error, match="there is a person 'alice' already"):
        operate(service.settings, "user add", told)
    assert service.stop() == 0
    with pytest.raises(NotFound):
        operate(service.settings, "user disable", {"name": "bob"})
    assert operate(service.settings, "user ls", {})["users"] == [alice]
    service.start()
    service.kill()
    assert (service.state / SOCKET).exists()  # of the service that was killed: it does not mislead a command
    assert operate(service.settings, "user ls", {})["users"] == [alice]
    assert service.jitgate("audit", "verify").returncode == 0


def test_a_second_service_is_refused_and_the_first_goes_on(install: Install, service: Service):
    first = install()
    first.start()
    second = Service(first._nursery, first.folder, first.settings, first.config, first.login_url)
    with pytest.raises(AssertionError, match="another process uses"):
        second.start()
    assert first.act("user ls") == {"users": []}
    with pytest.raises(Conflict, match="another process uses"), only_writer(first.state):
        pass
    assert service.act("user ls")


def test_no_command_writes_beside_a_service_that_is_starting(install: Install, monkeypatch: pytest.MonkeyPatch):
    """The lock is held and nobody listens yet: the command waits, then says so and touches nothing."""
    monkeypatch.setattr("jitgate.app.operate.PATIENCE_S", 0.2)
    service = install()
    with only_writer(service.state), pytest.raises(Conflict, match="another process uses"):
        operate(service.settings, "user ls", {})


def test_a_command_waits_for_a_service_that_starts_or_stops(install: Install):
    """As in a script: `jitgate serve &`, and a command on the next line."""
    service = install()
    with ThreadPoolExecutor(1) as pool:
        with only_writer(service.state):
            asked = pool.submit(operate, service.settings, "user ls", {})
            assert not wait([asked], timeout=0.3).done
        assert asked.result(timeout=20) == {"users": []}


def test_a_service_waits_for_a_command_that_is_at_work(install: Install):
    service = install()
    with ThreadPoolExecutor(1) as pool:
        with only_writer(service.state):
            starting = pool.submit(service.start)
            assert not wait([starting], timeout=1).done
        starting.result(timeout=30)
    assert service.act("user ls") == {"users": []}


UNSAFE = {
    "jitgate.db": 0o644,
    "sealing.key": 0o640,
    "keys/user_ca": 0o644,
    "keys/log": 0o604,
    "keys": 0o777,
    "signer.toml": 0o666,
    "signed": 0o777,
    "tls/server.key": 0o640,
}


@pytest.mark.parametrize(("name", "mode"), UNSAFE.items(), ids=UNSAFE)
def test_a_file_that_others_can_reach_stops_the_start(install: Install, name: str, mode: int):
    service = install(tls=True)
    if name == "tls/server.key":  # made at the first start
        service.start()
        service.stop()
    (service.state / name).chmod(mode)
    with pytest.raises(AssertionError, match="did not start"):
        service.start()
    last = service.words().strip().splitlines()[-2:]
    assert Path(name).name in last[0]
    assert "hint" in last[1]
    assert "Traceback" not in service.words()
    (service.state / name).chmod(0o700 if (service.state / name).is_dir() else 0o600)
    service.start()


@pytest.mark.parametrize("name", ["jitgate.db", "sealing.key", "keys/user_ca", "keys/log", "signer.toml", "tls/ca.key"])
def test_a_file_that_is_broken_stops_the_start_with_a_word(install: Install, name: str):
    service = install(tls=True)
    path = service.state / name
    path.write_bytes(b"garbage\n" * 100)
    with pytest.raises(AssertionError, match="did not start"):
        service.start()
    assert "Traceback" not in service.words()
    path.unlink()
    with pytest.raises(AssertionError, match="did not start"):
        service.start()
    assert "Traceback" not in service.words()


def test_plain_http_beyond_the_machine_is_refused(install: Install):
    service = install()
    text = service.config.read_text().replace(
        f'listen = "127.0.0.1:{service.port}"', f'listen = "0.0.0.0:{service.port}"'
    )
    service.config.write_text(text)
    with pytest.raises(AssertionError, match="plain HTTP beyond this machine"):
        service.start()


def test_a_port_that_is_taken_is_said(install: Install):
    service = install()
    with (
        socket.create_server(("127.0.0.1", service.port)),
        pytest.raises(AssertionError, match="is taken by another program"),
    ):
        service.start()
    assert "Traceback" not in service.words()
    service.start()


# --- stopping ---


@pytest.mark.databases
def test_a_stop_finishes_what_runs_and_signs_the_whole_log(install: Install):
    service = install()
    service.start()
    service.apply(ROLES)
    alice = service.enter("alice")
    newest = alice.get("/v1/audit").json["next"]
    secret, bob = service.add_person("bob"), service.connect()
    alice.begin(alice.signer.call("GET", f"/v1/audit?after={newest + 10}&wait=2"))
    bob.begin(bob.signer.sign_in("bob", PASSWORD, code(secret, system_clock())))
    assert service.connect().get("/livez").status == 200  # so both have begun
    os.kill(service.pid, signal.SIGTERM)
    assert (alice.answer().json["events"], bob.answer().status) == ([], 201)
    assert service.wait() == 0
    report = json.loads(service.jitgate("audit", "verify", "-o", "json").stdout)
    assert report["ok"]
    assert report["covered_by_checkpoints"] == report["entries"]
    assert not [line for line in service.words().splitlines() if "error" in json.loads(line)["level"]]


@pytest.mark.databases
def test_a_stop_in_the_middle_of_an_operators_act_finishes_it(install: Install):
    service = install()
    service.start()
    told = {"name": "alice", "groups": [], "admin": False, "password": PASSWORD}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(service.state / SOCKET))
        connection.sendall(json.dumps({"act": "user add", "with": told}).encode() + b"\n")
        service.act("user ls")  # so the one before has begun
        os.kill(service.pid, signal.SIGTERM)
        with connection.makefile("rb") as file:
            done = json.loads(file.readline())["done"]
    assert service.wait() == 0
    names = [user["name"] for user in operate(service.settings, "user ls", {})["users"]]
    assert (done["person"]["name"], names) == ("alice", ["alice"])
    assert done["totp_secret"]  # shown here or nowhere


@pytest.mark.databases
def test_nothing_secret_is_in_the_services_own_log(install: Install):
    service = install()
    (service.config).write_text(service.config.read_text() + 'log_level = "debug"\n')
    service.start()
    alice = service.enter("alice")
    secret = service.add_person("bob")
    service.connect().sign_in("bob", secret, "hunter2-wrong")
    alice.post("/v1/grants", {"host": "web1"}, headers={"jitgate-proof": ""})
    service.stop()
    words = service.words()
    for value in (PASSWORD, alice.signer.token, secret, "hunter2"):
        assert value not in words
    for line in words.splitlines():
        json.loads(line)
