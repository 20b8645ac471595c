import base64
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.ssh.made import SOFTWARE, SecurityKey, made, number, rsa_key, string

from jitgate.ssh.material import material
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm, BadSignature, PublicKey, parse_public_key, parse_public_key_line
from jitgate.ssh.wire import FormatError

DATA = b"what is signed"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_of_each_type_is_read_written_and_verifies(algorithm):
    key, sign = made(algorithm).public, made(algorithm).sign
    assert parse_public_key(key.blob) == key
    assert parse_public_key_line(key.line("al@laptop, at home")) == (key, "al@laptop, at home")
    assert parse_public_key_line(key.line() + "\n") == (key, "")
    assert key.algorithm is algorithm
    assert key.fingerprint.startswith("SHA256:")
    assert "=" not in key.fingerprint
    assert key.application == ("ssh:" if algorithm.is_sk else None)
    key.verify(sign(DATA), DATA)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_over_other_data_or_by_another_key_does_not_hold(algorithm):
    signer, other = made(algorithm), made(algorithm, 1)
    with pytest.raises(BadSignature):
        other.public.verify(signer.sign(DATA), DATA)
    with pytest.raises(BadSignature):
        signer.public.verify(signer.sign(DATA), DATA + b".")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_with_any_byte_changed_cut_or_added_does_not_hold(algorithm):
    signer = made(algorithm)
    good = signer.sign(DATA)
    for i in range(0, len(good), 1 if len(good) < 200 else 13):
        with pytest.raises((BadSignature, FormatError)):
            signer.public.verify(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :], DATA)
        with pytest.raises((BadSignature, FormatError)):
            signer.public.verify(good[:i], DATA)
    with pytest.raises(FormatError):
        signer.public.verify(good + b"\x00", DATA)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("other", Algorithm)
def test_a_signature_of_one_type_never_holds_for_a_key_of_another(algorithm, other):
    if algorithm is not other:
        with pytest.raises(BadSignature):
            made(algorithm).public.verify(made(other).sign(DATA), DATA)


def test_a_signature_that_is_too_long_is_not_looked_at():
    with pytest.raises(FormatError, match="more than 4096"):
        made(Algorithm.ED25519).public.verify(bytes(4097), DATA)
    with pytest.raises(BadSignature, match="another type"):
        made(Algorithm.ED25519).public.verify(bytes(4096), DATA)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_cut_anywhere_or_with_bytes_added_is_refused(algorithm):
    blob = made(algorithm).public.blob
    for i in range(len(blob)):
        with pytest.raises(FormatError):
            parse_public_key(blob[:i])
    for tail in (b"\x00", bytes(4), string(b"ssh:")):
        with pytest.raises(FormatError):
            parse_public_key(blob + tail)


@pytest.mark.parametrize("name", ["ssh-dss", "ssh-ed448", "", "rsa-sha2-512", "SSH-ED25519", "ssh-ed25519\x00"])
def test_types_that_are_not_taken(name):
    tail = made(Algorithm.ED25519).public.blob[15:]
    with pytest.raises(FormatError, match="not a key type"):
        parse_public_key(string(name.encode()) + tail)


def test_a_key_over_the_limit_is_not_looked_at():
    with pytest.raises(FormatError, match="more than 4096"):
        parse_public_key(bytes(4097))
    with pytest.raises(FormatError, match="not a key type"):
        parse_public_key(bytes(4096))


def test_a_key_holds_the_type_it_says():
    key = made(Algorithm.ED25519).public
    with pytest.raises(FormatError, match="not the one in its bytes"):
        PublicKey(Algorithm.RSA, key.blob)
    with pytest.raises(FormatError, match="says 'ssh-rsa'"):
        parse_public_key_line(key.line().replace("ssh-ed25519", "ssh-rsa", 1))


def test_a_sk_key_is_not_the_plain_key_of_the_same_point():
    private = Ed25519PrivateKey.generate()
    sk = SecurityKey(private).public
    plain = parse_public_key(string(b"ssh-ed25519") + string(private.public_key().public_bytes_raw()))
    assert sk != plain
    assert sk.fingerprint != plain.fingerprint
    with pytest.raises(BadSignature):
        sk.verify(string(b"ssh-ed25519") + string(private.sign(DATA)), DATA)


