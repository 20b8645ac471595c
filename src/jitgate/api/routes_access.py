"""What may I reach, and the way in: hosts, explanations, grants, certificates."""

from fastapi import APIRouter, Request, Response

from jitgate.api.access import Proved, SignedIn, outside_of
from jitgate.api.schemas import (
    CertificateRequest,
    EndGrantRequest,
    GrantRequest,
    Json,
    grant_json,
    host_json,
    tunnel_json,
)
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.json_text import writer
from jitgate.flow import access, grants
from jitgate.flow.caller import Caller
from jitgate.flow.certificates import issue_certificate
from jitgate.flow.outside import Outside
from jitgate.flow.sessions import ticket_for
from jitgate.policy.model import Ask

router = APIRouter(prefix="/v1")
_write = writer()


@router.get("/hosts")
async def get_hosts(request: Request, caller: SignedIn, name: str = "") -> Json:
    """The hosts on which some role speaks of me, and what asking for each login would get; of that `name` only."""
    reachable = await access.reachable_hosts(outside_of(request), caller, name)
    return {
        "hosts": [
            host_json(each.host)
            | {
                "logins": [
                    {"login": login.login, "role": login.role, "permitted": login.permitted, "why": login.why}
                    for login in each.logins
                ]
            }
            for each in reachable
        ]
    }


@router.get("/explain")
async def get_explain(request: Request, caller: SignedIn, host: str, login: str | None = None, realm: str = "") -> Json:
    """Every check of every role, for what asking now would get."""
    explained, who = await access.explain(outside_of(request), caller, host, login, realm)
    return dict(explained) | {"who": {"name": who.name, "issuer": who.issuer, "groups": list(who.groups)}}


@router.post("/grants", status_code=201)
async def post_grants(request: Request, response: Response, body: GrantRequest, caller: Proved) -> Json:
    """Ask for access: 201 with a new grant, 200 with one that runs already, 403 with every check."""
    ask = Ask(body.host, body.login, body.minutes, body.reason, body.ticket, body.role)
    outside = outside_of(request)
    opened = await grants.request_access(outside, caller, ask, body.realm or "")
    response.status_code = 201 if opened.fresh else 200
    return {"grant": grant_json(opened.grant, outside.clock())}


@router.get("/grants")
async def get_grants(
    request: Request,
    caller: SignedIn,
    *,
    all: bool = False,  # noqa: A002  # the query's word
    everybody: bool = False,
    host: str = "",
) -> Json:
    """My running grants; with `all` the ended ones too, with `everybody` (admins) other people's; for `host` only."""
    outside = outside_of(request)
    found = await grants.list_grants(outside, caller, everybody=everybody, ended=all, host=host)
    return {"grants": [grant_json(grant, outside.clock()) for grant in found]}


@router.post("/grants/{grant_id}/end")
async def post_end(request: Request, grant_id: str, body: EndGrantRequest, caller: Proved) -> Json:
    """End a grant; the answer lists the certificates that were out: hosts without an agent take them until they end."""
    outside = outside_of(request)
    ended = await grants.end_grant(outside, caller, grant_id, body.reason)
    return {
        "grant": grant_json(ended.grant, outside.clock()),
        "certificates": [
            {"serial": str(serial), "valid_before": rfc3339(valid_before)}
            for serial, valid_before in ended.certificates
        ],
    }


@router.post("/certificates", status_code=201)
async def post_certificates(request: Request, body: CertificateRequest, caller: Proved) -> Response:
    """A certificate under a running grant, for the key that signed this request."""
    return Response(await certificate(outside_of(request), caller, body), 201, media_type="application/json")


async def certificate(outside: Outside, caller: Caller, asked: CertificateRequest) -> bytes:
    """The answer, written by hand: this is the hot path, and what we made needs no validation."""
    issued = await issue_certificate(outside, caller, asked.grant, asked.host)
    made = issued.certificate.certificate
    said = made.body
    answer = {
        "certificate": made.line(),
        "serial": str(said.serial),
        "key_id": said.key_id,
        "valid_after": rfc3339(said.valid_after * SECOND),
        "valid_before": rfc3339(said.valid_before * SECOND),
        "principals": list(said.principals),
        "login": issued.login,
        "host": host_json(issued.host),
        "grant": grant_json(issued.grant, outside.clock()),
        "tunnel": tunnel_json(outside.gateway, ticket_for(outside, caller, issued)),
    }
    return _write(answer).encode()
