"""What an operator can have done, by name: the same whether `serve` runs and does it, or the command itself does.

Arguments and results are JSON. Whatever is secret in a result is shown to the operator once and kept nowhere.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jitgate.agent.trust import HostTrust, dump
from jitgate.api.schemas import session_json
from jitgate.app.acts_backup import ACTS as BACKUP_ACTS
from jitgate.app.acts_ca import ACTS as CA_ACTS
from jitgate.app.acts_realm import ACTS as REALM_ACTS
from jitgate.app.acts_revoke import ACTS as REVOKE_ACTS
from jitgate.app.acts_rotate import ACTS as ROTATE_ACTS
from jitgate.app.acts_vault import ACTS as VAULT_ACTS
from jitgate.app.control import Act, Json
from jitgate.audit.events import Actor
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import rfc3339
from jitgate.core.secret import Secret
from jitgate.flow import hosts, identities, people, policy, sessions
from jitgate.flow.outside import Outside
from jitgate.hosts.model import Host
from jitgate.identity import totp
from jitgate.identity.model import LinkedIdentity, Person
from jitgate.policy.bundle import load_text


def acts(outside: Outside) -> Mapping[str, Act]:
    return {
        name: partial(act, outside)
        for name, act in {
            "user add": _user_add,
            "user ls": _user_ls,
            "user show": _user_show,
            "user link": _user_link,
            "user unlink": _user_unlink,
            "user disable": _user_disable,
            "user enable": _user_enable,
            "host add": _host_add,
            "host ls": _host_ls,
            "host renew": _host_renew,
            "host rm": _host_rm,
            "policy apply": _policy_apply,
            **CA_ACTS,
            **VAULT_ACTS,
            **BACKUP_ACTS,
            **REALM_ACTS,
            **REVOKE_ACTS,
            **ROTATE_ACTS,
            "session ls": _session_ls,
            "session kill": _session_kill,
        }.items()
    }


async def _user_add(outside: Outside, actor: Actor, told: Json) -> Json:
    if told.get("no_password"):
        added = await people.add_plain_person(outside, actor, told["name"], groups=told["groups"], admin=told["admin"])
        return {"person": _person(added)}
    password = told.get("password")
    made = await people.add_person(
        outside,
        actor,
        told["name"],
        groups=told["groups"],
        admin=told["admin"],
        password=None if password is None else Secret(password),
    )
    return {
        "person": _person(made.person),
        "password": made.password.reveal(),
        "totp_secret": totp.base32(made.seed).reveal(),
        "totp_uri": made.uri.reveal(),
    }


async def _user_ls(outside: Outside, _actor: Actor, _told: Json) -> Json:
    return {"users": [_person(person) for person in await people.list_people(outside)]}


async def _user_show(outside: Outside, _actor: Actor, told: Json) -> Json:
    person, found = await identities.person_with_identities(outside, told["name"])
    return {"person": _person(person), "identities": [_identity(outside, each) for each in found]}


async def _user_link(outside: Outside, actor: Actor, told: Json) -> Json:
    linked = await identities.link_identity(outside, actor, told["name"], told["provider"], told["subject"])
    return {"identity": _identity(outside, linked)}


async def _user_unlink(outside: Outside, actor: Actor, told: Json) -> Json:
    gone = await identities.unlink_identity(outside, actor, told["name"], told["provider"], told["subject"])
    return {"identity": _identity(outside, gone)}


async def _user_disable(outside: Outside, actor: Actor, told: Json) -> Json:
    return {"person": _person(await people.disable_person(outside, actor, told["name"]))}


async def _user_enable(outside: Outside, actor: Actor, told: Json) -> Json:
    return {"person": _person(await people.enable_person(outside, actor, told["name"]))}


async def _host_add(outside: Outside, actor: Actor, told: Json) -> Json:
    added = await hosts.add_host(
        outside,
        actor,
        name=told["name"],
        address=told["address"],
        port=told["port"],
        logins=told["logins"],
        labels=told["labels"],
        host_key_line=told["host_key"],
        realm=told.get("realm") or DEFAULT_REALM,
    )
    return _trusting(added)


async def _host_renew(outside: Outside, actor: Actor, told: Json) -> Json:
    return _trusting(await hosts.renew_host(outside, actor, told["name"], told.get("realm") or DEFAULT_REALM))


async def _host_ls(outside: Outside, _actor: Actor, _told: Json) -> Json:
    return {"hosts": [_host(host) for host in await hosts.list_hosts(outside)]}


async def _host_rm(outside: Outside, actor: Actor, told: Json) -> Json:
    removed = await hosts.remove_host(outside, actor, told["name"], told.get("realm") or DEFAULT_REALM)
    return {"host": _host(removed)}


async def _policy_apply(outside: Outside, actor: Actor, told: Json) -> Json:
    done = await policy.apply_policy(outside, load_text(told["bundle"]), actor)
    change = done.difference
    return {
        "digest": done.digest,
        "roles": done.roles,
        "added": list(change.added),
        "changed": list(change.changed),
        "removed": list(change.removed),
        "lost_denials": list(change.lost_denials),
        "changed_denials": list(change.changed_denials),
    }


async def _session_ls(outside: Outside, _actor: Actor, told: Json) -> Json:
    return {"sessions": [session_json(each) for each in await sessions.all_sessions(outside, ended=told["all"])]}


async def _session_kill(outside: Outside, actor: Actor, told: Json) -> Json:
    return {"session": session_json(await sessions.kill_session(outside, actor, told["id"], told["reason"]))}


def _trusting(added: hosts.AddedHost) -> Json:
    host = added.host
    trust = HostTrust(
        realm=host.realm,
        host=host.name,
        alias=host.alias,
        scopes=(f"host:{host.name}",),
        logins=host.logins,
        user_ca=added.user_authorities,
        host_key=host.key,
        host_certificate=added.certificate,
    )
    return {"host": _host(host), "trust": dump(trust)}


def _person(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "name": person.name,
        "groups": list(person.groups),
        "admin": person.admin,
        "left": sorted(person.left),
        "disabled_at": None if person.disabled_at is None else rfc3339(person.disabled_at),
        "created_at": rfc3339(person.created_at),
    }


def _identity(outside: Outside, identity: LinkedIdentity) -> dict[str, Any]:
    return {
        "id": identity.id,
        "provider": outside.elsewhere.named(identity.issuer),
        "issuer": identity.issuer,
        "subject": identity.subject,
        "linked_at": rfc3339(identity.linked_at),
    }


def _host(host: Host) -> dict[str, Any]:
    return {
        "name": host.name,
        "realm": host.realm,
        "alias": host.alias,
        "address": host.address,
        "port": host.port,
        "labels": dict(host.labels),
        "logins": list(host.logins),
        "fingerprint": host.key.fingerprint,
    }
