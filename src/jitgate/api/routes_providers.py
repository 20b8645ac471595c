"""Signing in by an identity provider, and the identities that are linked to me."""

from fastapi import APIRouter, Request, Response

from jitgate.api.access import Anyone, Proved, SignedIn, claim_of, decode_proof, outside_of, source_of
from jitgate.api.schemas import (
    DeviceRequest,
    Json,
    NothingRequest,
    ProviderSignInRequest,
    identity_json,
    signed_in_json,
)
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.secret import Secret
from jitgate.flow import devices, identities
from jitgate.flow.outside import Outside
from jitgate.flow.providers import ProviderEvidence, sign_in_by_provider
from jitgate.flow.sign_in import SignedIn as Done
from jitgate.identity.model import LinkedIdentity
from jitgate.identity.nonce import proof_subject

router = APIRouter(prefix="/v1")


@router.post("/sign-in/oidc", status_code=201, dependencies=[Anyone])
async def post_oidc(request: Request, body: ProviderSignInRequest) -> Json:
    """Sign in with an ID token whose nonce is made of the key that is to be registered, and a proof by that key."""
    evidence = await _evidence(request, body, proof_subject(body.provider))
    return signed_in_json(await sign_in_by_provider(outside_of(request), evidence, source_of(request)))


@router.post("/sign-in/device", status_code=201, dependencies=[Anyone])
async def post_device(request: Request, body: DeviceRequest) -> Json:
    """Begin a sign-in that its person finishes with a browser elsewhere; a proof by the key to be registered."""
    evidence = devices.DeviceEvidence(
        unverified_provider=body.provider,
        unverified_key=body.key,
        unverified_proof=decode_proof(request.headers.get("jitgate-proof", "")),
        claim=await claim_of(request, proof_subject(body.provider)),
    )
    begun = await devices.begin_device(outside_of(request), evidence, source_of(request))
    return {
        "id": begun.waiting.id,
        "user_code": begun.start.user_code,
        "verification_uri": begun.start.verification_uri,
        "verification_uri_complete": begun.start.verification_uri_complete,
        "expires_at": rfc3339(begun.waiting.expires_at),
        "interval": begun.waiting.interval // SECOND,
    }


@router.post("/sign-in/device/{waiting_id}", status_code=201, dependencies=[Anyone])
async def post_device_end(request: Request, response: Response, waiting_id: str, body: NothingRequest) -> Json:  # noqa: ARG001  # an empty object
    """202 while the person has not answered; 201 as other sign-ins give it. A proof by the key that began."""
    outside = outside_of(request)
    waiting = await devices.find_waiting(outside, waiting_id)
    claim = await claim_of(request, proof_subject(waiting.provider))
    proof = decode_proof(request.headers.get("jitgate-proof", ""))
    done = await devices.end_device(outside, waiting, claim, proof, source_of(request))
    if isinstance(done, Done):
        return signed_in_json(done)
    response.status_code = 202
    return {"state": "pending", "interval": done.interval // SECOND}


@router.get("/identities")
async def get_identities(request: Request, caller: SignedIn) -> Json:
    """Who I am elsewhere, and here."""
    outside = outside_of(request)
    return {"identities": [_json(outside, each) for each in await identities.list_identities(outside, caller)]}


@router.post("/identities", status_code=201)
async def post_identities(request: Request, body: ProviderSignInRequest, caller: Proved) -> Json:
    """Link another identity: its ID token has a nonce made of the key that signs this request."""
    outside = outside_of(request)
    evidence = await _evidence(request, body, caller.identity.person_id)
    return _json(outside, await identities.link_mine(outside, caller, evidence))


@router.delete("/identities/{identity_id}", status_code=204)
async def delete_identity(request: Request, identity_id: str, caller: Proved) -> Response:
    await identities.unlink_mine(outside_of(request), caller, identity_id)
    return Response(status_code=204)


async def _evidence(request: Request, body: ProviderSignInRequest, subject: str) -> ProviderEvidence:
    return ProviderEvidence(
        unverified_provider=body.provider,
        unverified_token=Secret(body.id_token),
        unverified_salt=body.salt,
        unverified_key=body.key,
        unverified_proof=decode_proof(request.headers.get("jitgate-proof", "")),
        claim=await claim_of(request, subject),
    )


def _json(outside: Outside, identity: LinkedIdentity) -> Json:
    return identity_json(identity, outside.elsewhere.named(identity.issuer))
