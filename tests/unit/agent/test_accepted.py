"""Who logged in, as the journal says it: entries as `journalctl -o json` prints them, and forged ones."""

import json
from typing import Any

import pytest
from tests.unit.agent.trusts import USER_CA, certify

from jitgate.agent.accepted import Accepted, from_journal, from_pam, grant_of
from jitgate.core.errors import BadInput
from jitgate.hosts.host_login import How
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import generate_ed25519

GRANT = "01HF7YAT005TR67YA6P97ZRKFB"
KEY_ID = f"jitgate grant={GRANT} person=alice"
CA = "SHA256:" + "c" * 43
KEY = "SHA256:" + "k" * 43
ACCEPTED = "Accepted publickey for ubuntu from 192.0.2.7 port 50022 ssh2: ED25519-CERT"
LINE = f"{ACCEPTED} {KEY} ID {KEY_ID} (serial 42) CA ED25519 {CA}"
ENTRY = {
    "__REALTIME_TIMESTAMP": "1718000000000000",
    "__MONOTONIC_TIMESTAMP": "123456789",
    "_BOOT_ID": "5f0c1e7e1f6b4b6c8c9d0e1f2a3b4c5d",
    "_MACHINE_ID": "0123456789abcdef0123456789abcdef",
    "_HOSTNAME": "web1",
    "PRIORITY": "6",
    "SYSLOG_FACILITY": "4",
    "SYSLOG_IDENTIFIER": "sshd",
    "SYSLOG_PID": "4711",
    "SYSLOG_TIMESTAMP": "Jun 10 08:13:20 ",
    "_TRANSPORT": "syslog",
    "_PID": "4711",
    "_UID": "0",
    "_GID": "0",
    "_COMM": "sshd",
    "_EXE": "/usr/sbin/sshd",
    "_CMDLINE": "sshd: ubuntu [priv]",
    "_CAP_EFFECTIVE": "1ffffffffff",
    "_SYSTEMD_CGROUP": "/system.slice/ssh.service",
    "_SYSTEMD_UNIT": "ssh.service",
    "_SYSTEMD_SLICE": "system.slice",
    "MESSAGE": LINE,
}


def entry(**changed: Any) -> bytes:
    return json.dumps(ENTRY | changed).encode() + b"\n"


def test_a_login_by_a_certificate():
    found = from_journal(entry())
    assert found == Accepted(4711, 0, "ubuntu", "192.0.2.7", 50022, How.CERTIFICATE, 42, KEY_ID, CA)
    assert grant_of(found.key_id) == GRANT


def test_the_sshd_of_newer_releases():
    assert from_journal(entry(_COMM="sshd-session", _EXE="/usr/lib/openssh/sshd-session")) is not None


@pytest.mark.parametrize(
    ("line", "how"),
    [
        (f"Accepted publickey for root from 2001:db8::1 port 22 ssh2: ED25519 {KEY}", How.KEY),
        ("Accepted password for root from 192.0.2.7 port 22 ssh2", How.OTHER),
        ("Accepted keyboard-interactive/pam for root from 192.0.2.7 port 22 ssh2", How.OTHER),
    ],
)
def test_logins_by_other_means(line: str, how: How):
    found = from_journal(entry(MESSAGE=line))
    assert found is not None
    assert (found.how, found.serial, found.key_id, found.login) == (how, 0, "", "root")


