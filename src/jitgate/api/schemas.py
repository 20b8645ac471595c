"""Requests as they may come in, and our own things as JSON. Times are RFC 3339 UTC, serials are text."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jitgate.ca.realms import DEFAULT_REALM
from jitgate.ca.revocation import Revocation, What
from jitgate.core.clock import SECOND, Micros, rfc3339
from jitgate.flow.krl import Progress
from jitgate.flow.sign_in import SignedIn
from jitgate.grants.lifecycle import state
from jitgate.grants.model import Grant
from jitgate.hosts.model import Host
from jitgate.identity.model import LinkedIdentity, Person, RegisteredKey, SignIn, VerifiedIdentity
from jitgate.sessions.path import GatewayPath
from jitgate.sessions.session import Session

Json = dict[str, Any]


class _Request(BaseModel):
    # `hide_input_in_errors`: a body may hold a password.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class SignInRequest(_Request):
    name: Annotated[str, StringConstraints(max_length=128)]
    password: Annotated[str, StringConstraints(max_length=1024)] = Field(repr=False)
    code: Annotated[str, StringConstraints(max_length=16)] = Field(repr=False)
    key: Annotated[str, StringConstraints(max_length=8192)]


class ProviderSignInRequest(_Request):
    provider: Annotated[str, StringConstraints(max_length=32)]
    id_token: str = Field(repr=False)  # its length is one of its own rules, and a body is bounded
    salt: Annotated[str, StringConstraints(max_length=64)]
    key: Annotated[str, StringConstraints(max_length=8192)]


class DeviceRequest(_Request):
    provider: Annotated[str, StringConstraints(max_length=32)]
    key: Annotated[str, StringConstraints(max_length=8192)]


class NothingRequest(_Request):
    pass


class AddKeyRequest(_Request):
    key: Annotated[str, StringConstraints(max_length=8192)]


class GrantRequest(_Request):
    host: Annotated[str, StringConstraints(max_length=64)]
    login: Annotated[str, StringConstraints(max_length=64)] | None = None
    minutes: int | None = None
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""
    ticket: Annotated[str, StringConstraints(max_length=2000)] = ""
    role: Annotated[str, StringConstraints(max_length=64)] | None = None
    realm: Annotated[str, StringConstraints(max_length=32)] | None = None


class EndGrantRequest(_Request):
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""


class EndSessionRequest(_Request):
    reason: Annotated[str, StringConstraints(max_length=500)] = ""


class RevocationRequest(_Request):
    what: Annotated[What, Field(strict=False)]  # a text in JSON
    subject: Annotated[str, StringConstraints(max_length=8192)]
    ca: Annotated[str, StringConstraints(max_length=64)] = ""
    realm: Annotated[str, StringConstraints(max_length=32)] = DEFAULT_REALM
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""


class CertificateRequest(_Request):
    grant: Annotated[str, StringConstraints(max_length=26)]
    host: Annotated[str, StringConstraints(max_length=64)]


def person_json(person: Person | VerifiedIdentity) -> Json:
    identifier = person.id if isinstance(person, Person) else person.person_id
    return {"id": identifier, "name": person.name, "groups": list(person.groups), "admin": person.admin}


def signed_in_json(done: SignedIn) -> Json:
    """What a sign-in gives, whichever way it was."""
    return {
        "token": done.token.reveal(),
        "expires_at": rfc3339(done.sign_in.expires_at),
        "person": person_json(done.identity),
        "key": key_json(done.key),
    }


def sign_in_json(sign_in: SignIn) -> Json:
    return {
        "id": sign_in.id,
        "provider": sign_in.provider,
        "issuer": sign_in.issuer,
        "factors": [{"factor": factor, "at": rfc3339(at)} for factor, at in sign_in.factors],
        "created_at": rfc3339(sign_in.created_at),
        "expires_at": rfc3339(sign_in.expires_at),
        "token_ends_at": None if sign_in.token_ends_at is None else rfc3339(sign_in.token_ends_at),
    }


def identity_json(identity: LinkedIdentity, provider: str) -> Json:
    """`provider`: its name, `local` for a password; empty for one that is not set up any more."""
    return {
        "id": identity.id,
        "provider": provider,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "linked_at": rfc3339(identity.linked_at),
    }


def key_json(key: RegisteredKey) -> Json:
    return {
        "id": key.id,
        "fingerprint": key.key.fingerprint,
        "algorithm": key.key.algorithm,
        "comment": key.comment,
        "added_at": rfc3339(key.added_at),
    }


def host_json(host: Host) -> Json:
    return {
        "name": host.name,
        "realm": host.realm,
        "alias": host.alias,
        "address": host.address,
        "port": host.port,
        "labels": dict(host.labels),
    }


def gateway_json(path: GatewayPath | None) -> Json | None:
    """Where the tunnel is dialled."""
    if path is None:
        return None
    return {
        "address": path.address,
        "port": path.port,
        "server_name": path.server_name,
        "keep_tls": path.keep_tls,
    }


def tunnel_json(path: GatewayPath | None, ticket: tuple[str, Micros] | None) -> Json | None:
    """What opens a tunnel, beside a certificate. It may end before that does: with the sign-in."""
    said = gateway_json(path)
    if said is None or ticket is None:
        return None
    text, expires_at = ticket
    return {"ticket": text, "expires_at": rfc3339(expires_at)} | said


def session_json(session: Session) -> Json:
    return {
        "id": session.id,
        "kind": session.kind,
        "person": session.person_name,
        "grant": session.grant_id,
        "host": session.host,
        "login": session.login,
        "source": session.source,
        "node": session.node,
        "port": session.port,
        "opened_at": rfc3339(session.opened_at),
        "ends_at": rfc3339(session.ends_at),
        "ended_at": None if session.ended_at is None else rfc3339(session.ended_at),
        "end_reason": session.end_reason,
        "up": session.up,
        "down": session.down,
    }


def revocation_json(made: Revocation) -> Json:
    return {
        "id": made.id,
        "realm": made.realm,
        "what": made.what,
        "subject": made.subject,
        "made_by": made.made_by,
        "made_at": rfc3339(made.made_at),
        "counter": made.counter,
        "serials": made.serials,
        "keys": made.keys,
    }


def progress_json(progress: Progress, *, names: bool) -> Json:
    """`names`: of the hosts, too, which are not everybody's to know."""
    return {
        "hosts": progress.hosts,
        "told": progress.told,
        "slowest_s": None if progress.slowest is None else progress.slowest / SECOND,
        "waiting": list(progress.waiting) if names else [],
        "without_agent": list(progress.without_agent) if names else [],
        "waiting_count": len(progress.waiting),
        "without_agent_count": len(progress.without_agent),
    }


def grant_json(grant: Grant, now: Micros) -> Json:
    target = grant.targets[0]
    return {
        "id": grant.id,
        "person": grant.holder.name,
        "role": grant.role,
        "realm": grant.realm,
        "host": target.host,
        "login": target.login,
        "reason": grant.reason,
        "opened_at": rfc3339(grant.opened_at),
        "ends_at": rfc3339(grant.ends_at),
        "ended_at": None if grant.ended_at is None else rfc3339(grant.ended_at),
        "end_reason": grant.end_reason,
        "state": state(grant, now),
    }
