"""Key files that are sealed by age (https://age-encryption.org/v1): opened when the signer reads them, and not before.

The identity that opens them lies elsewhere than they do: a credential of systemd's, a tmpfs, a stick. So a copy of the
folder, a backup or a git repository with the files in it is no copy of the keys.
"""

from importlib import import_module
from typing import Final, Protocol, cast

from jitgate.adapters.secret_file import read_secret_bytes
from jitgate.ca.places import SealedPlace
from jitgate.core.errors import BadInput, Unsafe
from jitgate.core.secret import Secret

_HEADS: Final = (b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----")
_NATIVE: Final = b"AGE-SECRET-KEY-1"
IDENTITY_MAX: Final = 16 * 1024  # bytes


class _Recipient(Protocol):
    """What something is sealed for."""


class _Identity(Protocol):
    def to_public(self) -> _Recipient: ...


class _Identities(Protocol):
    def from_str(self, text: str) -> _Identity: ...

    def from_buffer(self, content: bytes) -> object:
        """Of an ssh key, `ssh.Identity` alone."""
        ...


class _Kind(Protocol):
    @property
    def Identity(self) -> _Identities: ...  # noqa: N802  # its own name


class _Module(Protocol):
    """As much of pyrage, which has no types of its own, as is used here."""

    @property
    def x25519(self) -> _Kind: ...

    @property
    def ssh(self) -> _Kind: ...

    def encrypt(self, plain: bytes, recipients: list[_Recipient], /, *, armored: bool = False) -> bytes: ...

    def decrypt(self, content: bytes, identities: list[object], /) -> bytes: ...


def is_sealed(content: bytes) -> bool:
    return content.startswith(_HEADS)


def unseal(place: SealedPlace | None, content: bytes) -> Secret[bytes]:
    """What is in a sealed file. Raises `BadInput` without [sealed], `Unsafe` when its identity does not open it."""
    age = _age()
    if place is None:
        raise BadInput("the file is sealed by age", "say in [sealed] identity_file of signer.toml who opens it")
    text = read_secret_bytes(place.identity_file, IDENTITY_MAX).reveal()
    try:
        return Secret(age.decrypt(content, _identities(age, text)))
    except Exception as error:  # noqa: BLE001  # pyrage has an error class of its own for each step
        what = f"the identity in {place.identity_file} does not open it: {error}"
        raise Unsafe(what, "age -d -i IDENTITY FILE says the same") from None


def seal(place: SealedPlace | None, content: Secret[bytes]) -> bytes:
    """A file that the identity opens. Raises `BadInput` for an ssh identity, which only opens."""
    age = _age()
    if place is None:
        raise BadInput("there is no table [sealed] in signer.toml", "docs/custody.md")
    text = read_secret_bytes(place.identity_file, IDENTITY_MAX).reveal()
    natives = [line for line in text.splitlines() if line.startswith(_NATIVE)]
    if not natives:
        raise BadInput(f"{place.identity_file} holds no age identity", "age-keygen makes one")
    try:
        recipients = [age.x25519.Identity.from_str(line.decode()).to_public() for line in natives]
        return age.encrypt(content.reveal(), recipients, armored=True)
    except Exception as error:  # noqa: BLE001  # as above
        raise Unsafe(f"cannot seal for {place.identity_file}: {error}") from None


def _identities(age: _Module, text: bytes) -> list[object]:
    if b"PRIVATE KEY" in text:
        return [age.ssh.Identity.from_buffer(text)]
    return [age.x25519.Identity.from_str(line.decode()) for line in text.splitlines() if line.startswith(_NATIVE)]


def _age() -> _Module:
    try:
        return cast("_Module", import_module("pyrage"))
    except ModuleNotFoundError:
        raise BadInput("age is not installed here", "install jitgate with the extra [age]") from None
