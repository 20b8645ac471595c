"""Revocation lists: ours read by ssh-keygen, which is what sshd reads them with, and its by us."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.test_targets import change, changed
from tests.unit.ssh.krls import CAS, KEYS, krls
from tests.unit.ssh.made import made
from tests.unit.ssh.test_cert import body, signed
from tests.unit.ssh.test_krl import REFUSED

from jitgate.ssh.cert import Certificate
from jitgate.ssh.krl import Certificates, Krl, dump_krl, merge, parse_krl
from jitgate.ssh.krl_serials import LAST_SERIAL, Serials
from jitgate.ssh.pubkey import Algorithm, parse_public_key
from jitgate.ssh.wire import FormatError

Keygen = Callable[..., "subprocess.CompletedProcess[str]"]
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BAD = 255


@pytest.fixture
def keygen(programs: Mapping[str, Path], tmp_path: Path) -> Keygen:
    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [programs["ssh-keygen"], *arguments],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            text=True,
            errors="surrogateescape",
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )

    return run


def listed(shown: str) -> dict[str, list[tuple[int, int]]]:
    """The serials that `ssh-keygen -Q -l` names, by the authority's fingerprint (empty: all of them)."""
    found: dict[str, list[tuple[int, int]]] = {}
    ca = ""
    for line in shown.splitlines():
        if line.startswith(("# CA key ", "# Wildcard CA")):
            ca = line.split()[-1] if "SHA256:" in line else ""
        elif match := re.fullmatch(r"serial: (\d+)(?:-(\d+))?", line):
            found.setdefault(ca, []).append((int(match[1]), int(match[2] or match[1])))
    return found


def serials_of(krl: Krl) -> dict[str, list[tuple[int, int]]]:
    return {
        parse_public_key(ca).fingerprint if ca else "": list(some.serials)
        for ca, some in krl.certificates.items()
        if some.serials
    }


def test_ours_says_to_ssh_keygen_what_it_says_to_us(keygen, tmp_path):
    @SLOW
    @given(krls(extensions=False))
    def run(krl: Krl) -> None:
        (tmp_path / "krl").write_bytes(dump_krl(krl))
        done = keygen("-Q", "-l", "-f", "krl")
        assert done.returncode == 0, done.stderr
        assert listed(done.stdout) == serials_of(krl)
        assert f"# KRL version {krl.version}\n" in done.stdout
        assert done.stdout.count("\nid: ") == sum(len(some.key_ids) for some in krl.certificates.values())
        hashes = re.findall(r"^(?:# )?hash:? SHA", done.stdout, re.MULTILINE)
        assert len(hashes) == len(krl.keys) + len(krl.sha1) + len(krl.sha256)

    run()


def test_a_million_serials_are_read(keygen, tmp_path):
    ca, key = made(Algorithm.ED25519, 9), made(Algorithm.ED25519)
    serials = Serials((n * 3, n * 3 + n % 2) for n in range(1, 1_000_001))
    (tmp_path / "krl").write_bytes(dump_krl(Krl(certificates={ca.public.blob: Certificates(serials)})))
    asked = [1, 2, 3, 4, 5, 6, 7, 1_499_998, 1_499_999, 1_500_000, 2_999_999, 3_000_000, 3_000_001, 3_000_003]
    for serial in asked:
        certificate = signed(body(key=key.public, ca=ca.public, serial=serial), ca)
        (tmp_path / f"{serial}.pub").write_text(certificate.line() + "\n")
    done = keygen("-Q", "-f", "krl", *(f"{serial}.pub" for serial in asked))
    assert [line.endswith("REVOKED") for line in done.stdout.splitlines()] == [serial in serials for serial in asked]


def certificates() -> list[Certificate]:
    """Two keys, two authorities, serials and key ids around what the tests revoke."""
    keys = [made(a) for a in (Algorithm.ED25519, Algorithm.ECDSA_256)]
    cas = [made(a, 9) for a in (Algorithm.ED25519, Algorithm.ECDSA_256)]
    return [
        signed(body(key=key.public, ca=ca.public, serial=serial, key_id=f"id {serial % 3}"), ca)
        for key in keys
        for ca in cas
        for serial in (1, 5, 6, 2**63 - 1)
    ]


