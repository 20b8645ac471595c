"""Signing in by an identity provider, and the identities that are linked to me."""

from fastapi import APIRouter, Request

from jitgate.api.access import Anyone, claim_of, decode_proof, outside_of, source_of
from jitgate.api.schemas import Json, ProviderSignInRequest, signed_in_json
from jitgate.core.secret import Secret
from jitgate.flow.providers import ProviderEvidence, sign_in_by_provider
from jitgate.identity.nonce import proof_subject

router = APIRouter(prefix="/v1")


@router.post("/sign-in/oidc", status_code=201, dependencies=[Anyone])
async def post_oidc(request: Request, body: ProviderSignInRequest) -> Json:
    """Sign in with an ID token whose nonce is made of the key that is to be registered, and a proof by that key."""
    evidence = await _evidence(request, body)
    return signed_in_json(await sign_in_by_provider(outside_of(request), evidence, source_of(request)))


async def _evidence(request: Request, body: ProviderSignInRequest) -> ProviderEvidence:
    return ProviderEvidence(
        unverified_provider=body.provider,
        unverified_token=Secret(body.id_token),
        unverified_salt=body.salt,
        unverified_key=body.key,
        unverified_proof=decode_proof(request.headers.get("jitgate-proof", "")),
        claim=await claim_of(request, proof_subject(body.provider)),
    )
