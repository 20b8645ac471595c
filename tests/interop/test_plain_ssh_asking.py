"""Plain ssh when something is missing: what it asks on a terminal, and that it asks nothing anywhere else."""

import os
import shutil
import time
from collections.abc import Iterator

import pexpect
import pyotp
import pytest
from tests.interop.plain import Plain, at_home
from tests.people import Person

from jitgate.app.demo import world as demo

HINT = "jitctl: error: not signed in to "


@pytest.fixture
def alice(plain_alice: Person) -> Iterator[Person]:
    with at_home(plain_alice) as person:
        yield person


@pytest.fixture
def signed_out(alice: Person) -> Person:
    (alice.state / "token").unlink()
    return alice


def on_terminal(person: Person, *arguments: str) -> "pexpect.spawn[str]":
    words = [*Plain(person, "tunnel").options, *arguments]
    return pexpect.spawn("ssh", words, env=person.environment, cwd=str(person.home), timeout=30, encoding="utf-8")


def rest_of(child: "pexpect.spawn[str]") -> str:
    child.expect(pexpect.EOF)
    child.close()
    return str(child.before)


def test_on_a_terminal_plain_ssh_signs_one_in(plain_alice: Person):
    """Nothing but `ssh`: name, password and code are asked on the terminal, and then one is there."""
    world = plain_alice.world
    carol = demo._add_person(world.settings, world.folder, "carol", ("engineers",), False)
    totp, now = pyotp.TOTP(carol.totp_secret.reveal()), int(time.time())
    first = now - 30 if now % 30 < 15 else now  # a code works once: one for each sign-in
    person = Person(carol.home, world)
    given = ("--user", "carol", "--password-file", "-", "--code", totp.at(first))
    person.jitctl("login", world.url, *given, stdin=f"{carol.password.reveal()}\n")
    person.jitctl("ssh-config", "install")
    person.jitctl("logout")
    child = on_terminal(person, "ubuntu@web1", "echo I am $USER; cat")
    child.expect("not signed in to ")
    child.expect("password of carol: ")
    child.sendline(carol.password.reveal())
    child.expect("code .*: ")
    child.sendline(totp.at(first + 30))
    child.expect("signed in to .* as carol")
    child.expect("I am ubuntu")
    child.sendeof()
    assert carol.password.reveal() not in rest_of(child)
    assert child.exitstatus == 0


@pytest.mark.parametrize("words", [("-G",), ("-o", "BatchMode=yes"), ("-O", "check", "-S", "none")])
def test_an_ssh_that_may_ask_nothing_asks_nothing(signed_out: Person, words: tuple[str, ...]):
    """Editors run `ssh -G` on whatever terminal they have."""
    said = rest_of(on_terminal(signed_out, *words, "ubuntu@web1"))
    assert HINT in said
    assert "jitctl: hint: jitctl login " in said
    assert "password of" not in said


def test_without_a_terminal_there_is_a_hint_and_a_status(signed_out: Person):
    done = signed_out.ssh("ubuntu@web1", "true", status=255)
    assert done.stderr.startswith(HINT)
    assert done.stderr.splitlines()[1].startswith("jitctl: hint: jitctl login ")
    assert "there is no ticket for this host" in done.stderr
    assert "hostkeyalias web1.default.jitgate" in signed_out.ssh("-G", "ubuntu@web1").stdout


def test_an_ended_ticket_is_refused_by_the_gateway_in_words(alice: Person):
    """Nobody to renew it, and one from before: the connection says why it is not made."""
    alice.ssh("ubuntu@web1", "true")
    grants = alice.jitctl("grants", "ls", "-o", "json")
    ticket = alice.state / "certs/web1.default.jitgate/ubuntu.ticket"
    kept = ticket.read_bytes()
    for word in grants.stdout.split('"'):
        if len(word) == 26 and word.isupper():
            alice.jitctl("grants", "end", word)
    alice.ssh("ubuntu@web1", "true")  # a new grant, a new ticket
    ticket.write_bytes(kept)
    os.utime(ticket, (time.time() + 60,) * 2)
    done = alice.ssh("ubuntu@web1", "true", status=255)
    assert done.stderr.startswith("jitctl: error: ")
    assert "jitctl: hint: " in done.stderr


def test_a_home_that_cannot_be_written(alice: Person):
    """What is fresh works on; what has to be renewed says what is wrong, and does not hang."""
    alice.ssh("ubuntu@web1", "true")
    folders = [alice.home, *(path for path in alice.home.rglob("*") if path.is_dir() and not path.is_symlink())]
    for folder in folders:
        folder.chmod(0o500)
    # root may write everywhere, unless this is taken away
    drop = ("setpriv", "--bounding-set", "-dac_override") if os.geteuid() == 0 else ()
    command = (*drop, "ssh", *Plain(alice, "tunnel").options)
    try:
        done = alice.run(*command, "ubuntu@web1", "echo here")
        assert (done.stdout, done.stderr) == ("here\n", "")
        os.utime(alice.state / "certs/web1.default.jitgate/ubuntu.ticket", (1, 1))
        done = alice.run(*command, "ubuntu@web1", "echo here")
        assert "ermission denied" in done.stderr
        assert done.stderr.startswith("jitctl: error: ")
        assert done.stdout in ("", "here\n")  # what was there is still good
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_a_jitctl_that_is_gone_does_not_keep_ssh_from_what_is_fresh(alice: Person):
    alice.ssh("ubuntu@web1", "true")
    config = alice.state / "ssh_config"
    config.write_text(config.read_text().replace("-m jitgate.cli", "-m jitgate.gone"))
    assert alice.ssh("ubuntu@web1", "echo here").stdout == "here\n"
    shutil.rmtree(alice.state / "certs")
    assert "No module named jitgate.gone" in alice.ssh("ubuntu@web1", "true", status=255).stderr
