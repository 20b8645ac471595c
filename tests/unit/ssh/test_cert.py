import dataclasses
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ssh.bodies import bodies
from tests.unit.ssh.made import made, rsa_key, software_key, string
from tests.unit.ssh.raw import FOREVER, option, sound, strings, subject

from jitgate.ssh.cert import (
    Certificate,
    CertificateBody,
    CertType,
    Untrusted,
    check_trusted,
    join,
    parse_certificate,
    parse_certificate_line,
    parse_to_be_signed,
    to_be_signed,
)
from jitgate.ssh.pubkey import Algorithm, BadSignature, parse_public_key, parse_public_key_line
from jitgate.ssh.wire import FormatError

NONCE = bytes(range(32))
CA = made(Algorithm.ED25519, 9)


def body(**changes: object) -> CertificateBody:
    fields: dict[str, object] = {
        "type": CertType.USER,
        "key": made(Algorithm.ED25519, 2).public,
        "serial": 5,
        "key_id": "jitgate grant=01 person=al",
        "principals": ("root@host:web1",),
        "valid_after": 1_800_000_000,
        "valid_before": 1_800_000_900,
        "critical_options": (),
        "extensions": (),
        "ca": CA.public,
    }
    return CertificateBody(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


def signed(this: CertificateBody, ca=CA) -> Certificate:
    tbs = to_be_signed(this, NONCE)
    return join(tbs, ca.sign(tbs))


# reading and writing


def test_the_bytes_are_those_of_the_specification():
    full = body(
        critical_options=(("force-command", "uptime"), ("source-address", "192.0.2.0/24,2001:db8::/32")),
        extensions=(("grant@example.org", "01J"), ("permit-pty", "")),
        principals=("root@host:web1", "deploy@env:prod"),
    )
    raw = sound().but(
        principals=strings(b"root@host:web1", b"deploy@env:prod"),
        critical=option(b"force-command", b"uptime") + option(b"source-address", b"192.0.2.0/24,2001:db8::/32"),
        extensions=option(b"grant@example.org", b"01J") + option(b"permit-pty"),
    )
    assert to_be_signed(full, NONCE) == raw.tbs()
    assert parse_to_be_signed(raw.tbs()) == (full, NONCE)
    assert parse_certificate(raw.blob()) == join(raw.tbs(), CA.sign(raw.tbs()))


@pytest.mark.parametrize("kind", CertType)
@pytest.mark.parametrize("ca", Algorithm)
@pytest.mark.parametrize("key", Algorithm)
def test_certificates_of_every_key_by_every_authority(key, ca, kind):
    authority, holder = made(ca, 9), made(key).public
    cert = signed(body(type=kind, key=holder, ca=authority.public, principals=("web1.example.org",)), authority)
    assert parse_certificate(cert.blob) == cert
    assert parse_certificate_line(cert.line("al@laptop") + "\n") == cert
    assert cert.fingerprint == holder.fingerprint
    assert cert.body.key.application == ("ssh:" if key.is_sk else None)
    check_trusted(cert, [CA.public, authority.public])


def test_a_certificate_cut_anywhere_or_with_bytes_added_is_refused():
    blob = signed(body()).blob
    for i in range(len(blob)):
        with pytest.raises(FormatError):
            parse_certificate(blob[:i])
    for tail in (b"\x00", bytes(4)):
        with pytest.raises(FormatError, match="left over"):
            parse_certificate(blob + tail)
        with pytest.raises(FormatError, match="left over"):
            parse_to_be_signed(to_be_signed(body(), NONCE) + tail)


def test_a_certificate_with_any_byte_changed_is_refused():
    blob = signed(body(extensions=(("permit-pty", ""),))).blob
    for i in range(len(blob)):
        with pytest.raises((FormatError, BadSignature)):
            parse_certificate(blob[:i] + bytes([blob[i] ^ 1]) + blob[i + 1 :])


def test_a_certificate_line_says_what_it_holds():
    cert = signed(body())
    with pytest.raises(FormatError, match="says 'ssh-rsa-cert"):
        parse_certificate_line(cert.line().replace("ssh-ed25519-cert", "ssh-rsa-cert", 1))
    with pytest.raises(FormatError):
        parse_certificate_line(made(Algorithm.ED25519).public.line())
    with pytest.raises(FormatError):
        parse_certificate_line('cert-authority,principals="x" ' + cert.line())
    with pytest.raises(FormatError):
        cert.line("a\nb")


# trust


def test_the_signature_must_be_by_the_authority_that_is_named():
    tbs = to_be_signed(body(), NONCE)
    with pytest.raises(BadSignature):
        join(tbs, made(Algorithm.ED25519, 3).sign(tbs))
    with pytest.raises(BadSignature):
        join(tbs, CA.sign(tbs + b"."))
    with pytest.raises(BadSignature):
        Certificate(body(serial=6), NONCE, CA.sign(tbs))


def test_a_good_signature_by_a_stranger_is_no_trust():
    stranger = made(Algorithm.ED25519, 3)
    cert = signed(body(ca=stranger.public), stranger)
    for authorities in ([], [CA.public], {CA.public}):
        with pytest.raises(Untrusted):
            check_trusted(cert, authorities)
    check_trusted(cert, {stranger.public})


def test_a_certificate_is_never_an_authority():
    """CVE-2025-49825: a certificate in the place of the authority's key, whoever signed it."""
    holder = made(Algorithm.ED25519, 2)
    nested = signed(body()).blob  # for `holder`, by the true authority
    raw = sound().but(ca=holder, ca_blob=nested, **subject(Algorithm.ECDSA_256))
    with pytest.raises(FormatError, match="a certificate where a plain key belongs"):
        parse_certificate(raw.blob())
    with pytest.raises(FormatError, match="a certificate where a plain key belongs"):
        parse_public_key(nested)
    with pytest.raises(FormatError, match="a certificate where a plain key belongs"):
        parse_public_key_line(signed(body()).line())


def test_a_certificate_is_never_a_subject():
    nested = signed(body()).blob
    with pytest.raises(FormatError):
        parse_certificate(sound().but(subject=string(nested)).blob())


def test_a_holder_of_a_certificate_cannot_sign_another():
    holder = made(Algorithm.ED25519, 2)
    forged = signed(body(key=made(Algorithm.ED25519, 4).public, ca=holder.public), holder)
    with pytest.raises(Untrusted):
        check_trusted(forged, [CA.public])


def test_an_authority_does_not_certify_itself():
    with pytest.raises(FormatError, match="own authority"):
        body(key=CA.public)


def test_an_rsa_authority_signs_with_sha2_only():
    ca = software_key(Algorithm.RSA, 0).public
    tbs = to_be_signed(body(ca=ca), NONCE)
    join(tbs, string(b"rsa-sha2-256") + string(rsa_key(0).sign(tbs, PKCS1v15(), SHA256())))
    for name in (b"ssh-rsa", b"rsa-sha2-256"):
        with pytest.raises(BadSignature):
            join(tbs, string(name) + string(rsa_key(0).sign(tbs, PKCS1v15(), SHA1())))


def test_a_weak_rsa_key_is_neither_subject_nor_authority():
    weak = string(b"\x01\x00\x01") + string(b"\x00" + b"\x80" + bytes(254) + b"\x01")
    with pytest.raises(FormatError, match="2048 bits"):
        parse_certificate(sound().but(kind=b"ssh-rsa-cert-v01@openssh.com", subject=weak).blob())
    with pytest.raises(FormatError, match="2048 bits"):
        parse_certificate(sound().but(ca_blob=string(b"ssh-rsa") + weak).blob())


# incidents and other people's defaults: each as bytes that somebody signed, and as values

PRINCIPALS_REFUSED: list[tuple[str, ...]] = [
    (),  # CVE-2024-7594: valid for anybody
    ("",),
    (" ",),
    ("root", ""),
    ("root,admin",),  # CVE-2026-35414, GHSA-59w7-v8rr-pr4p
    ("*",),
    ("web*",),
    ("web?",),
    ("!root",),
    ("root root",),
    (" root",),
    ("root\n",),
    ("root\x00",),
    ("root\t",),
    ("root\x7f",),
    ("röot",),
    ("rооt",),  # Cyrillic o  # noqa: RUF001
    ('"root"',),
    ("'root'",),
    ("`id`",),
    ("$(id)",),
    ("%u",),
    ("a\\b",),
    ("#root",),
    ("-root",),
    ("@root",),
    ("a/b",),
    ("a;b",),
    ("a" * 256,),
    ("root", "root"),
    tuple(f"u{i}" for i in range(257)),
]


@pytest.mark.parametrize("principals", PRINCIPALS_REFUSED, ids=lambda p: ascii(p)[:30])
@pytest.mark.parametrize("kind", CertType)
def test_principals_that_are_refused(principals, kind):
    with pytest.raises(FormatError, match="principal"):
        body(principals=principals, type=kind)
    raw = sound().but(principals=strings(*(p.encode() for p in principals)), type=kind.value)
    with pytest.raises(FormatError, match="principal"):
        parse_certificate(raw.blob())


@pytest.mark.parametrize(
    "principals",
    [
        ("root",),
        ("_x",),
        ("0",),
        ("login@host:web1",),
        ("al.b+c@example.org",),
        ("rec@01J5Z",),
        ("2001:db8::1",),
        ("a" * 255,),
        tuple(f"u{i}" for i in range(256)),
    ],
    ids=lambda p: p[0][:20],
)
def test_principals_that_are_taken_in_their_order(principals):
    backwards = principals[::-1]
    assert parse_certificate(signed(body(principals=backwards)).blob).body.principals == backwards


@pytest.mark.parametrize(
    "name",
    ["localhost", "LocalHost", "localhost.localdomain", "web1.localhost", "127.0.0.1", "127.8.9.1", "localhost."],
)
def test_no_host_certificate_for_everybodys_own_machine(name):
    with pytest.raises(FormatError, match="own machine"):
        body(type=CertType.HOST, principals=("web1.example.org", name))
    body(principals=(name,))  # a user's principal is not a host's name


@pytest.mark.parametrize("name", ["localhosts", "web1", "mylocalhost", "128.0.0.1"])
def test_host_names_that_only_look_like_it(name):
    body(type=CertType.HOST, principals=(name,))


@pytest.mark.parametrize(
    ("serial", "taken"), [(0, False), (1, True), (2**63 - 1, True), (2**63, False), (2**64 - 1, False)]
)
def test_serials(serial, taken):
    blob = sound().but(serial=serial).blob()
    if taken:
        assert parse_certificate(blob).body == body(serial=serial)
        return
    with pytest.raises(FormatError, match="serial"):
        parse_certificate(blob)
    with pytest.raises(FormatError, match="serial"):
        body(serial=serial)


@pytest.mark.parametrize("serial", [-1, 2**64])
def test_serials_that_have_no_bytes(serial):
    with pytest.raises(FormatError, match="serial"):
        body(serial=serial)


YEAR_10000 = 253_402_300_800


@pytest.mark.parametrize(
    ("after", "before", "taken"),
    [
        (0, 1, True),
        (10, 10, False),
        (11, 10, False),
        (0, 0, False),
        (0, FOREVER, False),
        (0, FOREVER - 1, False),
        (0, 2**63 - 1, False),
        (5, YEAR_10000, False),
        (5, YEAR_10000 - 1, True),
        (FOREVER, FOREVER, False),
    ],
)
def test_validity_always_ends(after, before, taken):
    blob = sound().but(after=after, before=before).blob()
    if taken:
        assert parse_certificate(blob).body == body(valid_after=after, valid_before=before)
        return
    with pytest.raises(FormatError, match="validity"):
        parse_certificate(blob)
    with pytest.raises(FormatError, match="validity"):
        body(valid_after=after, valid_before=before)


def test_a_negative_time_is_refused():
    with pytest.raises(FormatError, match="validity"):
        body(valid_after=-1)


@pytest.mark.parametrize("key_id", ["", " ", "a\nb", "a\x00", "\x1b[2J", "é", " a", "a ", "a" * 256, "a\x7f"])
def test_key_ids_that_are_refused(key_id):
    with pytest.raises(FormatError, match="key id"):
        body(key_id=key_id)
    with pytest.raises(FormatError, match="key id"):
        parse_certificate(sound().but(key_id=key_id.encode()).blob())


@pytest.mark.parametrize("key_id", ["a", "a b", "!~", "a" * 255, "jitgate grant=01J person=al.b@example.org"])
def test_key_ids_that_are_taken(key_id):
    assert parse_certificate(sound().but(key_id=key_id.encode()).blob()).body.key_id == key_id


@pytest.mark.parametrize("kind", [0, 3, 2**32 - 1])
def test_neither_user_nor_host(kind):
    with pytest.raises(FormatError, match="neither"):
        parse_certificate(sound().but(type=kind).blob())


def test_a_user_certificate_is_not_a_host_certificate_by_a_bit():
    blob = signed(body()).blob
    at = blob.index(struct.pack(">QI", 5, 1)) + 11
    with pytest.raises(BadSignature):
        parse_certificate(blob[:at] + b"\x02" + blob[at + 1 :])


@pytest.mark.parametrize(("size", "taken"), [(0, False), (15, False), (16, True), (64, True), (65, False)])
def test_nonces(size, taken):
    if taken:
        assert parse_certificate(sound().but(nonce=bytes(size)).blob()).nonce == bytes(size)
        return
    with pytest.raises(FormatError, match="nonce"):
        parse_certificate(sound().but(nonce=bytes(size)).blob())
    with pytest.raises(FormatError, match="nonce"):
        to_be_signed(body(), bytes(size))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": b"ssh-ed25519"}, "not a certificate type"),
        ({"kind": b"ssh-ed25519-cert-v00@openssh.com"}, "not a certificate type"),
        ({"kind": b"ssh-dss-cert-v01@openssh.com"}, "not a certificate type"),
        ({"kind": b"rsa-sha2-512-cert-v01@openssh.com"}, "not a certificate type"),
        ({"kind": b"sk-ssh-ed25519-cert-v01@openssh.com"}, "."),  # another number of fields
        ({"reserved": b"x"}, "reserved"),
        ({"tail": b"x"}, "."),
        ({"principals": b"root"}, "a string has"),
        ({"principals": strings(b"root") + b"\x00"}, "middle of a value"),
        ({"principals": strings(b"\xff\xfe")}, "not UTF-8"),
        ({"ca_blob": b"x"}, "middle of a value"),
        ({"ca_blob": made(Algorithm.ED25519, 9).public.blob + b"x"}, "left over"),
    ],
    ids=str,
)
def test_bytes_in_another_form_are_refused(changes, words):
    with pytest.raises(FormatError, match=words):
        parse_certificate(sound().but(**changes).blob())


