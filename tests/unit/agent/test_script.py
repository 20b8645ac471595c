"""The script: nothing of the trust file can be more than data in it."""

import re
import shlex
import subprocess

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.trusts import USER_CA, trust

from jitgate.agent.script import quoted, render
from jitgate.agent.trust import dump
from jitgate.app.commands.host_trust import host_trust
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.errors import BadInput, Error, NotFound, UsageError
from jitgate.ssh.private import generate_ed25519

HOST_KEY = generate_ed25519().public
TRUST = trust(HOST_KEY, "ubuntu", "deploy")
SCRIPT = render(TRUST)
ASSIGNMENT = re.compile(r"^([a-z_]+)='([^']*)'$", re.MULTILINE)


@given(st.text() | st.text("A1+/=@.:_ \n-'\"\\$`;&|\0\r"))
def test_a_quoted_value_is_data_to_a_shell_or_refused(value: str):
    try:
        text = quoted(value)
    except BadInput:
        return
    assert shlex.split(text) == [value]
    assert not set(value) & set("'\"\\$`!;&|<>(){}[]*?~#\r\0")


def test_a_real_shell_reads_every_value_back():
    begin, end = SCRIPT.index("\nrealm='") + 1, SCRIPT.index("\nmode=install")
    names = [name for name, _ in ASSIGNMENT.findall(SCRIPT[begin:end])]
    show = "".join(f"printf '%s\\0' \"${name}\"\n" for name in names)
    done = subprocess.run(["sh", "-eu"], input=SCRIPT[begin:end] + show, capture_output=True, text=True, check=True)
    assert dict(zip(names, done.stdout.split("\0"), strict=False)) == {
        "realm": "default",
        "host": "web1",
        "scopes": "host:web1",
        "logins": "ubuntu deploy",
        "user_ca": USER_CA.public.line(),
        "ca_signatures": "ssh-ed25519",
        "host_key": HOST_KEY.line(),
        "host_key_print": HOST_KEY.fingerprint,
        "host_cert": TRUST.host_certificate.line(),
        "host_cert_ends": str(TRUST.host_certificate.body.valid_before),
        "host_cert_until": rfc3339(TRUST.host_certificate.body.valid_before * SECOND),
    }


@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"]])
def test_the_script_is_sound_to_each_shell(shell: list[str]):
    assert subprocess.run([*shell, "-n"], input=SCRIPT, capture_output=True, text=True, check=False).stderr == ""


def test_print_gives_the_script_and_touches_nothing(tmp_path):
    file = tmp_path / "web1.trust"
    file.write_text(dump(TRUST))
    done = CliRunner().invoke(host_trust, [str(file), "--print"])
    assert (done.exit_code, done.stdout) == (0, SCRIPT)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--check", "--remove"], UsageError),
        (["--print", "--remove"], UsageError),
        (["--print", "--etc", "/etc/ssh"], UsageError),
    ],
)
def test_options_that_exclude_each_other_are_refused(tmp_path, arguments: list[str], error: type[Error]):
    file = tmp_path / "web1.trust"
    file.write_text(dump(TRUST))
    with pytest.raises(error):
        CliRunner().invoke(host_trust, [str(file), *arguments], catch_exceptions=False)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"web1\.trust"):
        CliRunner().invoke(host_trust, [str(tmp_path / "web1.trust")], catch_exceptions=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--etc", "etc"],
        ["--etc", "/"],
        ["--etc", "/tmp/../etc"],
        ["--etc", "/tmp/a b"],
        ["--etc", "/tmp/$(reboot)"],
        ["--etc", "/tmp/%u"],
        ["--etc", "/tmp", "--sshd", "/none"],
        ["--etc", ""],
        ["--etc"],
        ["--sshd", "sshd"],
        ["--undo"],
    ],
)
def test_the_script_refuses_arguments_that_it_cannot_use(arguments: list[str]):
    done = subprocess.run(["sh", "-s", "--", *arguments], input=SCRIPT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jitgate: error: ")
