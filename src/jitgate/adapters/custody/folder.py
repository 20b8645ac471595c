"""Keys in files of one folder, plain or sealed by age: the custody that lets its keys out."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from jitgate.adapters.custody.sealed import seal
from jitgate.adapters.signers.files import load_key, sync_folder, write_new
from jitgate.ca.places import SealedPlace
from jitgate.core.errors import BadInput, Conflict
from jitgate.core.secret import Secret
from jitgate.ssh.private import SoftwareKey, dump_private_key, generate_ed25519
from jitgate.ssh.pubkey import Algorithm, PublicKey

_CURVES = {
    Algorithm.ECDSA_256: ec.SECP256R1(),
    Algorithm.ECDSA_384: ec.SECP384R1(),
    Algorithm.ECDSA_521: ec.SECP521R1(),
}
_RSA_BITS = 3072


class Folder:
    """`sealed`: what opens sealed files; with `sealing`, what is put here is sealed for it."""

    def __init__(self, folder: Path, sealed: SealedPlace | None = None, *, sealing: bool = False) -> None:
        self._folder, self._sealed, self._sealing = folder, sealed, sealing

    def key(self, name: str) -> SoftwareKey:
        return load_key(self._folder, name, self._sealed)

    def make(self, name: str, algorithm: Algorithm) -> PublicKey:
        key = generate(algorithm)
        self.put(name, key)
        return key.public

    def put(self, name: str, key: SoftwareKey) -> None:
        try:
            write_new(self._folder / name, self._content(name, key).reveal())
        except FileExistsError:
            raise Conflict(f"there is a file {self._folder / name} already", "choose another --name") from None

    def put_again(self, name: str, key: SoftwareKey) -> None:
        """The same key in the form that this folder has, in place of the file that holds it now."""
        new = self._folder / f"{name}.new"  # no name that a table could mean
        new.unlink(missing_ok=True)
        write_new(new, self._content(name, key).reveal())
        new.replace(self._folder / name)
        sync_folder(self._folder)

    def close(self) -> None:
        pass

    def _content(self, name: str, key: SoftwareKey) -> Secret[bytes]:
        plain = dump_private_key(key, name)
        return Secret(seal(self._sealed, plain)) if self._sealing else plain


def generate(algorithm: Algorithm) -> SoftwareKey:
    """A fresh key in this process, from the cryptographic library's own randomness."""
    if algorithm is Algorithm.ED25519:
        return generate_ed25519()
    if algorithm is Algorithm.RSA:
        return SoftwareKey(generate_private_key(65537, _RSA_BITS))
    if algorithm in _CURVES:
        return SoftwareKey(ec.generate_private_key(_CURVES[algorithm]))
    raise BadInput(f"no {algorithm} key in a file", "a security key's signature is no CA's")
