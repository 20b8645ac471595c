"""Who I am: signing in and out, and my keys."""

from fastapi import APIRouter, Request, Response

from jitgate.api.access import Anyone, Proved, SignedIn, claim_of, decode_proof, outside_of, source_of
from jitgate.api.schemas import AddKeyRequest, Json, SignInRequest, key_json, person_json, sign_in_json, signed_in_json
from jitgate.core.secret import Secret
from jitgate.flow import keys
from jitgate.flow.directory import who_am_i
from jitgate.flow.sign_in import sign_in, sign_out
from jitgate.identity.sign_in import Evidence

router = APIRouter(prefix="/v1")


@router.post("/sign-in", status_code=201, dependencies=[Anyone])
async def post_sign_in(request: Request, body: SignInRequest) -> Json:
    """Sign a local user in: password, code, and a proof by the key that is to be registered."""
    evidence = Evidence(
        unverified_name=body.name,
        unverified_password=Secret(body.password),
        unverified_code=Secret(body.code),
        unverified_key=body.key,
        unverified_proof=decode_proof(request.headers.get("jitgate-proof", "")),
        claim=await claim_of(request, body.name),
    )
    done = await sign_in(outside_of(request), evidence, source_of(request))
    return signed_in_json(done)


@router.post("/sign-out", status_code=204)
async def post_sign_out(request: Request, caller: SignedIn) -> Response:
    """End this sign-in. The token alone is enough: who holds it may always throw it away."""
    await sign_out(outside_of(request), caller)
    return Response(status_code=204)


@router.get("/me")
async def get_me(request: Request, caller: SignedIn) -> Json:
    """Who I am to policy now. `groups_unknown`: why the groups are not all known, in words; usually empty."""
    identity = (await who_am_i(outside_of(request), caller)).identity
    me = person_json(identity) | {"groups_unknown": identity.unknown}
    return {"person": me, "sign_in": sign_in_json(caller.sign_in)}


@router.get("/keys")
async def get_keys(request: Request, caller: SignedIn) -> Json:
    return {"keys": [key_json(key) for key in await keys.list_keys(outside_of(request), caller)]}


@router.post("/keys", status_code=201)
async def post_keys(request: Request, body: AddKeyRequest, caller: Proved) -> Json:
    """Register another key of mine: it signs the same request as the registered one, in a header of its own."""
    claim = await claim_of(request, caller.identity.person_id)
    proof = decode_proof(request.headers.get("jitgate-key-proof", ""))
    return key_json(await keys.add_key(outside_of(request), caller, body.key, claim, proof))


@router.delete("/keys/{key_id}", status_code=204)
async def delete_key(request: Request, key_id: str, caller: Proved) -> Response:
    await keys.remove_key(outside_of(request), caller, key_id)
    return Response(status_code=204)
