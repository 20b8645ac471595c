"""What a client has to know before it trusts anything, and whether the service is alive."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from jitgate import __version__
from jitgate.api.access import Anyone, outside_of
from jitgate.api.schemas import Json, gateway_json
from jitgate.audit.checkpoint import verifier_key
from jitgate.ca.names import host_pattern
from jitgate.ca.realms import CaKind
from jitgate.core.errors import Error, NotFound
from jitgate.flow.authorities import trusted
from jitgate.flow.krl import current_krl

router = APIRouter(dependencies=[Anyone])


@dataclass(frozen=True, slots=True)
class About:
    """What the composition knows and the acts do not: the service's address, its self-made TLS authority, and how the
    gateway is ("ok", or what is wrong), where there is one."""

    url: str
    tls_authority: bytes | None
    gateway: Callable[[], str] | None = None


@router.get("/.well-known/jitgate")
async def get_about(request: Request) -> Json:
    """Address, ways to sign in, the authorities of each realm, and the log's key."""
    outside = outside_of(request)
    about: About = request.app.state.about
    held = await outside.signer.keys()
    listed = await outside.store.read(trusted)
    providers = list(outside.elsewhere.providers.values())
    realms = sorted({authority.realm for authority in listed if authority.kind is not CaKind.MOUNT})
    return {
        "name": "jitgate",
        "url": about.url,
        "version": __version__,
        "installation": await outside.store.recall(("installation",), lambda tx: tx.value("installation") or ""),
        "root": held.agents.root.line() if held.agents else None,
        "sign_in": ["local", "oidc"] if providers else ["local"],
        "providers": [
            {
                "name": each.settings.name,
                "issuer": each.settings.issuer,
                "client_id": each.settings.client_id,
                "scopes": list(each.settings.scopes),
                "flows": list(each.settings.flows),
                "ca": each.authority,
            }
            for each in providers
        ],
        "realms": [
            {
                "name": realm,
                "user_ca": [a.key.line() for a in listed if a.realm == realm and a.kind is CaKind.USER],
                "host_ca": [a.key.line() for a in listed if a.realm == realm and a.kind is CaKind.HOST],
                "interception_ca": [a.key.line() for a in listed if a.realm == realm and a.kind is CaKind.INTERCEPTION],
                "host_pattern": host_pattern(realm),
                "krl": {
                    "path": f"/.well-known/jitgate/krl?realm={realm}",
                    "sha256": (await current_krl(outside, realm))[1],
                },
                "host_krl": {
                    "path": f"/.well-known/jitgate/krl?realm={realm}&hosts=true",
                    "sha256": (await current_krl(outside, realm, hosts=True))[1],
                },
            }
            for realm in realms
        ],
        "gateway": gateway_json(outside.gateway),
        "log": {"origin": held.origin, "key": verifier_key(held.origin, held.log.blob[-32:])},
    }


@router.get("/.well-known/jitgate/tls-ca", response_class=PlainTextResponse)
async def get_tls_authority(request: Request) -> PlainTextResponse:
    """The self-made TLS authority's certificate; a client compares its SHA-256 with the one in its login URL."""
    about: About = request.app.state.about
    if about.tls_authority is None:
        raise NotFound("this service has no TLS authority of its own", "its certificate is publicly trusted")
    return PlainTextResponse(about.tls_authority, media_type="application/x-pem-file")


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> str:
    """The process answers."""
    return "ok"


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """The service can do its work: store, signer and key registry answer, a policy is in force, tunnels are taken."""
    outside = outside_of(request)
    found: dict[str, str] = {}
    try:
        digest = await outside.store.read(lambda tx: tx.policies.digest())
        found["store"] = "ok"
        found["policy"] = "ok" if digest else "none is applied: jitgate policy apply"
    except Error as error:
        found["store"] = error.what
    try:
        await outside.signer.keys()
        found["signer"] = "ok"
    except Error as error:
        found["signer"] = error.what
    try:
        await outside.key_registry.check()
        found["keys"] = "ok"
    except Error as error:
        found["keys"] = error.what
    about: About = request.app.state.about
    if about.gateway is not None:
        found["gateway"] = about.gateway()
    ready = all(state == "ok" for state in found.values())
    return JSONResponse(found, 200 if ready else 503)
