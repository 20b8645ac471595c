"""Identifiers: ULIDs (48 bits of milliseconds, 80 random bits) in Crockford's base 32."""

import re
from collections.abc import Callable
from functools import lru_cache

from jitgate.core.clock import Micros

Random = Callable[[int], bytes]
"""Randomness as it is handed in: `os.urandom` in the program, a seeded source in tests."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_id(now: Micros, random: Random) -> str:
    """A fresh ULID for the moment `now`."""
    salt = random(10)
    return _moment(now // 1000) + _eight(int.from_bytes(salt[:5], "big")) + _eight(int.from_bytes(salt[5:], "big"))


@lru_cache(maxsize=16)
def _moment(milliseconds: int) -> str:
    """The first ten letters, 48 bits."""
    return "".join([_PAIRS[milliseconds >> shift & 1023] for shift in range(40, -10, -10)])


def _eight(number: int) -> str:
    """Eight letters, 40 bits: numbers of this size are taken apart faster than larger ones."""
    pairs = _PAIRS
    return pairs[number >> 30] + pairs[number >> 20 & 1023] + pairs[number >> 10 & 1023] + pairs[number & 1023]


def is_id(text: str) -> bool:
    return _ULID.fullmatch(text) is not None
