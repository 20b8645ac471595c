"""Session tokens: random, shown once to the person who signed in, kept only as a hash."""

import base64
import hashlib
import re

from jitgate.core.errors import NotSignedIn
from jitgate.core.ids import Random
from jitgate.core.secret import Secret

PREFIX = "jgs_"  # so that scanners for leaked secrets know it
_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{42}}[AEIMQUYcgkosw048]")  # 32 bytes in base64url, one spelling each


def new_token(random: Random) -> Secret[str]:
    """256 random bits, so that neither guessing nor a copied table of hashes leads to a token."""
    return Secret(PREFIX + base64.urlsafe_b64encode(random(32)).rstrip(b"=").decode("ascii"))


def parse_token(unverified: str) -> Secret[str]:
    """The token if it has a token's form; else `NotSignedIn`, which does not repeat it."""
    if not _TOKEN.fullmatch(unverified):
        raise NotSignedIn("the session token has the wrong form", "sign in again")
    return Secret(unverified)


def token_hash(token: Secret[str]) -> bytes:
    """SHA-256 of the token: what is stored and looked up. No salt is needed for 256 random bits."""
    return hashlib.sha256(token.reveal().encode("ascii")).digest()
