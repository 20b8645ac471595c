"""The nonce of a sign-in by a provider: a hash over the key that is to be registered.

`jitctl` asks the provider for an ID token with this nonce, the service computes it again from the request: a token that
was made for another key, another service or another sign-in does not fit (OpenID Connect Core 1.0, 3.1.2.1). Base
install only.
"""

import base64
import hashlib
import re

from jitgate.core.errors import BadInput
from jitgate.core.ids import Random
from jitgate.core.text import shown
from jitgate.identity.proof import origin_of
from jitgate.ssh.material import FINGERPRINT

SALT_BYTES = 32

_SALT = re.compile(r"[0-9a-f]{64}")
_PROVIDER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def check_provider(name: str) -> str:
    """The name of a provider, as settings, requests and proofs have it; else `BadInput`."""
    if not _PROVIDER.fullmatch(name):
        raise BadInput(f"not a provider's name: {shown(name)}", "lower-case letters, digits and -, at most 32")
    return name


def proof_subject(provider: str) -> str:
    """The subject of the proof that goes with a sign-in by this provider."""
    return f"oidc:{check_provider(provider)}"


def new_salt(random: Random) -> str:
    return random(SALT_BYTES).hex()


def nonce_for(origin: str, provider: str, fingerprint: str, salt: str) -> str:
    """The nonce: unpadded base64url of a SHA-256. Raises `BadInput` on a field that could blur where the next begins.

    `origin`: of the service, as it is dialled (`proof.origin_of`). `fingerprint`: "SHA256:...", of the key that signs
    the request. `salt`: 32 random bytes in lower-case hex, new for each sign-in.
    """
    if origin_of(origin) != origin:
        raise BadInput(f"not an origin: {shown(origin)}", "scheme://host[:port], lower case, no default port")
    check_provider(provider)
    if not FINGERPRINT.fullmatch(fingerprint):
        raise BadInput(f"not a fingerprint: {shown(fingerprint)}", "SHA256:..., as ssh-keygen -l has it")
    if not _SALT.fullmatch(salt):
        raise BadInput("not a salt", "32 random bytes as 64 lower-case hex digits")
    text = f"jitgate-nonce-v1\n{origin}\n{provider}\n{fingerprint}\n{salt}\n"
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("ascii")).digest()).rstrip(b"=").decode()
