"""The linter beside OpenSSH: what it says of a certificate, ssh-keygen and a stock sshd do."""

import re
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.test_targets import change, changed
from tests.interop.trusting import write
from tests.unit.ssh.made import made, software_key
from tests.unit.ssh.raw import Raw, sound, strings
from tests.unit.ssh.test_cert import body, signed
from tests.unit.ssh.test_lint import FOUND, UNREADABLE, line

from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.lint import Severity, lint
from jitgate.ssh.loose import read_loosely
from jitgate.ssh.private import dump_private_key
from jitgate.ssh.pubkey import Algorithm
from jitgate.ssh.wire import FormatError

CA, PERSON = software_key(Algorithm.ED25519, 9), software_key(Algorithm.ED25519, 2)
TIME = {"no end", "a century", "half a year"}
NOT_NOW = {"ended", "not yet", "never"}
ELSEWHERE = {"an IPv4 source as IPv6"}  # we come from another address


def is_read(keygen: Path, folder: Path, text: str) -> bool:
    (folder / "x-cert.pub").write_text(text + "\n")
    done = subprocess.run([keygen, "-L", "-f", folder / "x-cert.pub"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("name", [*FOUND, *UNREADABLE])
def test_ssh_keygen_reads_what_the_linter_reads(programs: Mapping[str, Path], tmp_path: Path, name: str):
    text = line(FOUND[name][0].blob() if name in FOUND else UNREADABLE[name])
    try:
        found = {each.code for each in lint(read_loosely(text), 0)}
    except FormatError:
        found = {"unreadable"}
    refused = {"unreadable", "many-principals", "unknown-type", "zero-byte", "signed-by-certificate", "bad-signature"}
    refused |= {"unknown-key", "bad-option", "bad-extension"}
    assert is_read(programs["ssh-keygen"], tmp_path, text) == found.isdisjoint(refused)


def test_nothing_that_ssh_keygen_reads_is_unreadable(programs: Mapping[str, Path], tmp_path: Path):
    ca = made(Algorithm.ED25519, 9)
    inputs = [signed(body(key=made(a).public, ca=ca.public), ca).blob for a in Algorithm]
    inputs += [raw.blob() for raw, _, _ in FOUND.values()]

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(inputs), st.lists(change, min_size=1, max_size=2))
    def run(data: bytes, steps: list[tuple[str, int, object]]) -> None:
        for step in steps:
            data = changed(data, step, inputs)
        try:
            text = line(data)
        except (struct.error, UnicodeDecodeError):  # no type in front: no line can be made of it
            return
        try:
            lint(read_loosely(text), 0)
        except FormatError:
            assert not is_read(programs["ssh-keygen"], tmp_path, text)

    run()


Start = Callable[..., LocalHost]


def test_a_stock_sshd_refuses_what_the_linter_says(start_sshd: Start, tmp_path: Path):
    """All at once: one sshd, one login for each certificate. It trusts the authority, and has no principals file."""
    host = start_sshd("web1", "ubuntu")
    write(host, "sshd_config.d/10-ca.conf", f"TrustedUserCAKeys {host.etc}/ca.pub\n")
    write(host, "ca.pub", CA.public.line() + "\n")
    host.reload()
    now = int(time.time())
    wrong = {}
    for name, (raw, _, severity) in FOUND.items():
        if raw.type == 2 or severity is Severity.NOTE:  # for a host: ssh does not even offer it
            continue
        chosen = at_now(name, raw, now)
        read = read_loosely(line(chosen.blob()))
        findings = lint(read, now)
        expected = b"ubuntu" in read.principals and not any(each.refused_by((9, 2)) for each in findings)
        expected = expected and name not in NOT_NOW | ELSEWHERE
        if logs_in(host, tmp_path, chosen) != expected:
            wrong[name] = expected
    assert wrong == {}


def at_now(name: str, raw: Raw, now: int) -> Raw:
    """The same certificate for the login that there is, and for now, but for what it is about."""
    if raw.principals == sound().principals:
        raw = raw.but(principals=strings(b"ubuntu"))
    match name:
        case "never":
            return raw
        case "ended":
            return raw.but(after=now - 60, before=now - 9)
        case "not yet":
            return raw.but(after=now + 500, before=now + 900)
        case "since 1970":
            return raw.but(before=now + 900)
    return raw.but(after=now - 60) if name in TIME else raw.but(after=now - 60, before=now + 900)


def logs_in(host: LocalHost, folder: Path, raw: Raw) -> bool:
    (folder / "id").write_bytes(dump_private_key(PERSON).reveal())
    (folder / "id").chmod(0o600)
    (folder / "id-cert.pub").write_text(line(raw.blob()) + "\n")
    (folder / "known_hosts").write_text(f"[{host.address}]:{host.port} {host.host_key}\n")
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "CertificateFile": str(folder / "id-cert.pub"),
        "LogLevel": "ERROR",
    }
    told = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    where = ["-p", str(host.port), f"ubuntu@{host.address}", "true"]
    done = subprocess.run(
        ["ssh", "-F", "none", "-i", folder / "id", *told, *where],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0


def version_of(programs: Mapping[str, Path]) -> tuple[int, int]:
    done = subprocess.run([programs["ssh"], "-V"], capture_output=True, text=True, check=True)
    found = re.search(r"OpenSSH_([0-9]+)\.([0-9]+)", done.stderr)
    assert found
    return int(found[1]), int(found[2])


def test_a_certificate_that_names_nobody_is_a_danger(start_sshd: Start, programs: Mapping[str, Path], tmp_path: Path):
    """In authorized_keys, where other authorities stand: it opens every login there."""
    host = start_sshd("web1", "ubuntu")
    folder = host.etc.parent / "home/ubuntu/.ssh"
    folder.mkdir(exist_ok=True)
    (folder / "authorized_keys").write_text(f"cert-authority {CA.public.line()}\n")
    now = int(time.time())
    raw = sound().but(principals=b"", after=now - 60, before=now + 900)
    assert "no-principals" in {each.code for each in lint(read_loosely(line(raw.blob())), now)}
    assert logs_in(host, tmp_path, raw) == (version_of(programs) < (10, 3))
    assert not logs_in(host, tmp_path, raw.but(principals=strings(b"nobody")))
