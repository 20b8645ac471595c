"""Revoking, how far hosts know of it, and the list itself."""

from fastapi import APIRouter, Request, Response

from jitgate.api.access import Anyone, Proved, SignedIn, outside_of
from jitgate.api.schemas import Json, RevocationRequest, progress_json, revocation_json
from jitgate.flow import revocations
from jitgate.flow.krl import current_krl, progress_of
from jitgate.flow.realms import check_realm

router = APIRouter()


@router.get("/.well-known/jitgate/krl", dependencies=[Anyone])
async def get_krl(request: Request, realm: str = "default", *, hosts: bool = False) -> Response:
    """The realm's revocation list in OpenSSH's binary form; with `hosts`, for who connects to hosts: their keys and
    certificates only. It is not signed: fetch it over TLS."""
    outside = outside_of(request)
    await outside.store.recall(("realm", realm), lambda tx: check_realm(tx, realm))
    data, digest = await current_krl(outside, realm, hosts=hosts)
    headers = {"ETag": f'"{digest}"'}
    if request.headers.get("if-none-match", "") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.post("/v1/revocations", status_code=201)
async def post_revocations(request: Request, body: RevocationRequest, caller: Proved) -> Json:
    """Revoke something of mine; as an administrator, anything. 201 with how far hosts know of it."""
    outside = outside_of(request)
    order = revocations.Order(body.what, body.subject, body.ca, body.realm, body.reason)
    made = await revocations.revoke(outside, caller, order)
    progress = await progress_of(outside, made)
    return {"revocation": revocation_json(made), "progress": progress_json(progress, names=caller.identity.admin)}


@router.get("/v1/revocations")
async def get_revocations(request: Request, caller: SignedIn, *, everybody: bool = False) -> Json:
    """What of mine was revoked; with `everybody` (admins) all."""
    found = await revocations.list_revocations(outside_of(request), caller, everybody=everybody)
    return {"revocations": [revocation_json(each) for each in found]}


@router.get("/v1/revocations/{revocation_id}")
async def get_revocation(request: Request, revocation_id: str, caller: SignedIn) -> Json:
    """One revocation, and how far hosts know of it."""
    outside = outside_of(request)
    made = await revocations.find_revocation(outside, caller, revocation_id)
    progress = await progress_of(outside, made)
    return {"revocation": revocation_json(made), "progress": progress_json(progress, names=caller.identity.admin)}
