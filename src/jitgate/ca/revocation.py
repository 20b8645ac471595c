"""A revocation: what was taken back, by whom, and what it came to."""

from dataclasses import dataclass
from enum import StrEnum

from jitgate.core.clock import HOUR, Micros

MARGIN: Micros = HOUR
"""So long after its end a certificate stays in the list: clocks of hosts that are wrong by less do not matter."""


class What(StrEnum):
    CERTIFICATE = "certificate"  # one serial, and the grant that it was under
    SERIALS = "serials"  # a range of one CA key's
    KEY = "key"  # a public key, whoever certified it
    PERSON = "person"  # all certificates and keys of somebody
    HOST = "host"  # its key, its certificates, and the host itself
    GRANT = "grant"  # all certificates under it
    CA = "ca"  # a CA key with all that it signed


@dataclass(frozen=True, slots=True)
class Revocation:
    """`subject`: what was named, in words. `person_id`: whose it was, if one person's. `made_by`: a name.
    `counter`: the installation's state counter with it. `serials`: certificates then valid; `keys`: public keys."""

    id: str
    realm: str
    what: What
    subject: str
    person_id: str
    made_by: str
    made_at: Micros
    counter: int
    serials: int
    keys: int


@dataclass(frozen=True, slots=True)
class Out:
    """A certificate that left. `ca`: the CA key's fingerprint; ids are empty where there is none."""

    authority_id: str
    ca: str
    realm: str
    serial: int
    key_id: str
    person_id: str
    grant_id: str
    valid_before: Micros