def test_what_is_too_long_is_not_looked_at():
    for parse in (parse_certificate, parse_to_be_signed):
        with pytest.raises(FormatError, match="not a certificate type"):
            parse(bytes(131072))
        with pytest.raises(FormatError, match="more than 131072"):
            parse(bytes(131073))
    with pytest.raises(FormatError, match="too many"):
        parse_certificate_line("ssh-ed25519-cert-v01@openssh.com " + "A" * 200_000)


def test_no_more_principals_are_read_than_are_taken():
    for count in (257, 10_000):
        with pytest.raises(FormatError, match="to read than 256"):
            parse_certificate(sound().but(principals=strings(*(b"%d" % i for i in range(count)))).blob())


@pytest.mark.parametrize("value", [body(), signed(body()), CA.public], ids=lambda value: type(value).__name__)
def test_what_was_checked_cannot_be_changed(value):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))


def test_the_largest_certificate_that_we_make_is_one_that_we_take():
    widest = body(
        key=made(Algorithm.RSA).public,
        principals=tuple(f"{i:0255}" for i in range(256)),
        critical_options=(("force-command", "x" * 4096),),
        extensions=tuple((f"{i:03}@example.org", "y" * 1024) for i in range(32)),
    )
    cert = signed(widest)
    assert parse_certificate_line(cert.line()) == cert


@given(bodies(), st.binary(min_size=16, max_size=64))
def test_any_certificate_is_read_as_it_was_written(pair, nonce):
    this, authority = pair
    tbs = to_be_signed(this, nonce)
    assert parse_to_be_signed(tbs) == (this, nonce)
    cert = join(tbs, authority.sign(tbs))
    assert cert.body == this
    assert parse_certificate(cert.blob) == cert
    assert parse_certificate_line(cert.line()) == cert
