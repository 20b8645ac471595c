"""On a real terminal: what is asked, what is not shown, interrupts."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import CODE, PASSWORD, FakeService

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

Start = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def ssh(machine: Machine, tmp_path: Path) -> None:
    """A stand-in for ssh that shows its arguments and ends with status 7."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\nexit 7\n')
    (folder / "ssh").chmod(0o755)
    machine.environment["PATH"] = f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def at_terminal(machine: Machine) -> Start:
    def start(*arguments: str) -> "pexpect.spawn[str]":
        environment = machine.process_environment()
        del environment["JITCTL_NO_INPUT"]
        command = ["-m", "jitgate.cli", *arguments]
        return pexpect.spawn(sys.executable, command, env=environment, timeout=20, encoding="utf-8", echo=False)

    return start


def status(child: "pexpect.spawn[str]") -> int:
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus is not None
    return child.exitstatus


def answer_sign_in(child: "pexpect.spawn[str]", *, name_is_known: bool = False) -> None:
    if not name_is_known:
        child.expect("name: ")
        child.sendline("alice")
    child.expect("password of alice: ")
    child.sendline(PASSWORD)
    child.expect("code .*: ")
    child.sendline(CODE)


def test_the_sign_in_asks_three_things_and_shows_neither_password_nor_code(at_terminal: Start, service: FakeService):
    child = at_terminal("login", service.url)
    child.logfile_read = sys.stdout
    answer_sign_in(child)
    child.expect("signed in to .* as alice until")
    shown = child.before or ""
    assert status(child) == 0
    assert PASSWORD not in shown
    assert CODE not in shown


@pytest.mark.usefixtures("ssh")
def test_connect_signs_in_when_the_sign_in_has_ended_and_passes_the_status_on(at_terminal: Start, alice: Machine):
    alice.jitctl("logout")
    child = at_terminal("vm", "connect", "--", "sh", "-c", "exit 7", "--", "-x")
    child.expect("not signed in to ")
    answer_sign_in(child, name_is_known=True)
    child.expect("granted by role ops-web: ubuntu on web1")
    child.expect("connecting to web1 \\(127.0.0.1 port 2222\\)")
    child.expect("<-l>\\s+<ubuntu>\\s+<-->\\s+<web1.default.jitgate>\\s+<sh>\\s+<-c>\\s+<exit 7>\\s+<-->\\s+<-x>")
    assert status(child) == 7


@pytest.mark.usefixtures("ssh")
def test_connect_signs_in_again_when_the_service_has_forgotten_the_sign_in(at_terminal: Start, alice: Machine):
    token = alice.state / "token"
    token.write_text(token.read_text().replace("jgs_t", "jgs_x"))
    child = at_terminal("vm", "connect", "web1")
    child.expect("this needs a sign-in")
    answer_sign_in(child, name_is_known=True)
    child.expect("connecting to web1")
    assert status(child) == 7


@pytest.mark.usefixtures("alice", "ssh")
def test_a_choice_and_a_reason_are_asked_for(at_terminal: Start, service: FakeService):
    service.hosts.append(service.host("web2", "ubuntu", "deploy"))
    service.hosts[0]["logins"][0]["why"] = "a reason is required"
    child = at_terminal("vm", "connect")
    child.expect("1  web1\\s+2  web2\\s+which host, 1 to 2: ")
    child.sendline("9")
    child.expect("which host, 1 to 2: ")
    child.sendline("1")
    child.expect("a reason is required")
    child.expect("reason: ")
    child.sendline("")
    child.expect("reason: ")
    child.sendline("disk füll")
    child.expect("connecting to web1")
    assert status(child) == 7
    assert service.granted[0]["reason"] == "disk füll"


@pytest.mark.usefixtures("alice", "ssh")
def test_a_choice_of_logins_names_the_machine(at_terminal: Start, service: FakeService):
    service.hosts[0] = service.host("web1", "ubuntu", "deploy")
    child = at_terminal("vm", "connect")
    child.expect("1  ubuntu\\s+2  deploy\\s+which login on web1, 1 to 2: ")
    child.sendline("1")
    child.expect("connecting to web1")
    assert status(child) == 7


@pytest.mark.usefixtures("alice", "ssh")
def test_a_role_without_a_terminal_is_named_before_ssh_complains(at_terminal: Start, service: FakeService):
    bare = lambda _: (201, {"certificate": service.certificate(service.keys[0], extensions=()).line()})  # noqa: E731
    service.instead["POST /v1/certificates"] = bare
    child = at_terminal("vm", "connect", "web1")
    child.expect("role ops-web gives no terminal: give a command, jitctl vm connect ubuntu@web1 -- COMMAND")
    assert status(child) == 7
    child = at_terminal("vm", "connect", "web1", "--", "true")
    child.expect("connecting to web1")
    assert "gives no terminal" not in (child.before or "")
    assert status(child) == 7


def test_what_is_no_code_is_not_sent(at_terminal: Start, service: FakeService):
    child = at_terminal("login", service.url, "--user", "alice")
    child.expect("password of alice: ")
    child.sendline(PASSWORD)
    child.expect("code .*: ")
    child.sendline(PASSWORD)  # at the wrong prompt
    child.expect("a code has six digits")
    child.expect("code .*: ")
    child.sendline("123 456")
    child.expect("signed in to ")
    assert status(child) == 0
    assert [path for method, path, _, _ in service.requests if method == "POST"] == ["/v1/sign-in"]


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_terminal_that_is_closed_is_said_on_a_line_of_its_own(
    at_terminal: Start, service: FakeService, answered: int
):
    child = at_terminal("login", service.url)
    for prompt, answer in (("name: ", "alice"), ("password of alice: ", PASSWORD))[:answered]:
        child.expect(prompt)
        child.sendline(answer)
    child.expect(["name", "password of alice", "code .*"][answered] + ": ")
    child.sendeof()
    child.expect("\r\njitctl: error: no answer: ")
    child.expect("jitctl: hint: the terminal was closed")
    assert status(child) == 2


@pytest.mark.parametrize("stop", ["interrupt", "closed"])
def test_an_interrupt_is_130_without_a_traceback(at_terminal: Start, service: FakeService, stop: str):
    child = at_terminal("login", service.url)
    child.expect("name.*: ")
    if stop == "interrupt":
        child.sendintr()
    else:
        child.sendeof()
    code = status(child)
    assert code == (130 if stop == "interrupt" else 2)
    assert "Traceback" not in (child.before or "")


def test_an_interrupt_while_waiting_for_the_service_is_130(alice: Machine, service: FakeService):
    process = alice.start("audit", "--follow")
    reached: list[bool] = []

    def slow(query: dict[str, str]) -> tuple[int, dict[str, object]]:
        if "wait" in query and not reached:
            reached.append(True)
            process.send_signal(signal.SIGINT)
        return 200, {"events": []}

    service.instead["GET /v1/audit"] = slow
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in out + err


def test_colours_only_for_a_terminal_that_wants_them(at_terminal: Start, alice: Machine, service: FakeService):
    service.instead["GET /v1/explain"] = lambda _: (
        200,
        {"host": "db1", "decision": "deny", "why": "no", "roles": []},
    )
    assert "\x1b" not in alice.jitctl("explain", "db1")[1]
    for term, no_color, coloured in (("xterm", "", True), ("xterm", "1", False), ("dumb", "", False), ("", "", False)):
        alice.environment |= {"TERM": term, "NO_COLOR": no_color}
        child = at_terminal("explain", "db1")
        child.expect(pexpect.EOF)
        assert ("\x1b[31mdeny" in (child.before or "")) is coloured, term
