"""Certificates written field by field: what the codec would never write, signed all the same."""

import struct
from dataclasses import dataclass, replace
from functools import cache

from tests.unit.ssh.made import Made, made, string

from jitgate.ssh.pubkey import Algorithm

FOREVER = 2**64 - 1


def strings(*values: bytes) -> bytes:
    return b"".join(map(string, values))


def option(name: bytes, *value: bytes) -> bytes:
    """Name and data: empty for a flag, else the value as a string inside the data."""
    return string(name) + string(strings(*value))


@dataclass(frozen=True)
class Raw:
    """A sound certificate until a field is replaced. Bytes are what goes into the field's own string."""

    ca: Made
    kind: bytes = b"ssh-ed25519-cert-v01@openssh.com"
    nonce: bytes = bytes(range(32))
    subject: bytes = b""  # the fields of the key, each with its length
    serial: int = 5
    type: int = 1
    key_id: bytes = b"jitgate grant=01 person=al"
    principals: bytes = strings(b"root@host:web1")
    after: int = 1_800_000_000
    before: int = 1_800_000_900
    critical: bytes = b""
    extensions: bytes = b""
    reserved: bytes = b""
    ca_blob: bytes = b""
    tail: bytes = b""

    def but(self, **changes: object) -> "Raw":
        return replace(self, **changes)  # type: ignore[arg-type]  # fields by name

    def tbs(self) -> bytes:
        return b"".join(
            (
                string(self.kind),
                string(self.nonce),
                self.subject,
                struct.pack(">QI", self.serial, self.type),
                string(self.key_id),
                string(self.principals),
                struct.pack(">QQ", self.after, self.before),
                string(self.critical),
                string(self.extensions),
                string(self.reserved),
                string(self.ca_blob or self.ca.public.blob),
                self.tail,
            )
        )

    def blob(self) -> bytes:
        return self.tbs() + string(self.ca.sign(self.tbs()))


def subject(algorithm: Algorithm) -> dict[str, bytes]:
    """The two fields of `Raw` that name a subject of that type."""
    key = made(algorithm, 2).public
    kind = algorithm.removesuffix("@openssh.com") + "-cert-v01@openssh.com"
    return {"kind": kind.encode(), "subject": key.blob[4 + len(algorithm) :]}


@cache
def sound() -> Raw:
    return Raw(ca=made(Algorithm.ED25519, 9)).but(**subject(Algorithm.ED25519))
