"""Public keys: parsed strictly, compared by their bytes, able to verify signatures."""

from dataclasses import dataclass
from functools import lru_cache

from jitgate.core.text import shown
from jitgate.ssh.material import MAX_KEY, Algorithm, known_algorithm, material
from jitgate.ssh.signature import BadSignature, check_form, verify
from jitgate.ssh.wire import FormatError, check_comment, from_base64, split_line, to_base64

__all__ = ["Algorithm", "BadSignature", "PublicKey", "parse_public_key", "parse_public_key_line"]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A sound key of a type that is taken; two are equal when their wire bytes are. Else `FormatError`."""

    algorithm: Algorithm
    blob: bytes

    def __post_init__(self) -> None:
        if material(self.blob).algorithm is not self.algorithm:
            raise FormatError("a key's type is not the one in its bytes")

    def line(self, comment: str = "") -> str:
        """The line of a .pub or authorized_keys file, without newline."""
        return f"{self.algorithm} {to_base64(self.blob)} {check_comment(comment)}".rstrip(" ")

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it: `SHA256:` and unpadded base64."""
        return material(self.blob).fingerprint

    @property
    def application(self) -> str | None:
        """What a security key made this key for, `ssh:...`; None for other keys."""
        return material(self.blob).application

    def verify(self, signature: bytes, data: bytes, *, require_user_verification: bool = False) -> None:
        """Nothing if this key made the SSH signature blob over `data`; else `BadSignature` or `FormatError`.

        RSA only with SHA-2. A security key must have been touched, and with `require_user_verification` must have
        checked PIN or fingerprint (other keys then fail).
        """
        verify(material(self.blob), signature, data, require_user_verification=require_user_verification)

    def check_form(self, signature: bytes) -> None:
        """Nothing if the SSH signature blob is one that this key could have made, over whatever; else as `verify`."""
        check_form(material(self.blob), signature)


@lru_cache(maxsize=1024)  # as `material`: the same few keys again and again
def parse_public_key(blob: bytes) -> PublicKey:
    """The key whose wire form is exactly `blob`.

    `FormatError` for a type that is not taken (a certificate among them), a point off its curve, a weak RSA key,
    trailing bytes.
    """
    return PublicKey(material(blob).algorithm, blob)


def parse_public_key_line(text: str) -> tuple[PublicKey, str]:
    """Key and comment of one line `type base64 comment`, without options; else `FormatError`."""
    kind, blob, comment = split_line(text)
    algorithm = known_algorithm(kind)
    key = parse_public_key(from_base64(blob, MAX_KEY))
    if key.algorithm is not algorithm:
        raise FormatError(f"a key line says {shown(kind)} but holds {key.algorithm}")
    return key, comment
