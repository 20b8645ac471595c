"""jitctl revoke: what is asked for, what is said while hosts learn of it, and how it ends."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import GRANT, FakeService, in_minutes, problem
from tests.unit.ssh.made import made
from tests.unit.ssh.test_cert import body, signed

from jitgate.ssh.pubkey import Algorithm

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

ID = "01KASKZ5M9BD2X8RB6QJ3RJ6QJ"
KEY = made(Algorithm.ED25519).public


def revocation(**changed: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "realm": "default",
        "what": "grant",
        "subject": GRANT,
        "made_by": "alice",
        "made_at": in_minutes(-1),
        "counter": 7,
        "serials": 1,
        "keys": 0,
    } | changed


def progress(told: int, waiting: list[str] | None = None, without: list[str] | None = None) -> dict[str, Any]:
    waiting, without = waiting or [], without or []
    return {
        "hosts": told + len(waiting) + len(without),
        "told": told,
        "slowest_s": 1.94 if told else None,
        "waiting": waiting,
        "without_agent": without,
        "waiting_count": len(waiting),
        "without_agent_count": len(without),
    }


@pytest.fixture
def alice(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]) -> Machine:
    assert sign_in()[0] == 0
    return machine


def answers(service: FakeService, *after: dict[str, Any]) -> list[dict[str, Any]]:
    """Answers of the service, the last one for good; what was posted comes back."""
    posted: list[dict[str, Any]] = []
    coming = list(after)

    def post(document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        posted.append(document)
        return 201, {"revocation": revocation(what=document["what"], subject=document["subject"]), "progress": after[0]}

    def get(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if len(coming) > 1:
            coming.pop(0)
        return 200, {"revocation": revocation(), "progress": coming[0]}

    service.instead["POST /v1/revocations"] = post
    service.instead[f"GET /v1/revocations/{ID}"] = get
    return posted


def test_it_waits_until_every_host_knows(alice: Machine, service: FakeService):
    posted = answers(service, progress(410, ["web7", "web8"]), progress(411, ["web8"]), progress(412))
    status, out, err = alice.jitctl("revoke", "grant", GRANT, "--reason", "leaked")
    assert (status, out) == (0, "revoked on 412/412 hosts, slowest 1.9 s\n")
    assert posted == [{"what": "grant", "subject": GRANT, "reason": "leaked"}]
    assert err == f"jitctl: revoked grant {GRANT}: 1 certificate, 0 keys ({ID})\n"


def test_hosts_that_do_not_answer_are_named(alice: Machine, service: FakeService):
    answers(service, progress(1, ["web7", "web8"], ["db1"]))
    status, out, err = alice.jitctl("revoke", "grant", GRANT, "--wait", "0.1")
    assert (status, out) == (1, "revoked on 1/4 hosts, slowest 1.9 s\n")
    assert err.splitlines()[1:] == [
        "jitctl: without an agent, good there until it ends: db1",
        "jitctl: warning: no answer yet from web7 web8",
        f"jitctl: to look again: jitctl revoke show {ID} --wait 60",
    ]


def test_names_that_are_not_told_are_counted(alice: Machine, service: FakeService):
    answers(service, progress(0, [], ["a"]) | {"without_agent": [], "without_agent_count": 3, "hosts": 3})
    status, out, err = alice.jitctl("revoke", "grant", GRANT)
    assert (status, out) == (0, "revoked on 0/3 hosts\n")
    assert "until it ends: 3 hosts" in err


def test_json_has_all(alice: Machine, service: FakeService):
    answers(service, progress(2))
    out = alice.jitctl("revoke", "grant", GRANT, "-o", "json")[1]
    assert json.loads(out)["progress"]["told"] == 2


def test_a_file_says_serial_and_authority(alice: Machine, service: FakeService, tmp_path: Path):
    posted = answers(service, progress(1))
    ca = made(Algorithm.ED25519, 9)
    (tmp_path / "id-cert.pub").write_text(signed(body(key=KEY, ca=ca.public, serial=77), ca).line() + "\n")
    (tmp_path / "id.pub").write_text(KEY.line("alice at home") + "\n")
    assert alice.jitctl("revoke", "certificate", str(tmp_path / "id-cert.pub"))[0] == 0
    assert alice.jitctl("revoke", "key", str(tmp_path / "id.pub"))[0] == 0
    assert alice.jitctl("revoke", "certificate", "78")[0] == 0
    assert posted == [
        {"what": "certificate", "subject": "77", "ca": ca.public.fingerprint},
        {"what": "key", "subject": KEY.line()},
        {"what": "certificate", "subject": "78"},
    ]


@pytest.mark.parametrize("file", ["nothing.pub", "text.pub"])
def test_what_is_no_key_is_not_sent(alice: Machine, service: FakeService, tmp_path: Path, file: str):
    posted = answers(service, progress(1))
    (tmp_path / "text.pub").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert alice.jitctl("revoke", "key", str(tmp_path / file))[0] in (1, 6)
    assert alice.jitctl("revoke", "certificate", str(tmp_path / file))[0] in (1, 6)
    assert posted == []


LARGE = [("person", "bob"), ("host", "web1"), ("ca", "SHA256:x"), ("serials", "1-9")]


@pytest.mark.parametrize(("what", "subject"), LARGE)
def test_large_ones_need_a_yes(alice: Machine, service: FakeService, what: str, subject: str):
    posted = answers(service, progress(1))
    status, _, err = alice.jitctl("revoke", what, subject)
    assert (status, posted) == (2, [])
    assert "--yes" in err
    assert alice.jitctl("revoke", what, subject, "--yes")[0] == 0
    assert posted[0]["what"] == what


def test_who_revokes_themselves_is_signed_out(alice: Machine, service: FakeService):
    answers(service, progress(0, ["web1"]))
    service.instead[f"GET /v1/revocations/{ID}"] = lambda _: problem(401, "not_signed_in", "the sign-in has ended")
    status, _, err = alice.jitctl("revoke", "person", "alice", "--yes")
    assert status == 1
    assert "you are signed out by that" in err


def test_a_list(alice: Machine, service: FakeService):
    service.instead["GET /v1/revocations"] = lambda _: (200, {"revocations": [revocation(subject="a\x1b[2Jb")]})
    out = alice.jitctl("revoke", "ls")[1]
    assert out.split()[:7] == ["ID", "WHEN", "BY", "WHAT", "CERTIFICATES", "KEYS", "SUBJECT"]
    assert "\x1b" not in out
    service.instead["GET /v1/revocations"] = lambda _: (200, {"revocations": []})
    assert alice.jitctl("revoke", "ls") == (0, "", "jitctl: nothing was revoked\n")


def test_after_a_revoked_key_the_next_sign_in_makes_a_new_one(
    machine: Machine, service: FakeService, sign_in: Callable[..., tuple[int, str, str]]
):
    service.instead["POST /v1/sign-in"] = lambda _: problem(400, "key_revoked", "this key was revoked")
    assert sign_in()[0] == 1
    folder = machine.home / ".local/state/jitctl/default"
    assert sorted(path.name for path in folder.glob("*id*")) == ["revoked-id", "revoked-id.pub"]
    del service.instead["POST /v1/sign-in"]
    assert sign_in()[0] == 0
    assert (folder / "id").read_bytes() != (folder / "revoked-id").read_bytes()


def test_on_a_terminal_one_line_changes(alice: Machine, service: FakeService):
    answers(service, progress(410, ["web7", "web8"]), progress(411, ["web8"]), progress(412))
    environment = alice.process_environment() | {"TERM": "xterm"}
    command = ["-m", "jitgate.cli", "revoke", "grant", GRANT]
    child = pexpect.spawn(sys.executable, command, env=environment, timeout=20, encoding="utf-8", echo=False)
    child.expect_exact("\r\x1b[Kjitctl: revoked on 410/412 hosts, slowest 1.9 s")
    child.expect_exact("\r\x1b[Kjitctl: revoked on 411/412 hosts, slowest 1.9 s")
    child.expect_exact("\r\x1b[Krevoked on 412/412 hosts, slowest 1.9 s")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