@pytest.mark.parametrize("theirs", [False, True], ids=["ours", "joined with theirs"])
def test_every_question_gets_ssh_keygens_answer(keygen, tmp_path, theirs):
    asked = certificates()
    for at, each in enumerate(asked):
        (tmp_path / f"{at}.pub").write_text(each.line() + "\n")
    ranges = st.lists(st.sampled_from([(1, 1), (5, 5), (6, 9), (2, 2**62), (2**63 - 1, LAST_SERIAL)]), max_size=2)
    some = st.builds(Certificates, ranges.map(Serials), st.frozensets(st.sampled_from([b"id 0", b"id 2", b"ID 1"])))
    chosen = st.dictionaries(st.sampled_from([*CAS, b""]), some, max_size=2)
    keys = st.frozensets(st.sampled_from([*KEYS, *CAS]), max_size=1)
    other = st.sampled_from(["serial: 6\n", "id: id 1\n", "serial: 1-5\nid: x\n"])

    @settings(SLOW, max_examples=12)
    @given(st.builds(Krl, certificates=chosen, keys=keys), other, st.sampled_from([0, 1]))
    def run(krl: Krl, text: str, ca: int) -> None:
        data = dump_krl(krl)
        if theirs:
            (tmp_path / "ca.pub").write_text(parse_public_key(CAS[ca]).line() + "\n")
            (tmp_path / "spec").write_text(text)
            assert keygen("-k", "-f", "theirs", "-s", "ca.pub", "spec").returncode == 0
            data = merge([data, (tmp_path / "theirs").read_bytes()], version=1, generated=1)
        (tmp_path / "krl").write_bytes(data)
        read = parse_krl(data)
        done = keygen("-Q", "-f", "krl", *(f"{at}.pub" for at in range(len(asked))))
        said = [line.endswith("REVOKED") for line in done.stdout.splitlines()]
        assert said == [
            read.has_certificate(each.body.key.blob, each.body.ca.blob, each.body.serial, each.body.key_id.encode())
            for each in asked
        ]

    run()


SPECS = {
    "serials": "serial: 3\nserial: 9-400\nserial: 0x10000\n" + "".join(f"serial: {7000 + n * 3}\n" for n in range(900)),
    "apart": "".join(f"serial: {n * n * 1000}\n" for n in range(1, 60)),
    "the last ones": "serial: 18446744073709551614-18446744073709551615\nserial: 1\n",
    "ids": "id: somebody's laptop\nid: jitgate grant=01 person=al\n",
    "keys": "key: {key}\n",
    "sha1": "sha1: {key}\n",
    "sha256": "sha256: {key}\n",
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("ca", [True, False], ids=["an authority", "all authorities"])
def test_theirs_says_to_us_what_it_says_to_ssh_keygen(keygen, tmp_path, name, ca):
    (tmp_path / "ca.pub").write_text(parse_public_key(CAS[0]).line() + "\n")
    (tmp_path / "spec").write_text(SPECS[name].format(key=parse_public_key(KEYS[0]).line()))
    made_ = keygen("-k", "-f", "theirs", "-z", "12", "-s", "ca.pub" if ca else "none", "spec")
    assert made_.returncode == 0, made_.stderr
    data = (tmp_path / "theirs").read_bytes()
    read = parse_krl(data)
    shown = keygen("-Q", "-l", "-f", "theirs").stdout
    assert (read.version, listed(shown)) == (12, serials_of(read))
    assert read.has_key(KEYS[0]) == name.startswith(("keys", "sha"))
    # written again in our forms, it is the same to ssh-keygen, and no longer
    ours = dump_krl(read)
    (tmp_path / "ours").write_bytes(ours)
    assert keygen("-Q", "-l", "-f", "ours").stdout == shown
    assert len(ours) <= len(data)


def test_what_we_take_ssh_keygen_takes(keygen, tmp_path):
    """A list that sshd cannot read locks everybody out: so we may refuse more than it, and never less."""
    whole = Krl(1, 2, b"x", {CAS[0]: Certificates(Serials([(1, 3), (40, 40), (90, 99), (900, 2**40)]))})
    inputs = [dump_krl(whole), dump_krl(Krl(keys=frozenset(KEYS[:2]), sha256=frozenset([b"2" * 32])))]

    @settings(SLOW, max_examples=150)
    @given(st.sampled_from(inputs), st.lists(change, min_size=1, max_size=2))
    def run(data: bytes, steps: list[tuple[str, int, object]]) -> None:
        for step in steps:
            data = changed(data, step, inputs)
        try:
            written = dump_krl(parse_krl(data))
        except FormatError:
            return
        if any(ca and ca != CAS[0] for ca in parse_krl(data).certificates):
            return  # whether it is the key of an authority, we do not ask
        (tmp_path / "krl").write_bytes(written)
        assert keygen("-Q", "-l", "-f", "krl").returncode == 0

    run()


@pytest.mark.parametrize("name", REFUSED)
def test_what_ssh_keygen_refuses_we_refuse(keygen, tmp_path, name):
    (tmp_path / "krl").write_bytes(REFUSED[name])
    (tmp_path / "key.pub").write_text(parse_public_key(KEYS[0]).line() + "\n")
    done = keygen("-Q", "-f", "krl", "key.pub")
    assert done.returncode == BAD, (done.stdout, done.stderr)
