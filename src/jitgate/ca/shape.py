"""What a grant becomes as a certificate. Pure; nothing here comes from a request but the key.

Rules for a person's certificate, in order:
1. The grant is running now, and the target is one of its targets; a target of another grant is refused.
2. Principals: `login@host:NAME` of that target, nothing else.
3. Validity: from 60 s ago, for clocks that differ, to the grant's end or its certificate time, whichever is sooner.
   Both ends are cut to whole seconds towards the inside.
4. Critical options and extensions are the grant's; its metadata is one extension under our own name. Only
   `source-address` may be another: the gateway's, where connections come from there and the gateway asks for the
   grant's own.
5. What came out is compared with the grant once more (`wider`): a slip in 1 to 4 is refused, not signed.

A host's certificate names the host's alias and its name, and ends.
"""

import json
from typing import Final

from jitgate.ca.model import CertSpec
from jitgate.ca.names import (
    host_alias,
    host_key_id,
    interception_key_id,
    interception_names,
    is_taken,
    looks_like_address,
    principal,
    user_key_id,
)
from jitgate.core.clock import DAY, SECOND, Micros
from jitgate.core.errors import BadInput, Conflict, Denied
from jitgate.core.text import check_name, shown
from jitgate.grants.lifecycle import is_active
from jitgate.grants.model import ANY_HOST, MOUNT_REALM, Grant, Target
from jitgate.ssh.cert import CertificateBody, CertType
from jitgate.ssh.pubkey import PublicKey

BACKDATE_S: Final = 60  # a host's clock may be this far behind ours
HOST_DAYS: Final = 90
HOST_DAYS_MAX: Final = 398
INTERCEPTION_S: Final = 3600  # the gateway makes a new one when it needs one
METADATA: Final = "metadata@jitgate"


def shape(grant: Grant, target: Target, key: PublicKey, ca: PublicKey, now: Micros, *, gateway: str = "") -> CertSpec:
    """`gateway`: the `source-address` that stands for the grant's, because the gateway asks for that one.

    Raises `Conflict` when the grant is not running, `Denied` for a target that is not the grant's.
    """
    if now < grant.opened_at or not is_active(grant, now):
        raise Conflict("the grant is not running", "ask again: jitctl vm connect")
    if target.host == ANY_HOST or grant.realm.startswith(MOUNT_REALM):
        raise Denied("a grant of a Vault mount gives its one certificate and no other", "sign again")
    if target not in grant.targets:
        raise Denied(f"the grant does not name {target.login} on {target.host}", "ask for that host and login")
    now_s = now // SECOND
    spec = CertSpec(
        realm=grant.realm,
        type=CertType.USER,
        key=key,
        key_id=user_key_id(grant.id, grant.holder.name),
        principals=(principal(target.login, target.host),),
        valid_after_s=now_s - BACKDATE_S,
        valid_before_s=min(now_s + grant.certificate_s, grant.ends_at // SECOND),
        critical_options=_options(grant, gateway),
        extensions=_extensions(grant),
        ca=ca,
        grant_id=grant.id,
    )
    if spec.valid_before_s <= now_s:
        raise Conflict("the grant ends within this second", "ask again: jitctl vm connect")
    if why := wider(spec.body(1), grant, now, gateway=gateway):
        raise Denied(f"the certificate would be wider than its grant: {why}")
    return spec


def shape_host(
    realm: str, name: str, alias: str, key: PublicKey, ca: PublicKey, now: Micros, *, days: int = HOST_DAYS
) -> CertSpec:
    """The certificate that a host shows. `alias` is `NAME.REALM.jitgate`. Raises `BadInput`."""
    check_name("host", name)
    if alias != host_alias(realm, name):
        raise BadInput(f"not the alias of {name} in {realm}: {shown(alias)}")
    if looks_like_address(name):
        raise BadInput(f"a host name that is an address: {shown(name)}", "give the host a name of its own")
    if is_taken(name):
        raise BadInput(f"a host name that ends as no host's may: {shown(name)}", "not in .rec or .jitgate")
    if not 1 <= days <= HOST_DAYS_MAX:
        raise BadInput(f"a host certificate for {days} days", f"from 1 to {HOST_DAYS_MAX}")
    now_s = now // SECOND
    return CertSpec(
        realm=realm,
        type=CertType.HOST,
        key=key,
        key_id=host_key_id(realm, name),
        principals=(alias, name),
        valid_after_s=now_s - BACKDATE_S,
        valid_before_s=now_s + days * DAY // SECOND,
        critical_options=(),
        extensions=(),
        ca=ca,
    )


def shape_interception(
    realm: str, name: str, key: PublicKey, ca: PublicKey, now: Micros, *, seconds: int = INTERCEPTION_S
) -> CertSpec:
    """The certificate that the gateway shows where it stands in for the host `name`: never one of the host's own names.

    Raises `BadInput`.
    """
    check_name("host", name)
    if is_taken(name):
        raise BadInput(f"no host's name: {shown(name)}", "the name of a host, without .rec")
    now_s = now // SECOND
    return CertSpec(
        realm=realm,
        type=CertType.HOST,
        key=key,
        key_id=interception_key_id(realm, name),
        principals=interception_names(realm, name),
        valid_after_s=now_s - BACKDATE_S,
        valid_before_s=now_s + seconds,
        critical_options=(),
        extensions=(),
        ca=ca,
    )


def wider(body: CertificateBody, grant: Grant, now: Micros, *, gateway: str = "") -> str:
    """In what a certificate made at `now` goes beyond its grant; empty when in nothing (invariant 1)."""
    if body.type is not CertType.USER:
        return "it is not a user certificate"
    if not set(body.principals) <= {principal(target.login, target.host) for target in grant.targets}:
        return "principals"
    if body.valid_before * SECOND > grant.ends_at or body.valid_before * SECOND > now + grant.certificate_s * SECOND:
        return "validity"
    if body.valid_after * SECOND <= now - (BACKDATE_S + 1) * SECOND:
        return "validity before now"
    if body.critical_options != _options(grant, gateway):  # each one restricts, so a missing one widens
        return "critical options"
    if not set(body.extensions) <= set(_extensions(grant)):
        return "extensions"
    if body.key_id != user_key_id(grant.id, grant.holder.name):
        return "key id"
    return ""


def _options(grant: Grant, gateway: str) -> tuple[tuple[str, str], ...]:
    if not gateway:
        return grant.options
    return tuple(sorted((dict(grant.options) | {"source-address": gateway}).items()))


def _extensions(grant: Grant) -> tuple[tuple[str, str], ...]:
    found = [(name, "") for name in grant.extensions]
    if grant.metadata:
        found.append((METADATA, canonical_json(dict(grant.metadata))))
    return tuple(sorted(found))


def canonical_json(value: dict[str, str]) -> str:
    """Keys sorted, no spaces, ASCII: the same metadata is always the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
