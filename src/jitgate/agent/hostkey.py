"""The host key by which a host proves who it is: one of sshd's own, in a file that only root reads."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jitgate.agent.sshd import Effective, Sshd
from jitgate.core.errors import Error, NotFound
from jitgate.ssh.material import FINGERPRINT
from jitgate.ssh.private import MAX_FILE, SoftwareKey, load_private_key
from jitgate.ssh.pubkey import Algorithm
from jitgate.ssh.sshsig import encode, signed_bytes

_ORDER: Final = (Algorithm.ED25519, Algorithm.ECDSA_256, Algorithm.ECDSA_384, Algorithm.ECDSA_521, Algorithm.RSA)


def load(path: Path) -> SoftwareKey:
    """`NotFound`, `Unsafe` or `FormatError` when it cannot be used."""
    try:
        with path.open("rb") as stream:  # sshd's own setting names it: as safe as sshd takes it to be
            return load_private_key(stream.read(MAX_FILE + 1))
    except OSError as error:
        raise NotFound(f"cannot read the host key {path}: {error.strerror}", "run this as root") from error


def prove(key: SoftwareKey, namespace: str, message: bytes) -> bytes:
    """An SSHSIG blob."""
    return encode(key.public, namespace, key.sign(signed_bytes(namespace, message)))


def choose(sshd: Sshd, effective: Effective) -> tuple[Path, SoftwareKey]:
    """The best of sshd's host keys that has no certificate of somebody else. `NotFound` with why each is not taken."""
    taken = certified(sshd, effective.get("hostcertificate", ()))
    found: list[tuple[int, Path, SoftwareKey]] = []
    refused: list[str] = []
    for value in effective.get("hostkey", ()):
        path = Path(value)
        try:
            key = load(path)
        except Error as error:
            refused.append(error.what)
            continue
        if by := taken.get(key.public.fingerprint):
            refused.append(f"{path} has a certificate already ({by})")
        else:
            found.append((_ORDER.index(key.public.algorithm), path, key))
    if not found:
        raise NotFound(
            f"no host key can be used: {'; '.join(refused) or 'sshd has none'}",
            "sshd serves one certificate a key: take that HostCertificate out, or add another HostKey",
        )
    _, path, key = min(found, key=lambda each: each[0])
    return path, key


def certified(sshd: Sshd, certificates: Sequence[str]) -> dict[str, str]:
    """The fingerprint of each host key that somebody else certified, with the certificate's file.

    Told by ssh-keygen, which reads what our own parser refuses: certificates for ever, for old keys.
    """
    found: dict[str, str] = {}
    for value in certificates:
        if value in ("none", str(sshd.folder / "host-cert.pub")):
            continue
        command = ["ssh-keygen", "-l", "-E", "sha256", "-f", value]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  # no shell
        if print_ := FINGERPRINT.search(done.stdout):
            found[print_[0]] = value
    return found