@pytest.mark.parametrize(
    "forged",
    [
        {"_UID": "1000"},  # logger(1), or anything that a user runs
        {"_UID": None},
        {"_TRANSPORT": "stdout"},  # a unit's own words
        {"_TRANSPORT": "journal"},  # sd_journal_send(3)
        {"_COMM": "logger", "_EXE": "/usr/bin/logger"},
        {"_COMM": "sshd", "_EXE": "/home/mallory/sshd"},
        {"_EXE": "/usr/bin/python3.11"},
        {"_EXE": ["/usr/sbin/sshd", "/usr/bin/python3"]},  # a field that stands twice
        {"_EXE": None},
        {"_PID": "x"},
        {"MESSAGE": f"error: {LINE}"},
        {"MESSAGE": f"{LINE} [preauth]"},  # sshd's own child without rights, as its parent marks it
        {"MESSAGE": f"Invalid user x {LINE}"},
        {"MESSAGE": LINE + "\n"},
        {"MESSAGE": f"Received disconnect from 192.0.2.7 port 1:11: {LINE}"},
        {"MESSAGE": [65, 66]},  # how journalctl prints what is no text
        {"MESSAGE": LINE + " " * 1000},
    ],
)
def test_what_others_wrote_is_nobodys_login(forged: dict[str, Any]):
    assert from_journal(entry(**forged)) is None


@pytest.mark.parametrize("data", [b"", b"\n", b"[]", b"x" * 70_000, b'{"_UID": "0", "_UID": "0"}', b"\xff"])
def test_what_is_no_entry(data: bytes):
    assert from_journal(data) is None


def test_a_key_id_that_tells_of_another_certificate():
    """Another authority writes what it likes into its key ids: the serial and CA that count stand at the end."""
    lying = f"x (serial 42) CA ED25519 {CA}"
    other = "SHA256:" + "o" * 43
    line = LINE.replace(KEY_ID, lying).replace(CA, other).replace(f"x (serial 42) CA ED25519 {other}", lying)
    found = from_journal(entry(MESSAGE=line))
    assert found is not None
    assert (found.ca, found.key_id) == (other, lying)
    cut = from_journal(
        entry(MESSAGE=f"Accepted publickey for u from 192.0.2.7 port 1 ssh2: ED25519-CERT {KEY} ID {'y' * 900}{lying}")
    )
    assert cut is None


def hooked(**changed: Any) -> bytes:
    said = {"PAM_TYPE": "open_session", "PAM_SERVICE": "sshd", "PAM_USER": "ubuntu", "SSH_AUTH_INFO_0": ""}
    return json.dumps(said | {"pid": 4711, "started": 99, "at": 1} | changed).encode()


def test_pam_tells_the_certificate_itself():
    key = generate_ed25519()
    made = certify(USER_CA, CertType.USER, key.public, ("ubuntu@host:web1",), serial=7)
    kind, found = from_pam(hooked(SSH_AUTH_INFO_0=f"publickey {' '.join(made.line().split()[:2])}\n"))
    assert kind == "open_session"
    assert (found.how, found.serial, found.ca, found.key) == (
        How.CERTIFICATE,
        7,
        USER_CA.public.fingerprint,
        key.public.blob,
    )


@pytest.mark.parametrize(
    ("info", "how"),
    [
        ("publickey ssh-ed25519 AAAA", How.KEY),
        ("password", How.OTHER),
        ("", How.OTHER),
        ("publickey ssh-ed25519-cert-v01@openssh.com AAAA", How.KEY),
        ("publickey ssh-ed25519-cert-v01@openssh.com !!!!", How.KEY),
    ],
)
def test_pam_tells_of_other_means(info: str, how: How):
    assert from_pam(hooked(SSH_AUTH_INFO_0=info))[1].how is how


@pytest.mark.parametrize(
    "said", [{"PAM_SERVICE": "su"}, {"PAM_TYPE": "auth"}, {"pid": 0}, {"pid": "1"}, {"PAM_USER": 5}, {"PAM_TYPE": None}]
)
def test_what_the_hook_does_not_write(said: dict[str, Any]):
    with pytest.raises(BadInput):
        from_pam(hooked(**said))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "test",
        f"jitgate grant={GRANT}",
        f" {KEY_ID}",
        f"{KEY_ID}\n",
        KEY_ID.replace(GRANT, GRANT.lower()),
        f"x{KEY_ID}",
    ],
)
def test_key_ids_that_name_no_grant(text: str):
    assert grant_of(text) == ""
