import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from tests.unit.ssh.made import SOFTWARE, made, software_key

from jitgate.core.secret import Secret
from jitgate.ssh.private import SoftwareKey, dump_private_key, generate_ed25519, load_private_key
from jitgate.ssh.pubkey import Algorithm
from jitgate.ssh.wire import FormatError, from_base64, put_string, put_uint32, to_base64


def pem(private: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> bytes:
    return private.private_bytes(Encoding.PEM, form, BestAvailableEncryption(password) if password else NoEncryption())


def opened(file: bytes) -> bytes:
    return from_base64("".join(file.decode().splitlines()[1:-1]), 1 << 16)


def closed(data: bytes) -> bytes:
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{to_base64(data)}\n-----END OPENSSH PRIVATE KEY-----\n".encode()


@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_a_key_is_written_and_read(algorithm):
    key = software_key(algorithm, 0)
    file = dump_private_key(key, "al@laptop").reveal()
    assert load_private_key(file.rstrip()).public == key.public
    again = load_private_key(file)
    assert again.public == key.public
    key.public.verify(again.sign(b"x"), b"x")
    assert dump_private_key(again, "al@laptop").reveal() == file
    assert max(map(len, file.splitlines())) <= 70


@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_the_written_key_is_one_that_another_reader_takes(algorithm):
    # every length of padding, where a look at the key is cheap
    for comment in ("a" * i for i in range(1 if algorithm is Algorithm.RSA else 8)):
        private = load_ssh_private_key(dump_private_key(software_key(algorithm, 0), comment).reveal(), None)
        assert not isinstance(private, dsa.DSAPrivateKey)
        assert SoftwareKey(private).public == software_key(algorithm, 0).public


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_pem_files_are_read(form):
    for private in (rsa.generate_private_key(65537, 3072), ec.generate_private_key(ec.SECP521R1())):
        assert load_private_key(pem(private, form)).public == SoftwareKey(private).public


def test_a_passphrase_opens_its_file_and_no_other():
    private = ec.generate_private_key(ec.SECP256R1())
    file = pem(private, password=b"correct horse")
    assert load_private_key(file, Secret(b"correct horse")).public == SoftwareKey(private).public
    for passphrase in (None, Secret(b"wrong"), Secret(b"")):
        with pytest.raises(FormatError, match="does not open"):
            load_private_key(file, passphrase)
    with pytest.raises(FormatError, match="does not open"):
        load_private_key(pem(private), Secret(b"not needed"))


def test_each_generated_key_is_another():
    a, b = generate_ed25519(), generate_ed25519()
    assert a.public != b.public
    assert a.public.algorithm is Algorithm.ED25519


def test_a_key_shows_only_its_fingerprint():
    key = generate_ed25519()
    assert repr(key) == str(key) == f"SoftwareKey({key.public.fingerprint})"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert "PRIVATE" not in repr(dump_private_key(key))


def test_a_comment_cannot_carry_a_line():
    with pytest.raises(FormatError):
        dump_private_key(generate_ed25519(), "a\nb")


@pytest.mark.parametrize(
    "generate",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
        lambda: dsa.generate_private_key(1024),
        ed448.Ed448PrivateKey.generate,
        x25519.X25519PrivateKey.generate,
    ],
    ids=["rsa 2048", "secp256k1", "brainpool", "dsa", "ed448", "x25519"],
)
def test_kinds_that_are_refused(generate):
    with pytest.raises(FormatError, match=r"not taken|2048 bits"):
        load_private_key(pem(generate()))


def test_a_weak_rsa_key_is_refused_in_both_forms():
    private = rsa.generate_private_key(65537, 2048)
    for form in (PrivateFormat.OpenSSH, PrivateFormat.TraditionalOpenSSL):
        with pytest.raises(FormatError, match="2048 bits"):
            load_private_key(pem(private, form))


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\xff\xfe",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n\xff\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        made(Algorithm.ED25519).public.line().encode(),
        closed(b"x"),
    ],
    ids=ascii,
)
def test_what_is_no_private_key_is_refused(file):
    with pytest.raises(FormatError):
        load_private_key(file)


def test_a_file_that_is_too_long_is_not_looked_at():
    with pytest.raises(FormatError, match="more than 65536"):
        load_private_key(bytes(65537))
    with pytest.raises(FormatError, match="does not open"):
        load_private_key(bytes(65536))


def test_a_file_cut_or_changed_is_refused_or_still_the_same_key():
    key = software_key(Algorithm.ED25519, 0)
    data = opened(dump_private_key(key).reveal())
    for i in range(0, len(data), 3):
        with pytest.raises(FormatError):
            load_private_key(closed(data[:i]))
        try:
            found = load_private_key(closed(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]))
        except FormatError:
            continue
        # the secret half itself may differ: then it is another key, and says so
        found.public.verify(found.sign(b"x"), b"x")


def test_the_private_half_of_a_security_key_is_refused_by_name():
    head = b"openssh-key-v1\x00" + put_string("none") * 2 + put_string(b"") + put_uint32(1)
    file = head + put_string(made(Algorithm.SK_ED25519).public.blob) + put_string(bytes(8))
    with pytest.raises(FormatError, match="in a security key"):
        load_private_key(closed(file))


def test_a_file_with_two_keys_is_refused():
    data = opened(dump_private_key(software_key(Algorithm.ED25519, 0)).reveal())
    head = b"openssh-key-v1\x00" + put_string("none") * 2 + put_string(b"")
    assert data.startswith(head + put_uint32(1))
    with pytest.raises(FormatError, match="more keys than one"):
        load_private_key(closed(head + put_uint32(2) + data[len(head) + 4 :]))


def test_an_error_does_not_quote_the_file():
    key = software_key(Algorithm.ED25519, 0)
    data = opened(dump_private_key(key, "the-secret-comment").reveal())
    with pytest.raises(FormatError) as caught:
        load_private_key(closed(data[:-1] + b"\xff"))
    assert "secret" not in caught.value.what + caught.value.hint
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_compressed_point_in_the_private_part_is_refused():
    """A fuzzer's find: the library answers it with NotImplementedError."""
    key = software_key(Algorithm.ECDSA_256, 0)
    data = opened(dump_private_key(key).reveal())
    point = key.public.blob[-65:]
    at = data.rindex(point)
    with pytest.raises(FormatError, match="does not open"):
        load_private_key(closed(data[:at] + b"\x02" + data[at + 1 :]))


def test_another_version_of_the_file_is_refused():
    data = opened(dump_private_key(software_key(Algorithm.ED25519, 0)).reveal())
    with pytest.raises(FormatError, match="not an OpenSSH private key"):
        load_private_key(closed(data.replace(b"openssh-key-v1", b"openssh-key-v2", 1)))
