"""What is to be certified, what came of it, and the port through which it is signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jitgate.ca.realms import CaKind
from jitgate.core.clock import Micros
from jitgate.ssh.cert import Certificate, CertificateBody, CertType
from jitgate.ssh.options import Options
from jitgate.ssh.pubkey import PublicKey


@dataclass(frozen=True, slots=True)
class CertSpec:
    """A certificate but for its serial. Times are seconds since 1970. `grant_id` is empty for a host's."""

    realm: str
    type: CertType
    key: PublicKey
    key_id: str
    principals: tuple[str, ...]
    valid_after_s: int
    valid_before_s: int
    critical_options: Options
    extensions: Options
    ca: PublicKey
    grant_id: str = ""

    def body(self, serial: int) -> CertificateBody:
        """Raises `FormatError` for what no certificate may say (invariant 2, a serial out of range)."""
        return CertificateBody(
            type=self.type,
            key=self.key,
            serial=serial,
            key_id=self.key_id,
            principals=self.principals,
            valid_after=self.valid_after_s,
            valid_before=self.valid_before_s,
            critical_options=self.critical_options,
            extensions=self.extensions,
            ca=self.ca,
        )


@dataclass(frozen=True, slots=True)
class IssuedCert:
    """A certificate that says what its spec said, signed by the authority the spec named. Made only in `ca/`."""

    certificate: Certificate
    realm: str
    grant_id: str


@dataclass(frozen=True, slots=True)
class SignRequest:
    """`tbs`: what `ssh.cert.to_be_signed` wrote; the authority that shall sign is named in it."""

    realm: str
    tbs: bytes


@dataclass(frozen=True, slots=True)
class SignerRefusal:
    """The signer's no. `code` is the broken rule's name: a check of `ca.ceilings`, or `malformed`, `authority`,
    `serial`, `own_key`, `rate`, `checkpoint`, `custody` (the key's keeper is away, or lies)."""

    code: str
    why: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A CA key that the signer holds. `file`: its name in the folder. `kept`: only in memory, the file has another."""

    realm: str
    kind: CaKind
    key: PublicKey
    file: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file of the folder that the signer does not take, and why."""

    file: str
    why: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LogHead:
    """Size and root of the log as a checkpoint gives them. `root`: base64, as it stands in the checkpoint."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class HeldAgentKeys:
    """The keys that hosts obey: `root` signs lists of trust, `online` bundles. Both ed25519."""

    root: PublicKey
    online: PublicKey


@dataclass(frozen=True, slots=True)
class HeldKeys:
    """All that the signer holds. It signs checkpoints of the log `origin` with `log`, an ed25519 key.

    `head`: what it signed last. A log of that size with another root, or a smaller log, is not the one it knew.
    `refused`: files that are there, or should be, and are not used.
    """

    authorities: tuple[HeldKey, ...]
    log: PublicKey
    origin: str
    head: LogHead | None
    refused: tuple[RefusedFile, ...] = ()
    agents: HeldAgentKeys | None = None


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """One line of the signer's own list: written and synced before the signature left the signer.

    `tbs_sha256`: lower-case hex. `valid_before`: seconds since 1970. `ca`, `key`: fingerprints.
    """

    time: Micros
    realm: str
    ca: str
    type: CertType
    serial: int
    key_id: str
    key: str
    principals: tuple[str, ...]
    valid_before: int
    tbs_sha256: str


@dataclass(frozen=True, slots=True)
class SignedPage:
    """Entries of the list from an offset on, and the offset (bytes) where the next page begins.

    `unreadable` counts lines that are no entry: the traces of a power cut in the middle of a write, or of a hand.
    """

    entries: tuple[SignedEntry, ...]
    next: int
    unreadable: int


class Signer(Protocol):
    """Holds the CA keys and the log key somewhere that is not this process.

    Every method raises `core.errors.Unreachable` when the signer is gone: what was asked may then be in its list,
    and nothing of it has left.
    """

    async def keys(self) -> HeldKeys: ...

    async def sign(self, requests: Sequence[SignRequest]) -> list[bytes | SignerRefusal]:
        """An SSH signature blob or a refusal for each request, in their order. What it gives, it has verified."""
        ...

    async def checkpoint(self, body: bytes) -> bytes | SignerRefusal:
        """The 64 bytes of an ed25519 signature over a checkpoint's note text; never over a second history."""
        ...

    async def trust(self, payload: bytes) -> bytes | SignerRefusal:
        """The 64 bytes of an ed25519 signature over a list of trust (`ca.trust`), if it names none but known keys."""
        ...

    async def bundles(self, payloads: Sequence[bytes]) -> list[bytes | SignerRefusal]:
        """The same over bundles (`sessions.bundle`), in their order."""
        ...

    async def generate(self, realm: str) -> bytes | SignerRefusal:
        """The public half, as a blob, of a new key for a Vault mount's realm; kept by the signer before it says so."""
        ...

    async def signed(self, offset: int = 0) -> SignedPage:
        """A page of the list; `offset` is 0 or the `next` of another page. At the end: no entries."""
        ...
