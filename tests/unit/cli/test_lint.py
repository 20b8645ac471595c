"""jitctl cert lint: words, findings and the exit status; no service, no profile, no network."""

import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.ssh.made import made
from tests.unit.ssh.raw import FOREVER, Raw, option, sound, strings
from tests.unit.ssh.test_lint import line

from jitgate.core.clock import SECOND, system_clock
from jitgate.ssh.pubkey import Algorithm


def written(folder: Path, *raws: Raw) -> str:
    file = folder / "x-cert.pub"
    file.write_text("".join(line(raw.blob()) + "\n" for raw in raws))
    return str(file)


def now(raw: Raw) -> Raw:
    begin = system_clock() // SECOND - 60
    return raw.but(after=begin, before=begin + 900)


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (now(sound()), 0, "  ok"),
        (now(sound()).but(critical=option(b"force-command", b"id")), 0, "  note: its force-command is outranked"),
        (now(sound()).but(serial=0), 10, "  warning: its serial is 0"),
        (now(sound()).but(critical=option(b"x@y", b"z")), 11, "  broken: the critical option 'x@y' is not one of"),
        (now(sound()).but(before=FOREVER), 12, "  danger: it never ends"),
    ],
)
def test_the_gravest_finding_is_the_status(machine: Machine, tmp_path: Path, raw: Raw, status: int, words: str):
    found, out, err = machine.jitctl("cert", "lint", written(tmp_path, raw))
    assert (found, err) == (status, "")
    assert any(each.startswith(words) for each in out.splitlines()), out


def test_what_it_allows_is_said_in_words(machine: Machine, tmp_path: Path):
    raw = now(sound()).but(
        principals=strings(b"ubuntu@host:web1", b"root"),
        critical=option(b"source-address", b"192.0.2.0/24"),
        extensions=option(b"login@example.org", b"al") + option(b"permit-pty"),
    )
    out = machine.jitctl("cert", "lint", written(tmp_path, raw))[1]
    said = dict(each.strip().split("  ", 1) for each in out.splitlines()[1:12] if "  " in each.strip())
    assert said["kind"].strip() == "for a user"
    assert said["logs in as"].strip() == "ubuntu@host:web1, root"
    assert said["may"].strip() == "a terminal"
    assert said["condition"].strip() == "source-address=192.0.2.0/24"
    assert said["also says"].strip() == "login@example.org=al"
    assert "(in 1" in said["time"]
    assert said["signed by"].strip() == f"ssh-ed25519 {made(Algorithm.ED25519, 9).public.fingerprint}, ssh-ed25519"


def test_json_has_all_of_every_line(machine: Machine, tmp_path: Path):
    file = written(tmp_path, now(sound()), now(sound()).but(principals=strings(b"a\xff,b"), serial=0))
    status, out, _ = machine.jitctl("cert", "lint", file, "-o", "json")
    first, second = json.loads(out)
    assert status == 12
    assert (first["file"], first["findings"]) == (file, [])
    assert second["file"] == f"{file}:2"
    assert second["certificate"]["principals"] == ["a\\xff,b"]
    assert [(each["severity"], each["code"]) for each in second["findings"]] == [
        ("danger", "comma"),
        ("warning", "serial-0"),
    ]


def test_nothing_in_it_reaches_the_terminal_as_control(machine: Machine, tmp_path: Path):
    evil = b"\x1b]0;x\x07\x1b[2J\r\n\xe2\x80\xae"
    raw = now(sound()).but(key_id=evil, principals=strings(evil), critical=option(evil, evil), extensions=option(evil))
    out = machine.jitctl("cert", "lint", written(tmp_path, raw))[1]
    assert all(character == "\n" or character.isprintable() for character in out)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"ssh-ed25519 AAAA", b"-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_what_is_no_certificate(machine: Machine, tmp_path: Path, content: bytes):
    (tmp_path / "x").write_bytes(content)
    status, out, _ = machine.jitctl("cert", "lint", str(tmp_path / "x"))
    assert status == 11
    assert "no sshd can read it" in out
    assert machine.jitctl("cert", "lint", str(tmp_path / "nothing"))[0] == 6
