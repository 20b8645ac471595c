import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1
from tests.unit.ssh.made import Made, SecurityKey, made, rsa_key, software_key, string
from tests.unit.ssh.test_cert import body, signed

from jitgate.ssh import sshsig
from jitgate.ssh.cert import to_be_signed
from jitgate.ssh.pubkey import Algorithm, BadSignature
from jitgate.ssh.wire import FormatError, put_string

SPACE = "request@example.org"
MESSAGE = b"open the door\n"


def blob(key: Made, space: str = SPACE, message: bytes = MESSAGE) -> bytes:
    return sshsig.encode(key.public, space, key.sign(sshsig.signed_bytes(space, message)))


def raw(key: Made, /, **changes: bytes) -> bytes:
    """Field by field, after OpenSSH PROTOCOL.sshsig; signed over what the fields say."""
    field = {
        "magic": b"SSHSIG",
        "version": b"\x00\x00\x00\x01",
        "key": key.public.blob,
        "space": SPACE.encode(),
        "reserved": b"",
        "hash": b"sha512",
        "tail": b"",
        **changes,
    }
    digest = {b"sha256": hashlib.sha256, b"sha1": hashlib.sha1}.get(field["hash"], hashlib.sha512)(MESSAGE).digest()
    signed_over = b"SSHSIG" + b"".join(map(string, (field["space"], field["reserved"], field["hash"], digest)))
    strings = (field["key"], field["space"], field["reserved"], field["hash"], key.sign(signed_over))
    return field["magic"] + field["version"] + b"".join(map(string, strings)) + field["tail"]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_names_its_key(algorithm):
    key = made(algorithm)
    assert sshsig.verify(blob(key), SPACE, MESSAGE) == key.public
    assert sshsig.verify(sshsig.dearmor(sshsig.armor(blob(key))), SPACE, MESSAGE) == key.public
    assert sshsig.verify(raw(key), SPACE, MESSAGE) == key.public
    assert sshsig.verify(raw(key, hash=b"sha256"), SPACE, MESSAGE) == key.public


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_is_for_one_message_and_one_namespace(algorithm):
    key = made(algorithm)
    with pytest.raises(BadSignature):
        sshsig.verify(blob(key), SPACE, MESSAGE + b" ")
    with pytest.raises(BadSignature, match="a signature for 'file'"):
        sshsig.verify(blob(key, "file"), SPACE, MESSAGE)
    # the label alone changed
    with pytest.raises(BadSignature, match="does not hold"):
        sshsig.verify(sshsig.encode(key.public, SPACE, key.sign(sshsig.signed_bytes("file", MESSAGE))), SPACE, MESSAGE)


def test_another_key_cannot_be_put_in_front():
    signer, other = made(Algorithm.ED25519), made(Algorithm.ED25519, 1)
    with pytest.raises(BadSignature):
        sshsig.verify(raw(signer, key=other.public.blob), SPACE, MESSAGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": b"SSHSIX"},
        {"version": b"\x00\x00\x00\x00"},
        {"version": b"\x00\x00\x00\x02"},
        {"reserved": b"x"},
        {"hash": b"sha1"},
        {"hash": b"SHA512"},
        {"hash": b""},
        {"tail": b"\x00"},
        {"key": b""},
        {"space": b"\xff"},
    ],
    ids=str,
)
def test_signatures_in_another_form_are_refused(changes):
    with pytest.raises(FormatError):
        sshsig.verify(raw(made(Algorithm.ED25519), **changes), SPACE, MESSAGE)


def test_a_certificate_in_place_of_the_key_is_refused():
    key = made(Algorithm.ED25519, 2)
    with pytest.raises(FormatError, match="a certificate where"):
        sshsig.verify(raw(key, key=signed(body()).blob), SPACE, MESSAGE)


def test_a_signature_cut_anywhere_is_refused():
    whole = blob(made(Algorithm.ED25519))
    for i in range(len(whole)):
        with pytest.raises(FormatError):
            sshsig.verify(whole[:i], SPACE, MESSAGE)


