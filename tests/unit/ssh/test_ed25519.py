"""Two libraries verify, and neither takes what the other refuses: a service and `jitctl` never differ about a key."""

import builtins
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitgate.ssh import ed25519
from jitgate.ssh.ed25519 import Ed25519Key, openssl, sodium

# RFC 8032 7.1, test 3
PRIVATE = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
)
KEY = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
DATA = bytes.fromhex("af82")
SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point: the same number modulo it


@pytest.fixture(params=[sodium, lambda: openssl], ids=["libsodium", "openssl"])
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ed25519Key:
    verify = request.param()
    monkeypatch.setattr(ed25519, "verifier", lambda: verify)
    return Ed25519Key(KEY)


def _twice(signature: bytes) -> bytes:
    """The same signature written another way (RFC 8032 5.1.7 refuses it)."""
    number = int.from_bytes(signature[32:], "little") + ORDER
    return signature[:32] + number.to_bytes(32, "little")


def test_a_signature_holds(key: Ed25519Key):
    key.verify(SIGNATURE, DATA)


@pytest.mark.parametrize(
    ("signature", "data"),
    [
        (SIGNATURE, b"\xaf\x83"),
        (SIGNATURE, b""),
        (_twice(SIGNATURE), DATA),
        (bytes([SIGNATURE[0] ^ 1]) + SIGNATURE[1:], DATA),
        (SIGNATURE[:63] + bytes([SIGNATURE[63] ^ 0x80]), DATA),
        (bytes(64), DATA),
        (b"\x01" + bytes(63), DATA),  # the neutral point, and zero times the base
        (SIGNATURE[:63], DATA),
        (SIGNATURE + DATA[:1], DATA[1:]),  # the same bytes in a row, cut elsewhere
        (b"", SIGNATURE + DATA),
    ],
)
def test_what_is_no_signature_over_this_data_is_refused(key: Ed25519Key, signature: bytes, data: bytes):
    with pytest.raises(InvalidSignature):
        key.verify(signature, data)


def test_another_keys_signature_is_refused(key: Ed25519Key):
    with pytest.raises(InvalidSignature):
        key.verify(Ed25519PrivateKey.generate().sign(DATA), DATA)


@pytest.fixture
def without_libsodium(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = builtins.__import__

    def refusing(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "nacl":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(builtins, "__import__", refusing)
    ed25519.verifier.cache_clear()
    yield
    ed25519.verifier.cache_clear()


@pytest.mark.usefixtures("without_libsodium")
def test_where_there_is_no_libsodium_openssl_verifies():
    assert ed25519.verifier() is openssl
    Ed25519Key(KEY).verify(SIGNATURE, DATA)
    with pytest.raises(InvalidSignature):
        Ed25519Key(KEY).verify(SIGNATURE, b"")