@pytest.mark.parametrize(
    "line",
    [
        'command="x" {key}',
        "no-pty {key}",
        " {key}",
        "@cert-authority * {key}",
        "# {key}",
        "{key}\n{key}",
        "ssh-ed25519  AAAA",
    ],
)
def test_a_line_with_options_or_another_shape_is_refused(line):
    with pytest.raises(FormatError):
        parse_public_key_line(line.format(key=made(Algorithm.ED25519).public.line()))


def test_a_comment_cannot_carry_a_second_line_or_an_escape():
    key = made(Algorithm.ED25519).public
    for comment in ("a\nssh-ed25519 AAAA", "a\x1b[31m", "a\u202eb"):
        with pytest.raises(FormatError):
            key.line(comment)


# RSA


def _rsa(modulus: int, exponent: int = 65537) -> bytes:
    return string(b"ssh-rsa") + number(exponent) + number(modulus)


@pytest.mark.parametrize(("bits", "taken"), [(2048, False), (3071, False), (3072, True), (16384, True), (16385, False)])
def test_rsa_from_3072_to_16384_bits(bits, taken):
    blob = _rsa((1 << (bits - 1)) + 1)
    if taken:
        assert parse_public_key(blob).algorithm is Algorithm.RSA
    else:
        with pytest.raises(FormatError, match=f"{bits} bits"):
            parse_public_key(blob)


@pytest.mark.parametrize(
    ("exponent", "taken"),
    [(0, False), (1, False), (2, False), (3, True), (65536, False), (2**32 - 1, True), (2**32 + 1, False)],
)
def test_rsa_exponents(exponent, taken):
    blob = _rsa((1 << 3071) + 1, exponent)
    if taken:
        parse_public_key(blob)
    else:
        with pytest.raises(FormatError, match="not sound"):
            parse_public_key(blob)


def test_rsa_with_an_even_modulus_or_numbers_in_another_form_is_refused():
    n = (1 << 3071) + 1
    raw = n.to_bytes(384, "big")
    for blob in (
        _rsa(n + 1),
        string(b"ssh-rsa") + string(b"\x00\x01\x00\x01") + number(n),  # a zero byte too many
        string(b"ssh-rsa") + number(65537) + string(b"\x00\x00" + raw),
        string(b"ssh-rsa") + number(65537) + string(raw),  # negative
        string(b"ssh-rsa") + number(n) + number(65537),  # the wrong way round
    ):
        with pytest.raises(FormatError):
            parse_public_key(blob)


def test_rsa_signs_with_sha2_only():
    key, private = made(Algorithm.RSA).public, rsa_key(0)
    for name, algorithm in ((b"rsa-sha2-256", SHA256()), (b"rsa-sha2-512", SHA512())):
        value = private.sign(DATA, PKCS1v15(), algorithm)
        key.verify(string(name) + string(value), DATA)
        with pytest.raises(BadSignature, match="as long as"):
            key.verify(string(name) + string(b"\x00" + value), DATA)
        with pytest.raises(BadSignature):  # each name means its own hash
            key.verify(string(b"rsa-sha2-256" if name.endswith(b"512") else b"rsa-sha2-512") + string(value), DATA)
    old = private.sign(DATA, PKCS1v15(), SHA1())
    for name in (b"ssh-rsa", b"rsa-sha2-256", b"rsa-sha1", b""):
        with pytest.raises(BadSignature):
            key.verify(string(name) + string(old), DATA)


def test_an_rsa_key_whose_size_is_no_whole_number_of_bytes():
    key = SoftwareKey(rsa.generate_private_key(65537, 3073))
    key.public.verify(key.sign(DATA), DATA)


# ECDSA

CURVES = [
    (Algorithm.ECDSA_256, b"nistp256", 32),
    (Algorithm.ECDSA_384, b"nistp384", 48),
    (Algorithm.ECDSA_521, b"nistp521", 66),
]


@pytest.mark.parametrize(("algorithm", "name", "size"), CURVES)
def test_an_ecdsa_point_is_on_its_curve_and_uncompressed(algorithm, name, size):
    blob = made(algorithm).public.blob
    head, point = string(algorithm.encode()) + string(name), blob[-(1 + 2 * size) :]
    assert parse_public_key(head + string(point)).blob == blob
    for bad in (
        point[:-1] + bytes([point[-1] ^ 1]),  # off the curve
        bytes([2 + point[-1] % 2]) + point[1 : 1 + size],  # compressed
        bytes([6 + point[-1] % 2]) + point[1:],  # hybrid
        b"\x00",  # infinity
        b"",
        b"\x04" + bytes(2 * size),
        b"\x04" + b"\xff" * (2 * size),
    ):
        with pytest.raises(FormatError, match="point"):
            parse_public_key(head + string(bad))


