"""What a route lets in. Every route names one of these three; a test walks all routes and fails on one that does not.

anyone      nobody has to be signed in
signed_in   a session token in force: enough to look at one's own things
proved      the token, and a signature by a registered key over this very request: needed for every act, and each
            counts against the person's rate
"""

import base64
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Request

from jitgate.core.errors import BadInput, Error, NotSignedIn
from jitgate.core.text import shown
from jitgate.flow.caller import Caller, authenticate, prove, record_unproved
from jitgate.flow.outside import Outside
from jitgate.identity.proof import ProofClaim
from jitgate.identity.tokens import parse_token

PROOF_MAX = 16 * 1024  # characters; one by the largest RSA key has some 5600
PROOF_HINT = "use jitctl, which signs its requests"


def outside_of(request: Request) -> Outside:
    outside: Outside = request.scope["app"].state.outside
    return outside


def source_of(request: Request) -> str:
    """The address at the other end. No header can say otherwise."""
    if request.client is None:
        raise BadInput("the request has no source address")
    return request.client.host


async def anyone() -> None:
    """Declares that a route is open to everybody."""


async def signed_in(request: Request) -> Caller:
    """The person behind the session token; `NotSignedIn` otherwise."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        raise NotSignedIn("this needs a sign-in", "jitctl login")
    return await authenticate(outside_of(request), parse_token(value), source_of(request))


async def proved(request: Request, caller: Annotated[Caller, Depends(signed_in)]) -> Caller:
    """The person behind the session token, with the registered key that signed this request."""
    outside = outside_of(request)
    try:
        claim = await claim_of(request, caller.identity.person_id)
        caller = await prove(outside, caller, claim, decode_proof(request.headers.get("jitgate-proof", "")))
        outside.rates.take(caller.identity.person_id, outside.clock())
    except Error as error:
        await record_unproved(outside, caller, error, request.method, request.scope["route"].path)
        raise
    return caller


async def claim_of(request: Request, subject: str) -> ProofClaim:
    """What a proof of this request has to be over, as the request came in."""
    raw_path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    path = (raw_path + (b"?" + query if query else b"")).decode("latin-1")
    return ProofClaim(_origin(request), subject, request.method, path, await request.body(), _time(request))


def decode_proof(text: str) -> bytes:
    if not text:
        raise BadInput("this needs a proof", PROOF_HINT, code="bad_proof")
    if len(text) > PROOF_MAX:
        raise BadInput("the proof is too large", PROOF_HINT, code="bad_proof")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, and a character beyond ASCII
        raise BadInput("the proof is not base 64", PROOF_HINT, code="bad_proof") from None


def _origin(request: Request) -> str:
    """The address of ours that the client dialled. It is in the proof, so a proof for another service is none here."""
    host = request.headers.get("host", "").lower()
    origin = _by_host(outside_of(request).origins).get(host)
    if origin is None:
        raise BadInput(f"this service is not called {shown(host)}", "dial it by the address in its login URL")
    return origin


@lru_cache(maxsize=4)
def _by_host(origins: frozenset[str]) -> dict[str, str]:
    return {origin.partition("://")[2]: origin for origin in origins}


def _time(request: Request) -> int:
    text = request.headers.get("jitgate-time", "")
    if not text.isascii() or not text.isdigit() or len(text) > 19:  # noqa: PLR2004  # 2^63 has 19 digits
        raise BadInput("the request has no time", PROOF_HINT, code="bad_proof")
    return int(text)


Anyone = Depends(anyone)
SignedIn = Annotated[Caller, Depends(signed_in)]
Proved = Annotated[Caller, Depends(proved)]