def test_what_is_too_long_is_not_looked_at():
    with pytest.raises(FormatError, match="more than"):
        sshsig.verify(bytes(sshsig.MAX_BLOB + 1), SPACE, MESSAGE)
    with pytest.raises(FormatError, match="not an SSH signature"):
        sshsig.verify(bytes(sshsig.MAX_BLOB), SPACE, MESSAGE)
    with pytest.raises(FormatError, match="too many"):
        sshsig.dearmor(sshsig.armor(bytes(sshsig.MAX_BLOB * 2)))


@pytest.mark.parametrize("space", ["", "a\nb", "é", "a\x00"])
def test_namespaces_that_are_refused(space):
    with pytest.raises(FormatError, match="namespace"):
        sshsig.signed_bytes(space, MESSAGE)
    with pytest.raises(FormatError, match="namespace"):
        sshsig.encode(made(Algorithm.ED25519).public, space, b"")
    with pytest.raises((FormatError, BadSignature)):
        sshsig.verify(raw(made(Algorithm.ED25519), space=space.encode()), space, MESSAGE)


def test_an_rsa_signature_by_sha1_is_refused():
    over = sshsig.signed_bytes(SPACE, MESSAGE)
    value = string(b"ssh-rsa") + string(rsa_key(0).sign(over, PKCS1v15(), SHA1()))
    with pytest.raises(BadSignature, match="SHA-2"):
        sshsig.verify(sshsig.encode(software_key(Algorithm.RSA, 0).public, SPACE, value), SPACE, MESSAGE)


def test_a_security_key_must_have_verified_its_user_when_that_is_asked():
    sk = SecurityKey(Ed25519PrivateKey.generate())
    over = sshsig.signed_bytes(SPACE, MESSAGE)
    untouched, touched, verified = (sshsig.encode(sk.public, SPACE, sk.sign(over, flags)) for flags in (0, 1, 5))
    with pytest.raises(BadSignature):
        sshsig.verify(untouched, SPACE, MESSAGE)
    with pytest.raises(BadSignature):
        sshsig.verify(touched, SPACE, MESSAGE, require_user_verification=True)
    assert sshsig.verify(verified, SPACE, MESSAGE, require_user_verification=True) == sk.public


def test_signed_bytes_are_no_certificate_and_no_login():
    """The signature of one use must be worth nothing in another: the beginnings differ."""
    over = sshsig.signed_bytes(SPACE, MESSAGE)
    assert over.startswith(b"SSHSIG")
    assert not to_be_signed(body(), bytes(32)).startswith(b"SSHSIG")
    assert not put_string(bytes(32)).startswith(b"SSHSIG")  # a session identifier, RFC 4252 section 7


@pytest.mark.parametrize("width", [1, 64, 76, 10_000])
def test_armour_of_any_width_is_read(width):
    data = blob(made(Algorithm.ED25519))
    lines = sshsig.armor(data).splitlines()
    assert {len(line) for line in lines[1:-2]} == {70}
    text = "".join(lines[1:-1])
    wrapped = [text[i : i + width] for i in range(0, len(text), width)]
    assert sshsig.dearmor("\n".join([lines[0], *wrapped, lines[-1]])) == data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-----BEGIN SSH SIGNATURE-----\n", ""),
        ("-----BEGIN SSH SIGNATURE-----", "-----BEGIN SSH SIGNATURE----- "),
        ("SSH SIGNATURE", "PGP SIGNATURE"),
        ("\n-----END SSH SIGNATURE-----\n", ""),
        ("-----END SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\nmore"),
        ("\n", "\r\n"),
        ("\n", " \n"),
        ("U1NIU0lH", "U1NIU0l-"),
        ("U1NIU0lH", "=U1NIU0lH"),
    ],
)
def test_armour_in_another_form_is_refused(old, new):
    with pytest.raises(FormatError):
        sshsig.dearmor(sshsig.armor(blob(made(Algorithm.ED25519))).replace(old, new))


@pytest.mark.parametrize("between", ["", "\n", "\n\n"])
def test_armour_around_nothing_is_refused(between):
    with pytest.raises(FormatError):
        sshsig.dearmor(f"-----BEGIN SSH SIGNATURE-----{between}-----END SSH SIGNATURE-----")
    with pytest.raises(FormatError):
        sshsig.dearmor("")
