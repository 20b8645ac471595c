"""The linter: each danger is found in a certificate made by hand, and nothing is found where nothing is wrong."""

import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA512
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ssh.bodies import bodies
from tests.unit.ssh.made import Made, made, number, string
from tests.unit.ssh.raw import FOREVER, Raw, option, sound, strings, subject
from tests.unit.ssh.test_cert import signed

from jitgate.ssh.lint import Severity, lint
from jitgate.ssh.loose import read_loosely
from jitgate.ssh.pubkey import Algorithm, PublicKey
from jitgate.ssh.wire import FormatError, to_base64

NOW = 1_800_000_100


def line(blob: bytes, kind: str = "") -> str:
    name = blob[4 : 4 + struct.unpack(">I", blob[:4])[0]].decode()
    return f"{kind or name} {to_base64(blob)} somebody"


def codes(raw: Raw, now: int = NOW) -> dict[str, Severity]:
    return {each.code: each.severity for each in lint(read_loosely(line(raw.blob())), now)}


def host(**changes: object) -> Raw:
    return sound().but(type=2, principals=strings(b"web1.example.org"), **changes)


FLAG = b"\0\0\0\0"
NOTHING = strings()
PRINCIPALS = strings(*(b"u%d" % n for n in range(257)))
S = Severity