def test_an_ecdsa_key_names_its_own_curve_once():
    point = made(Algorithm.ECDSA_256).public.blob[-65:]
    for kind, name in (
        (b"ecdsa-sha2-nistp256", b"nistp384"),
        (b"ecdsa-sha2-nistp384", b"nistp256"),
        (b"ecdsa-sha2-nistp256", b"NISTP256"),
    ):
        with pytest.raises(FormatError, match="another curve"):
            parse_public_key(string(kind) + string(name) + string(point))
    with pytest.raises(FormatError):
        parse_public_key(string(b"ecdsa-sha2-nistp384") + string(b"nistp384") + string(point))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (2**256, 1), (1, 2**300)])
def test_an_ecdsa_signature_out_of_range_does_not_hold(r, s):
    with pytest.raises(BadSignature):
        made(Algorithm.ECDSA_256).public.verify(string(b"ecdsa-sha2-nistp256") + string(number(r) + number(s)), DATA)


def test_an_ecdsa_signature_has_two_numbers_and_no_more():
    for value in (number(1), number(1) * 3, string(b"\x00\x01") + number(1), string(b"\x80") + number(1)):
        with pytest.raises(FormatError):
            made(Algorithm.ECDSA_256).public.verify(string(b"ecdsa-sha2-nistp256") + string(value), DATA)


# Ed25519

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def _point(y: int) -> tuple[int, int] | None:
    """RFC 8032 5.1.3, by its own steps."""
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if v * x * x % P == u else None


