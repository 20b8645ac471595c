"""Time as it is kept and passed everywhere: integer microseconds since 1970, UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

Micros = int
Clock = Callable[[], Micros]

SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
DAY: Micros = 24 * HOUR


def system_clock() -> Micros:
    return time.time_ns() // 1000


def rfc3339(moment: Micros) -> str:
    """The moment in RFC 3339, UTC, to the second; what JSON output and logs show."""
    return _second(moment // SECOND)


@lru_cache(maxsize=1024)  # answers name the same few seconds again and again
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
