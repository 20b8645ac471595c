"""Passwords of local users: Argon2id (RFC 9106), checked with the same work whether or not the user exists."""

import unicodedata

import argon2

from jitgate.core.errors import Unsafe
from jitgate.core.ids import Random
from jitgate.core.secret import Secret

LENGTH_MIN = 12  # characters; a second factor is always asked too (NIST SP 800-63B-4 3.1.1.2 asks for 8 then)
LENGTH_MAX = 256  # characters; longer is no password, and hashing it would be work for a stranger
_DISTINCT_MIN = 6  # different characters: refuses "aaaaaaaaaaaa" and "121212121212"
_SALT_BYTES = 16  # RFC 9106 section 3.1

# RFC 9106 section 4, the second recommended option (for machines where 2 GiB a sign-in is too much): 64 MiB, 3 passes,
# 4 lanes. Written out, so that a library's new defaults do not quietly change what is stored.
_HASHER = argon2.PasswordHasher(
    time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, salt_len=_SALT_BYTES, type=argon2.Type.ID
)
# The hash, by these parameters, of 32 random bytes that nobody kept: what is checked for a user who does not exist.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$lyQMbc7vKir3nbb7L6L23A$3NsSwq1imkCJ/UG+gtb8SXHkVvOBfF8z1kS9Gul1/Ew"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: read out over the phone without mistakes
_GROUPS, _GROUP = 4, 5  # 20 characters, 100 bits


def hash_password(password: Secret[str], random: Random) -> str:
    """The hash to store, in PHC form with its parameters and a fresh salt. Takes some 50 ms and 64 MiB."""
    return _HASHER.hash(_as_bytes(password), salt=random(_SALT_BYTES))


def verify_password(stored: str | None, unverified: Secret[str]) -> bool:
    """Whether this is the password. `None` (nobody has that name): one verification all the same, then False.

    Raises `Unsafe` if the stored hash cannot be read.
    """
    fits = len(unverified.reveal()) <= LENGTH_MAX
    try:
        _HASHER.verify(_NOBODY if stored is None else stored, _as_bytes(unverified) if fits else b"")
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as error:
        raise Unsafe("a stored password hash cannot be read", "set the password again") from error
    return fits and stored is not None


def needs_rehash(stored: str) -> bool:
    """The hash was made with other parameters than today's: replace it at the next sign-in."""
    return _HASHER.check_needs_rehash(stored)


def generate_password(random: Random) -> Secret[str]:
    """100 random bits in four groups of five, to be handed over once."""
    letters = [_ALPHABET[byte & 31] for byte in random(_GROUPS * _GROUP)]
    return Secret("-".join("".join(letters[i : i + _GROUP]) for i in range(0, len(letters), _GROUP)))


def check_strength(password: Secret[str], name: str) -> None:
    """Raises `Unsafe` for a password that is quickly guessed. Length counts, not composition (NIST SP 800-63B)."""
    text = password.reveal()
    if not LENGTH_MIN <= len(text) <= LENGTH_MAX:
        raise Unsafe(
            f"the password has {len(text)} characters", f"take {LENGTH_MIN} to {LENGTH_MAX}, or let one be generated"
        )
    if len(set(text)) < _DISTINCT_MIN:
        raise Unsafe("the password repeats itself", f"use at least {_DISTINCT_MIN} different characters")
    if name in text.lower():
        raise Unsafe("the password contains the person's name", "take one that does not, or let one be generated")


def _as_bytes(password: Secret[str]) -> bytes:
    """NFC, so that two keyboards' ways to write "é" are one password; a lone surrogate is hashed, not a crash."""
    return unicodedata.normalize("NFC", password.reveal()).encode("utf-8", "surrogatepass")
