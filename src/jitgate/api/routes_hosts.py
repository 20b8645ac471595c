"""Hosts that join, and what admins do with them. Joining itself is open to everybody: the token and the key decide."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jitgate.api.access import Anyone, Proved, SignedIn, outside_of, source_of
from jitgate.api.schemas import Json, host_json
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import MINUTE, SECOND, Micros, rfc3339
from jitgate.core.secret import Secret
from jitgate.flow import host_admin, joining
from jitgate.flow.joining import Invitation, JoinAsked, Joined
from jitgate.hosts.enrolment import HostState, HostTerms, Waiting
from jitgate.hosts.joining import TOKEN_LIFE
from jitgate.hosts.model import LABELS_MAX, LOGINS_MAX
from jitgate.sessions.path import AgentWay
from jitgate.ssh.wire import to_base64

router = APIRouter(prefix="/v1/hosts")

Name = Annotated[str, StringConstraints(max_length=63)]
Realm = Annotated[str, StringConstraints(max_length=32)]
RETRY_S = 10  # how long a host that waits does before it asks again


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class TokenRequest(_Request):
    name: Name
    logins: list[Annotated[str, StringConstraints(max_length=32)]] = Field(max_length=LOGINS_MAX)
    realm: Realm = DEFAULT_REALM
    address: Annotated[str, StringConstraints(max_length=255)] = ""
    port: int = 22
    reach: Literal["dial", "agent"] = "dial"
    labels: dict[str, str] = Field(default={}, max_length=LABELS_MAX)
    minutes: int = TOKEN_LIFE // MINUTE
    again: bool = False
    provider: Annotated[str, StringConstraints(max_length=32)] = ""
    subject: Annotated[str, StringConstraints(max_length=255)] = ""


class JoinRequest(_Request):
    token: Annotated[str, StringConstraints(max_length=64)] = Field(repr=False)
    provider: Annotated[str, StringConstraints(max_length=32)] = ""
    id_token: str = Field(default="", repr=False)  # its length is one of its own rules, and a body is bounded
    realm: Realm
    name: Name
    host_key: Annotated[str, StringConstraints(max_length=8192)]
    time: int
    signature: Annotated[str, StringConstraints(max_length=16384)]
    facts: dict[str, Annotated[str, StringConstraints(max_length=256)]] = Field(default={}, max_length=32)


class ApproveRequest(_Request):
    fingerprint: Annotated[str, StringConstraints(max_length=64)]
    realm: Realm = DEFAULT_REALM


class LabelRequest(_Request):
    set: dict[str, Annotated[str, StringConstraints(max_length=64)]] = Field(default={}, max_length=LABELS_MAX)
    unset: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default=[], max_length=LABELS_MAX)
    realm: Realm = DEFAULT_REALM


@router.post("/tokens", status_code=201)
async def post_token(request: Request, body: TokenRequest, caller: Proved) -> Json:
    """Admins: a one-time token, by which a host of that name may join. It is shown once."""
    terms = HostTerms(body.realm, body.name, body.address, body.port, body.labels, tuple(body.logins), body.reach)
    how = Invitation(body.again, body.minutes * MINUTE, body.provider, body.subject)
    token, kept = await joining.invite_host(outside_of(request), caller, terms, how)
    return {
        "token": token.reveal(),
        "name": body.name,
        "realm": body.realm,
        "expires_at": rfc3339(kept.expires_at),
    }


@router.post("/join", status_code=201, dependencies=[Anyone])
async def post_join(request: Request, body: JoinRequest) -> JSONResponse:
    """A host that proves its key: 201 with all that it needs, or 202 while it waits for its owner."""
    outside = outside_of(request)
    asked = JoinAsked(
        unverified_realm=body.realm,
        unverified_name=body.name,
        secret=Secret(body.token),
        host_key=body.host_key,
        time=body.time,
        signature=body.signature,
        source=source_of(request),
        unverified_provider=body.provider,
        id_token=Secret(body.id_token),
    )
    found = await joining.join_host(outside, asked)
    if isinstance(found, Joined):
        return JSONResponse(_joined(found, outside.agents), 201)
    detail = f"an admin has to agree: jitctl hosts approve {found.terms.name}"
    return JSONResponse({"state": "pending", "detail": detail, "retry_s": RETRY_S}, 202)


@router.get("/agents")
async def get_agents(request: Request, caller: SignedIn) -> Json:
    """Admins: all hosts, what their agents acknowledged and said, and the hosts that wait."""
    outside = outside_of(request)
    fleet = await host_admin.list_agents(outside, caller)
    hosts = [
        host_json(seen.host)
        | {
            "logins": list(seen.host.logins),
            "fingerprint": seen.host.key.fingerprint,
            "added_at": rfc3339(seen.host.added_at),
            "agent": _agent(seen.state, fleet),
        }
        for seen in fleet.hosts
    ]
    return {"hosts": hosts, "waiting": [_waiting(each) for each in fleet.waiting]}


@router.post("/{name}/approve")
async def post_approve(request: Request, name: str, body: ApproveRequest, caller: Proved) -> Json:
    """Admins: let in the host that waits with this very key."""
    waiting = await joining.approve_host(outside_of(request), caller, body.realm, name, body.fingerprint)
    return {"waiting": _waiting(waiting)}


@router.post("/{name}/labels")
async def post_labels(request: Request, name: str, body: LabelRequest, caller: Proved) -> Json:
    """Admins: change what roles may ask for."""
    host = await host_admin.label_host(outside_of(request), caller, body.realm, name, body.set, body.unset)
    return {"host": host_json(host)}


@router.delete("/{name}", status_code=204)
async def delete_host(request: Request, name: str, caller: Proved, realm: str = DEFAULT_REALM) -> None:
    """Admins: forget a host. Nothing is issued for it any more, and its agent is refused."""
    await host_admin.take_host_out(outside_of(request), caller, realm, name)


def _joined(found: Joined, way: AgentWay | None) -> Json:
    host = found.added.host
    gateways = way.gateways if way else ()
    return {
        "state": "joined",
        "url": way.url if way else "",
        "installation": found.installation,
        "realm": host.realm,
        "host": host_json(host) | {"id": host.id, "logins": list(host.logins)},
        "certificate": found.added.certificate.line(),
        "root": found.root.line(),
        "trust": found.trust.json(),
        "bundle": found.bundle.json(),
        "krl": to_base64(found.krl),
        "gateways": [{"address": g.address, "port": g.port, "server_name": g.server_name} for g in gateways],
    }


def _agent(state: HostState | None, fleet: host_admin.Fleet) -> Json | None:
    if state is None:
        return None
    return {
        "connected": state.connected_at is not None,
        "connected_at": _when(state.connected_at),
        "seen_at": rfc3339(state.seen_at),
        "node": state.node,
        "version": state.agent,
        "bundle": list(state.bundle) if state.bundle else None,
        "bundle_at": _when(state.bundle_at),
        "current": state.bundle is not None and state.bundle[1] >= fleet.state,
        "trust": list(state.trust) if state.trust else None,
        "trust_at": _when(state.trust_at),
        "trust_current": state.trust is not None and state.trust[1] >= fleet.trust,
        "clock_off_s": state.clock_off / SECOND,
        "problems": [{"code": each.code, "detail": each.detail} for each in state.problems],
    }


def _waiting(waiting: Waiting) -> Json:
    return {
        "name": waiting.terms.name,
        "realm": waiting.terms.realm,
        "how": waiting.how,
        "fingerprint": waiting.key.fingerprint,
        "source": waiting.source,
        "asked_at": rfc3339(waiting.asked_at),
        "approved_at": _when(waiting.approved_at),
    }


def _when(moment: Micros | None) -> str | None:
    return None if moment is None else rfc3339(moment)