def _double(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    t = D * x * x * y * y % P
    return 2 * x * y * pow(1 + t, -1, P) % P, (y * y + x * x) * pow(1 - t, -1, P) % P


def _ed25519(y: int, sign: int = 0) -> bytes:
    return string(b"ssh-ed25519") + string((y | sign << 255).to_bytes(32, "little"))


def _small_order() -> set[int]:
    """The y of all points that three doublings take to the neutral point (0, 1)."""
    # a point times the prime order of the large subgroup leaves only its small part
    order = 2**252 + 27742317777372353535851937790883648493
    found: set[int] = set()
    for y in range(2, 40):
        if (point := _point(y)) is None:
            continue
        total = (0, 1)
        for bit in f"{order:b}":
            total = _double(total)
            if bit == "1":
                (x1, y1), (x2, y2) = total, point
                t = D * x1 * x2 * y1 * y2 % P
                total = ((x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P)
        assert _double(_double(_double(total))) == (0, 1)
        found.add(total[1])
    return found


def test_ed25519_points_under_which_anybody_can_sign_are_refused():
    small = _small_order()
    assert len(small) == 5
    for y in small:
        for sign in (0, 1):
            with pytest.raises(FormatError, match="not a sound point"):
                parse_public_key(_ed25519(y, sign))


def test_ed25519_points_off_the_curve_or_in_a_second_form_are_refused():
    on = [y for y in range(2, 40) if _point(y)]
    off = [y for y in range(2, 40) if not _point(y)]
    assert len(on) > 9
    assert len(off) > 9
    for y in on:
        parse_public_key(_ed25519(y))
        parse_public_key(_ed25519(y, 1))
    for y in off:
        with pytest.raises(FormatError):
            parse_public_key(_ed25519(y))
    for y in range(19):  # what is left above the field: y + p in 255 bits
        with pytest.raises(FormatError):
            parse_public_key(_ed25519(y + P))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_ed25519_has_32_bytes(size):
    with pytest.raises(FormatError, match="32 bytes"):
        parse_public_key(string(b"ssh-ed25519") + string(bytes(size)))


# security keys

SK = [SecurityKey(Ed25519PrivateKey.generate()), SecurityKey(ec.generate_private_key(ec.SECP256R1()))]


@pytest.mark.parametrize("sk", SK, ids=lambda sk: sk.public.algorithm.name)
def test_a_security_key_must_have_been_touched(sk):
    for flags in (0x01, 0x05, 0x1D):
        sk.public.verify(sk.sign(DATA, flags), DATA)
    for flags in (0x00, 0x04, 0x1C):
        with pytest.raises(BadSignature, match="not touched"):
            sk.public.verify(sk.sign(DATA, flags), DATA)


@pytest.mark.parametrize("sk", SK, ids=lambda sk: sk.public.algorithm.name)
def test_a_security_key_says_whether_it_verified_its_user(sk):
    sk.public.verify(sk.sign(DATA, 0x05), DATA, require_user_verification=True)
    with pytest.raises(BadSignature, match="verify its user"):
        sk.public.verify(sk.sign(DATA, 0x01), DATA, require_user_verification=True)
    with pytest.raises(BadSignature, match="not touched"):
        sk.public.verify(sk.sign(DATA, 0x04), DATA, require_user_verification=True)


@pytest.mark.parametrize("sk", SK, ids=lambda sk: sk.public.algorithm.name)
def test_flags_counter_and_application_are_signed(sk):
    sk.public.verify(sk.sign(DATA, counter=2**32 - 1), DATA)
    good = sk.sign(DATA, 0x01, 7)
    for state in ((0x05, 7), (0x01, 8)):
        with pytest.raises(BadSignature, match="not hold"):
            sk.public.verify(good[:-5] + struct.pack(">BI", *state), DATA)
    with pytest.raises(BadSignature, match="not hold"):
        sk.public.verify(sk.sign(DATA, application="ssh:other"), DATA)


@pytest.mark.parametrize("flags", [0x41, 0x81, 0xC1])
def test_a_security_key_that_announces_more_data_is_refused(flags):
    with pytest.raises(FormatError, match="announces"):
        SK[0].public.verify(SK[0].sign(DATA, flags), DATA)


@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_an_ordinary_key_never_passes_for_one_that_verified_its_user(algorithm):
    with pytest.raises(BadSignature, match="only a security key"):
        made(algorithm).public.verify(made(algorithm).sign(DATA), DATA, require_user_verification=True)


def test_a_plain_signature_by_the_key_inside_a_security_key_is_not_one_of_it():
    private = Ed25519PrivateKey.generate()
    sk = SecurityKey(private)
    plain = string(b"sk-ssh-ed25519@openssh.com") + string(private.sign(DATA)) + b"\x01" + bytes(4)
    with pytest.raises(BadSignature):
        sk.public.verify(plain, DATA)


@pytest.mark.parametrize("application", ["ssh:", "ssh:laptop", "ssh:" + "a" * 251])
def test_applications_that_are_kept(application):
    key = SecurityKey(SK[0].private, application).public
    assert key.application == application
    assert key != SecurityKey(SK[0].private, "ssh:x").public


@pytest.mark.parametrize(
    "application", ["", "ssh", "https://x", "SSH:", "ssh:a b", "ssh:\n", "ssh:é", "ssh:" + "a" * 252]
)
def test_applications_that_are_refused(application):
    with pytest.raises(FormatError):
        _ = SecurityKey(SK[0].private, application).public


def test_a_security_key_of_another_curve_is_refused():
    point = made(Algorithm.ECDSA_384).public.blob[-97:]
    for kind in (b"sk-ecdsa-sha2-nistp384@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"):
        with pytest.raises(FormatError):
            parse_public_key(string(kind) + string(b"nistp384") + string(point) + string(b"ssh:"))


def test_the_fingerprint_is_the_hash_of_the_bytes():
    key = made(Algorithm.ED25519).public
    shown = base64.b64decode(key.fingerprint.removeprefix("SHA256:") + "=")
    assert shown == hashlib.sha256(key.blob).digest()


def test_what_is_kept_of_strangers_keys_is_bounded():
    assert 0 < (material.cache_info().maxsize or 0) <= 1024


def test_a_webauthn_signature_is_not_taken():
    sk = SK[1]
    good = sk.sign(DATA)
    name = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"
    with pytest.raises(BadSignature, match="another type"):
        sk.public.verify(string(name) + good[4 + len(sk.public.algorithm) :], DATA)


def test_points_as_cryptography_writes_them_are_ours():
    private = ec.generate_private_key(ec.SECP256R1())
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert parse_public_key_line(line)[0].line() == line