FOUND: dict[str, tuple[Raw, str, Severity]] = {
    "no principals": (sound().but(principals=b""), "no-principals", S.DANGER),
    "no host": (host().but(principals=b""), "no-principals", S.DANGER),
    "an empty principal": (sound().but(principals=strings(b"")), "empty-principal", S.DANGER),
    "a comma": (sound().but(principals=strings(b"a,root")), "comma", S.DANGER),
    "a wildcard": (sound().but(principals=strings(b"*")), "wildcard", S.WARNING),
    "a wildcard for hosts": (host().but(principals=strings(b"*.example.org")), "wildcard", S.WARNING),
    "a wildcard for all hosts": (host().but(principals=strings(b"*")), "wildcard", S.DANGER),
    "a space": (sound().but(principals=strings(b"a b")), "odd-principal", S.WARNING),
    "no ASCII": (sound().but(principals=strings("rööt".encode())), "odd-principal", S.WARNING),
    "a newline": (sound().but(principals=strings(b"a\nb")), "odd-principal", S.WARNING),
    "no UTF-8": (sound().but(principals=strings(b"a\xff")), "odd-principal", S.WARNING),
    "a zero byte": (sound().but(principals=strings(b"root\0x")), "zero-byte", S.BROKEN),
    "root": (sound().but(principals=strings(b"root")), "root", S.WARNING),
    "a plain login": (sound().but(principals=strings(b"ubuntu")), "plain-login", S.NOTE),
    "a principal twice": (sound().but(principals=strings(b"a@b", b"a@b")), "principal-twice", S.NOTE),
    "too many principals": (sound().but(principals=PRINCIPALS), "many-principals", S.BROKEN),
    "localhost": (host().but(principals=strings(b"localhost")), "loopback", S.DANGER),
    "LocalHost.": (host().but(principals=strings(b"LocalHost.")), "loopback", S.DANGER),
    "localhost's domain": (host().but(principals=strings(b"localhost.localdomain")), "loopback", S.DANGER),
    "127.0.0.1": (host().but(principals=strings(b"127.0.0.1")), "loopback", S.DANGER),
    "::1": (host().but(principals=strings(b"::1")), "loopback", S.DANGER),
    "upper case": (host().but(principals=strings(b"Web1.example.org")), "upper-case", S.NOTE),
    "serial 0": (sound().but(serial=0), "serial-0", S.WARNING),
    "no key id": (sound().but(key_id=b""), "no-key-id", S.WARNING),
    "an escape in the key id": (sound().but(key_id=b"al\x1b[2J"), "odd-key-id", S.WARNING),
    "no end": (sound().but(before=FOREVER), "no-end", S.DANGER),
    "a century": (sound().but(before=1_800_000_000 + 100 * 365 * 86_400), "no-end", S.DANGER),
    "half a year": (sound().but(before=1_800_000_000 + 180 * 86_400), "long", S.WARNING),
    "a host's two years": (host().but(before=1_800_000_000 + 730 * 86_400), "long", S.WARNING),
    "since 1970": (sound().but(after=0), "no-start", S.NOTE),
    "ended": (sound().but(before=NOW), "ended", S.NOTE),
    "not yet": (sound().but(after=NOW + 1), "not-yet", S.NOTE),
    "never": (sound().but(after=9, before=9), "never-valid", S.BROKEN),
    "another option": (sound().but(critical=option(b"x@y", b"z")), "unknown-option", S.BROKEN),
    "an option of a host": (host().but(critical=option(b"force-command", b"id")), "host-option", S.BROKEN),
    "an option twice": (sound().but(critical=option(b"force-command", b"id") * 2), "option-twice", S.BROKEN),
    "an option without data": (sound().but(critical=option(b"force-command")), "bad-option", S.BROKEN),
    "an option with more": (
        sound().but(critical=string(b"force-command") + string(string(b"id") + b"x")),
        "bad-option",
        S.BROKEN,
    ),
    "a command": (sound().but(critical=option(b"force-command", b"id")), "outranked", S.NOTE),
    "an empty command": (sound().but(critical=option(b"force-command", b"")), "empty-command", S.WARNING),
    "a command and forwarding": (
        sound().but(critical=option(b"force-command", b"id"), extensions=option(b"permit-port-forwarding")),
        "forwards-past-command",
        S.DANGER,
    ),
    "any source": (sound().but(critical=option(b"source-address", b"0.0.0.0/0")), "any-source", S.WARNING),
    "an IPv4 source as IPv6": (
        sound().but(critical=option(b"source-address", b"::ffff:192.0.2.1/128")),
        "mapped-source",
        S.WARNING,
    ),
    "a PIN for no security key": (sound().but(critical=option(b"verify-required")), "no-security-key", S.WARNING),
    "a PIN": (sound().but(critical=option(b"verify-required")), "verify-required", S.NOTE),
    "another extension": (sound().but(extensions=option(b"login@github.com", b"al")), "unknown-extension", S.NOTE),
    "a flag with data": (sound().but(extensions=option(b"permit-pty", b"1")), "bad-extension", S.BROKEN),
    "options out of order": (
        sound().but(extensions=option(b"permit-pty") + option(b"a@b")),
        "unordered",
        S.NOTE,
    ),
    "a short nonce": (sound().but(nonce=b"123"), "short-nonce", S.WARNING),
    "something reserved": (sound().but(reserved=b"x"), "reserved", S.NOTE),
    "neither": (sound().but(type=3), "unknown-type", S.BROKEN),
    "a certificate as its authority": (sound().but(ca_blob=sound().blob()), "signed-by-certificate", S.DANGER),
    "another's signature": (sound().but(ca_blob=made(Algorithm.ED25519, 5).public.blob), "bad-signature", S.DANGER),
    "an authority of no type": (sound().but(ca_blob=string(b"ssh-xyz") + string(b"x")), "unknown-key", S.BROKEN),
}
FOUND |= {
    f"source {text}": (sound().but(critical=option(b"source-address", text.encode())), "bad-source", S.BROKEN)
    for text in (
        "192.0.2.1/24",
        "2001:db8::1/64",
        "192.0.2.0/24,",
        "192.0.2.0/24, 192.0.3.0/24",
        "web1",
        "::/129",
    )
}
FOUND |= {
    name: (sound().but(extensions=option(name.encode())), name, S.WARNING)
    for name in ("permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "no-touch-required")
}


@pytest.mark.parametrize(("raw", "code", "severity"), FOUND.values(), ids=FOUND)
def test_it_is_found(raw: Raw, code: str, severity: Severity):
    found = codes(raw)
    assert found[code] is severity
    assert max(found.values()) is severity or code in ("verify-required", "not-yet", "ended", "no-start")


def test_nothing_is_found_where_nothing_is_wrong():
    assert codes(sound()) == {}
    assert codes(host()) == {}
    narrow = sound().but(
        critical=option(b"source-address", b"192.0.2.0/24,2001:db8::/32,203.0.113.9"), extensions=option(b"permit-pty")
    )
    assert codes(narrow) == {}


@settings(max_examples=60)
@given(st.data())
def test_what_our_authority_signs_is_read_and_never_dangerous_by_itself(data):
    """But for what a role has to switch on, and for how long."""
    chosen, ca = data.draw(bodies())
    read = read_loosely(signed(chosen, ca).line())
    assert read.signature_holds is True
    assert (read.serial, [p.decode() for p in read.principals]) == (chosen.serial, list(chosen.principals))
    found = {each.code for each in lint(read, NOW) if each.severity >= Severity.BROKEN}
    assert found <= {"no-end", "forwards-past-command"}


# Authorities that ours does not take


def rsa_made(bits: int, name: bytes = b"rsa-sha2-512") -> Made:
    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    blob = string(b"ssh-rsa") + number(numbers.e) + number(numbers.n)
    hashed = SHA1() if name == b"ssh-rsa" else SHA512()
    public = object.__new__(PublicKey)
    object.__setattr__(public, "algorithm", Algorithm.RSA)
    object.__setattr__(public, "blob", blob)
    return Made(public, lambda data: string(name) + string(private.sign(data, PKCS1v15(), hashed)))


@pytest.mark.parametrize(
    ("ca", "code", "severity"),
    [
        pytest.param(rsa_made(1024), "weak-key", S.DANGER, id="RSA 1024"),
        pytest.param(rsa_made(1536), "weak-key", S.DANGER, id="RSA 1536"),
        pytest.param(rsa_made(2048), "short-key", S.WARNING, id="RSA 2048"),
        pytest.param(rsa_made(2048, b"ssh-rsa"), "sha1", S.DANGER, id="SHA-1"),
    ],
)
def test_weak_authorities(ca: Made, code: str, severity: Severity):
    raw = sound().but(ca=ca)
    assert read_loosely(line(raw.blob())).signature_holds is True
    assert codes(raw)[code] is severity
    assert codes(raw.but(ca_blob=rsa_made(1024).public.blob))["bad-signature"] is S.DANGER


def test_a_signature_by_no_algorithm():
    assert codes(sound().but(ca=rsa_made(2048, b"rsa-sha3-512")))["bad-signature"] is S.DANGER


def test_weak_subjects():
    short = rsa_made(1024).public.blob[4 + 7 :]
    raw = sound().but(kind=b"ssh-rsa-cert-v01@openssh.com", subject=short)
    assert codes(raw)["weak-key"] is S.DANGER
    dsa = raw.but(kind=b"ssh-dss-cert-v01@openssh.com", subject=number(1 << 1023) + number(7) + number(2) + number(3))
    assert codes(dsa)["dsa"] is S.DANGER
    own = sound().but(subject=sound().ca.public.blob[4 + 11 :])
    assert codes(own)["own-authority"] is S.DANGER


def test_security_keys_are_new():
    for algorithm in (Algorithm.SK_ED25519, Algorithm.SK_ECDSA_256):
        (found,) = lint(read_loosely(line(sound().but(**subject(algorithm)).blob())), NOW)
        assert (found.code, found.versions) == ("sk-key", "refused before 8.2")
        assert (found.refused_by((7, 9)), found.refused_by((8, 2))) == (True, False)


def test_which_versions_refuse():
    sha1 = next(each for each in lint(read_loosely(line(sound().but(ca=rsa_made(2048, b"ssh-rsa")).blob())), NOW))
    assert (sha1.code, sha1.versions) == ("sha1", "refused from 8.2 on")
    assert [sha1.refused_by(version) for version in ((7, 4), (8, 1), (8, 2), (10, 0))] == [False, False, True, True]


def test_a_line_that_says_another_type():
    certificate = read_loosely(line(sound().blob(), "ssh-rsa-cert-v01@openssh.com"))
    assert {each.code for each in lint(certificate, NOW)} == {"type-mismatch"}
    left = read_loosely(line(sound().blob() + b"x"))
    assert {each.code for each in lint(left, NOW)} == {"left-over"}


UNREADABLE = {
    "a key": made(Algorithm.ED25519).public.blob,
    "the form of 2010": string(b"ssh-rsa-cert-v00@openssh.com") + string(b"x"),
    "another form": string(b"ssh-ed25519-cert-v02@openssh.com") + string(b"x"),
    "cut": sound().blob()[:-90],
    "an option without data": sound().but(critical=string(b"force-command")).blob(),
    "no authority": sound().but(ca_blob=b"x").blob(),
}


@pytest.mark.parametrize("blob", UNREADABLE.values(), ids=UNREADABLE)
def test_what_no_sshd_reads(blob: bytes):
    with pytest.raises(FormatError):
        read_loosely(line(blob))


def test_empty_lists_are_no_principals():
    assert read_loosely(line(sound().but(principals=NOTHING).blob())).principals == ()
    assert read_loosely(line(sound().but(principals=FLAG).blob())).principals == (b"",)
