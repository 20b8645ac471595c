"""Back-off after failed sign-ins, per account and per address (security invariant 11).

Attempts are counted when they begin (`failed`), and taken back when they succeed: else guesses made at the same time
would all be free. An account is counted under the name as typed, whether or not anybody has it, so that being
throttled says nothing about who exists.
"""

import hashlib
import ipaddress
from dataclasses import dataclass

from jitgate.core.clock import DAY, HOUR, MINUTE, SECOND, Micros
from jitgate.core.errors import BadInput, TooMany
from jitgate.core.text import shown

_COUNT_MAX = 1000  # failures are not counted beyond: the wait has long been at its cap


@dataclass(frozen=True, slots=True)
class Limit:
    """`free` failures cost nothing; the next one makes the following attempt wait `first`, then twice that, to `cap`.

    After `forget` (longer than `cap`) without a failure the count starts anew.
    """

    free: int
    first: Micros
    cap: Micros
    forget: Micros


ACCOUNT = Limit(free=3, first=SECOND, cap=15 * MINUTE, forget=DAY)
"""Three slips are human. At the cap 96 guesses a day: who has the password guesses a code (3 of a million count) with
a chance of 0.03 % a day."""

ADDRESS = Limit(free=20, first=SECOND, cap=5 * MINUTE, forget=HOUR)
"""An office behind one address has more slips, and must not be shut out for long by one guest in it."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """Failures so far (`None` instead of a row: none) and the moment of the last."""

    failures: int
    last: Micros


class Throttled(TooMany):
    """Too many failures; `retry_after` is the wait in microseconds."""

    default_code = "throttled"

    def __init__(self, retry_after: Micros) -> None:
        seconds = -(-retry_after // SECOND)
        super().__init__("too many failed sign-ins", f"wait {seconds} s and try again")
        self.retry_after = retry_after


def wait(throttle: Throttle | None, now: Micros, limit: Limit = ACCOUNT) -> Micros:
    """How long until the next attempt is looked at; 0: go ahead."""
    if throttle is None or throttle.failures <= limit.free:
        return 0
    doublings = min(throttle.failures - limit.free - 1, 40)  # bounded: 2**40 s is beyond any cap
    pause = min(limit.first << doublings, limit.cap)
    return max(0, min(pause, throttle.last + pause - now))  # never above the cap, even if the clock was set back


def failed(throttle: Throttle | None, now: Micros, limit: Limit = ACCOUNT) -> Throttle:
    """The row after one more failure (or attempt that has begun)."""
    before = 0 if throttle is None or is_forgotten(throttle, now, limit) else throttle.failures
    return Throttle(min(before + 1, _COUNT_MAX), now)


def forgiven(throttle: Throttle | None) -> Throttle | None:
    """An address's row after a success from there: that attempt and one failure are taken back, not more.

    Else somebody with an account of their own could wash the address clean between guesses at others. An account's
    row is deleted by a success.
    """
    return None if throttle is None or throttle.failures <= 2 else Throttle(throttle.failures - 2, throttle.last)  # noqa: PLR2004


def is_forgotten(throttle: Throttle, now: Micros, limit: Limit) -> bool:
    """The row says nothing any more and may be deleted."""
    return now - throttle.last > limit.forget


def account_subject(unverified_name: str, known_device: str = "") -> str:
    """Under what an account's failures are kept: a hash, since people type passwords where a name belongs.

    `known_device` is the fingerprint of the key that proves the request, when it is registered for that name already:
    such attempts have a count of their own, so that strangers cannot lock somebody out of their own machine.
    """
    return hashlib.sha256(f"{unverified_name}\n{known_device}".encode("utf-8", "replace")).hexdigest()


def address_subject(address: str) -> str:
    """Under what an address's failures are kept: IPv4 as it is, IPv6 by its /64 (what one customer is given)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise BadInput(f"not an address: {shown(address)}", "an IPv4 or IPv6 address") from None
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:  # a dual-stack listener's way to write IPv4: not all of it is one customer
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
