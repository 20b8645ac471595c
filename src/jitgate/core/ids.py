"""Identifiers: ULIDs (48 bits of milliseconds, 80 random bits) in Crockford's base 32."""

import re
from collections.abc import Callable

from jitgate.core.clock import Micros

Random = Callable[[int], bytes]
"""Randomness as it is handed in: `os.urandom` in the program, a seeded source in tests."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_id(now: Micros, random: Random) -> str:
    """A fresh ULID for the moment `now`."""
    number = (now // 1000) << 80 | int.from_bytes(random(10), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -10, -10)])


def is_id(text: str) -> bool:
    return _ULID.fullmatch(text) is not None
