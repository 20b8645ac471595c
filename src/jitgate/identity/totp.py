"""One-time codes (RFC 6238): SHA-1, 6 digits, 30 s, the one form that every authenticator app can do."""

import base64
import hmac
import re

import pyotp

from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput
from jitgate.core.ids import Random
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown

STEP: Micros = 30 * SECOND
WINDOW = 1  # steps before and after now that count: a phone's clock is seconds off, typing takes some (RFC 6238, 5.2)
SEED_BYTES = 20  # the length RFC 4226 section 4 recommends

_CODE = re.compile(r"[0-9]{6}")
_ISSUER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
_NO_SEED = Secret(bytes(SEED_BYTES))
_NO_CODE = "------"  # equal to no code


def new_seed(random: Random) -> Secret[bytes]:
    return Secret(random(SEED_BYTES))


def matching_step(seed: Secret[bytes] | None, unverified_code: Secret[str], now: Micros) -> int | None:
    """The time step whose code this is, the latest if there are two; `None` if it is none within the window.

    The caller refuses a step that is not later than the last one used (RFC 6238, 5.2): so a code works once. Without a
    seed (nobody has that name) the same work is done for nothing.
    """
    text = unverified_code.reveal()
    typed = (text if _CODE.fullmatch(text) else _NO_CODE).encode("ascii")
    middle = now // STEP
    found = None
    for step in range(max(0, middle - WINDOW), middle + WINDOW + 1):
        if hmac.compare_digest(code_at(seed or _NO_SEED, step).reveal().encode("ascii"), typed):
            found = step
    return None if seed is None else found


def code_at(seed: Secret[bytes], step: int) -> Secret[str]:
    """The code of one time step (`now // STEP`)."""
    return Secret(pyotp.HOTP(base32(seed).reveal()).at(step))


def base32(seed: Secret[bytes]) -> Secret[str]:
    """The seed as a person types it into an authenticator app."""
    return Secret(base64.b32encode(seed.reveal()).decode("ascii"))


def uri(seed: Secret[bytes], name: str, issuer: str) -> Secret[str]:
    """The otpauth:// address that an authenticator app reads from a QR code. It holds the seed."""
    if not _ISSUER.fullmatch(issuer):  # a colon would end the issuer early
        raise BadInput(f"not a name for an authenticator app: {shown(issuer)}", "letters, digits, space and . _ -")
    return Secret(
        pyotp.TOTP(base32(seed).reveal()).provisioning_uri(name=check_name("person", name), issuer_name=issuer)
    )
