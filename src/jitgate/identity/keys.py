"""Registered keys: what a person may register, and the list of keys that are known to be compromised."""

import re
from collections.abc import Sequence
from enum import Enum

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Conflict, TooMany, Unsafe
from jitgate.core.text import shown
from jitgate.identity.model import RegisteredKey, check_comment
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

KEYS_MAX = 10  # keys of one person at a time: machines and tokens of a busy human; each is a way in

_LINE = re.compile(r"(SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048])(?:\s.*)?", re.ASCII)  # 32 bytes, one spelling each

RefusedKeys = frozenset[str]
"""SHA-256 fingerprints, as `ssh-keygen -l` prints them, of keys that are never registered nor certified."""


class Standing(Enum):
    """What a key registry beside the database says of a row's key."""

    AGREES = "agrees"
    GONE = "gone"  # there is no such entry
    DIFFERS = "differs"  # there is one, of another person or another key


def parse_key_line(unverified_line: str, refused: RefusedKeys) -> tuple[PublicKey, str]:
    """Key and comment of one line of a .pub file. Raises `BadInput` (form, comment) or `Unsafe` (compromised)."""
    key, comment = parse_public_key_line(unverified_line)
    check_not_refused(key, refused)
    return key, check_comment(comment)


def check_not_refused(key: PublicKey, refused: RefusedKeys) -> None:
    """Asked when a key is registered, and again whenever it is certified: the list grows."""
    if key.fingerprint in refused:
        raise Unsafe(f"the key {key.fingerprint} is on the list of compromised keys", "make a new one: ssh-keygen")


def register(
    key: PublicKey,
    comment: str,
    *,
    person_id: str,
    registered: Sequence[RegisteredKey],
    current: RegisteredKey | None,
    new_id: str,
    now: Micros,
) -> RegisteredKey:
    """The registration of a key whose proof was checked; the one that stands, if the person has registered it already.

    `registered`: the person's keys; `current`: the registration in force of this key, whoever owns it. Raises
    `Conflict` if that is somebody else (a certificate must name one person), `TooMany` beyond `KEYS_MAX`.
    """
    if current is not None:
        if current.person_id != person_id:
            raise Conflict("this key is registered to somebody else", "make a key of your own: ssh-keygen")
        return current
    if sum(key.removed_at is None for key in registered) >= KEYS_MAX:
        raise TooMany(f"{KEYS_MAX} keys are registered already", "remove one first: jitctl keys ls, jitctl keys rm")
    return RegisteredKey(new_id, person_id, key, comment, now)


def parse_refused_keys(text: str) -> RefusedKeys:
    """An operator's list of compromised keys: a fingerprint a line ("SHA256:..."), then anything; # comments.

    Any other line refuses the whole list (`BadInput`): a typing mistake must not let a key through.
    """
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not (entry := line.strip()) or entry.startswith("#"):
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            raise BadInput(f"not a fingerprint, line {number}: {shown(entry)}", "SHA256:..., as ssh-keygen -l has it")
        found.add(match[1])
    return frozenset(found)
