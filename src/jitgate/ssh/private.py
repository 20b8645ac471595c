"""Private keys held in this process: made, read, written, signed with."""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jitgate.core.secret import Secret
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key, parse_public_key_line
from jitgate.ssh.signature import ECDSA_HASHES, RSA_HASHES
from jitgate.ssh.wire import (
    FormatError,
    Reader,
    check_comment,
    from_base64,
    put_mpint,
    put_string,
    put_uint32,
    to_base64,
)

MAX_FILE: Final = 1 << 16  # bytes; a private key of 16384 bits takes 12,500
_PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
_RSA_SIGNATURE: Final = "rsa-sha2-512"
_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_END: Final = b"-----END OPENSSH PRIVATE KEY-----"
_WIDTH: Final = 70
_BLOCK: Final = 8
_MAGIC: Final = b"openssh-key-v1\x00"


class SoftwareKey:
    """A private key in memory. Shows only its fingerprint; not pickled."""

    __slots__ = ("_private", "public")

    def __init__(self, private: _PrivateKey) -> None:
        """`FormatError` for a key of a strength or curve that is not taken."""
        try:
            line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
        except ValueError:
            raise FormatError("a private key on a curve that is not taken", "use ed25519, ECDSA or RSA") from None
        self.public: PublicKey = parse_public_key_line(line)[0]
        self._private = private

    def sign(self, data: bytes) -> bytes:
        """An SSH signature blob over `data`; RSA with SHA-512."""
        match self._private:
            case Ed25519PrivateKey() as ed25519:
                return put_string(Algorithm.ED25519) + put_string(ed25519.sign(data))
            case EllipticCurvePrivateKey() as ecdsa:
                algorithm = self.public.algorithm
                r, s = decode_dss_signature(ecdsa.sign(data, ECDSA(ECDSA_HASHES[algorithm])))
                return put_string(algorithm) + put_string(put_mpint(r) + put_mpint(s))
            case RSAPrivateKey() as rsa:
                return put_string(_RSA_SIGNATURE) + put_string(rsa.sign(data, PKCS1v15(), RSA_HASHES[_RSA_SIGNATURE]))

    def sealed(self, passphrase: Secret[bytes]) -> bytes:
        """A PKCS#8 file that opens by the passphrase only, by what the library takes for the best encryption."""
        encryption = serialization.BestAvailableEncryption(passphrase.reveal())
        return self._private.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def __repr__(self) -> str:
        return f"SoftwareKey({self.public.fingerprint})"

    def __reduce__(self) -> str:
        raise TypeError("a SoftwareKey is not pickled")

    def _fields(self) -> bytes:
        """The private part as an openssh-key-v1 file holds it, type in front (OpenSSH PROTOCOL.key)."""
        public = self.public.blob
        match self._private:
            case Ed25519PrivateKey() as ed25519:
                return public + put_string(ed25519.private_bytes_raw() + public[-32:])
            case EllipticCurvePrivateKey() as ecdsa:
                return public + put_mpint(ecdsa.private_numbers().private_value)
            case RSAPrivateKey() as rsa:
                own = rsa.private_numbers()
                numbers = (own.public_numbers.n, own.public_numbers.e, own.d, own.iqmp, own.p, own.q)
                return put_string(Algorithm.RSA) + b"".join(map(put_mpint, numbers))


def generate_ed25519() -> SoftwareKey:
    """A fresh key, from the cryptographic library's own randomness."""
    return SoftwareKey(Ed25519PrivateKey.generate())


def load_private_key(pem: bytes, passphrase: Secret[bytes] | None = None) -> SoftwareKey:
    """The key of an OpenSSH or PKCS#8 file; `FormatError` if it is none, is of a type not taken, or does not open.

    The file is its owner's own: what a passphrase costs to try is up to the file.
    """
    if len(pem) > MAX_FILE:
        raise FormatError(f"a private key file has {len(pem)} bytes, more than {MAX_FILE}")
    password = passphrase.reveal() if passphrase else None
    private: object
    try:
        if pem.startswith(_BEGIN):
            _check_head(pem)
            private = serialization.load_ssh_private_key(pem, password)
        else:
            private = serialization.load_pem_private_key(pem, password)
    except UnsupportedAlgorithm:
        raise FormatError(
            "a private key in a form that cannot be read here", "a passphrase on an OpenSSH key needs bcrypt installed"
        ) from None
    # the library's words may quote the file; the last is what it says to a compressed point in the private part
    except (ValueError, TypeError, NotImplementedError):
        raise FormatError("a private key that does not open", "check the file and its passphrase") from None
    if not isinstance(private, _PrivateKey):
        raise FormatError("a private key of a type that is not taken", "use ed25519, ECDSA or RSA")
    return SoftwareKey(private)


def private_fields(key: SoftwareKey) -> Secret[bytes]:
    """The private part as an agent takes it: type and numbers, without a comment (OpenSSH PROTOCOL.agent 3.2)."""
    return Secret(key._fields())


def dump_pkcs8(key: SoftwareKey) -> Secret[bytes]:
    """The private part as PKCS#8 DER (RFC 5958), without a passphrase: what tokens and Vaults take in."""
    der = Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Secret(key._private.private_bytes(*der))  # noqa: SLF001  # the class above


def _check_head(pem: bytes) -> None:
    """Refuses by its public half, which stands open in front, what the library would try, warn of or guess at."""
    try:
        text = pem.removeprefix(_BEGIN).removesuffix(b"\n").removesuffix(_END).decode("ascii").replace("\n", "")
    except UnicodeDecodeError:
        raise FormatError("a private key file is not ASCII") from None
    reader = Reader(from_base64(text, MAX_FILE))
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise FormatError("not an OpenSSH private key")
    for _ in ("cipher", "kdf", "kdf options"):
        reader.string()
    if reader.uint32() != 1:
        raise FormatError("a private key file with more keys than one")
    if parse_public_key(reader.string()).algorithm.is_sk:
        raise FormatError("the private key is in a security key", "sign with ssh-keygen, which talks to the device")


def dump_private_key(key: SoftwareKey, comment: str = "") -> Secret[bytes]:
    """The openssh-key-v1 file, without a passphrase: whoever writes it sets mode 0600."""
    twice = put_uint32(0) * 2  # two equal numbers, by which a reader sees that its passphrase was right
    inner = twice + key._fields() + put_string(check_comment(comment))
    inner += bytes(range(1, 1 + -len(inner) % _BLOCK))
    blob = _MAGIC + b"".join(
        (
            put_string("none"),
            put_string("none"),
            put_string(b""),
            put_uint32(1),
            put_string(key.public.blob),
            put_string(inner),
        )
    )
    text = to_base64(blob)
    lines = "".join(text[i : i + _WIDTH] + "\n" for i in range(0, len(text), _WIDTH))
    return Secret(_BEGIN + lines.encode("ascii") + _END + b"\n")
