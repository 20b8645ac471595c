"""`auth/token`: what a token may do with itself and with others; an administrator's token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import HOUR, SECOND, Micros, rfc3339
from jitgate.core.errors import BadInput, Conflict, Denied, NotFound
from jitgate.core.secret import Secret
from jitgate.core.text import shown
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, allowed, holder_of, only, said, text, write
from jitgate.flow.vault.policies import policy_names
from jitgate.flow.vault.settings import SETTING
from jitgate.identity.model import LOCAL_ISSUER, Factor, Factors, Kind, Person
from jitgate.identity.vault import TOKEN, TTL_DEFAULT, TTL_MAX, VaultToken, new_secret, parse_secret, secret_hash
from jitgate.policy.vault_acl import DEFAULT, ROOT
from jitgate.policy.vault_role import seconds

TOKENS_MAX: Final = 10_000  # of one person, in force at the same time
GENERATIONS_MAX: Final = 32  # below a token that no other made
META_MAX: Final = 16
TERMS: Final = frozenset({"token_policies", "token_ttl", "token_max_ttl", "token_num_uses", "token_no_default_policy"})
"""What `read_terms` reads, by the names of today; a way in that takes older ones names them itself."""
CREATE: Final = frozenset(
    {
        "policies",
        "ttl",
        "explicit_max_ttl",
        "num_uses",
        "display_name",
        "meta",
        "metadata",
        "renewable",
        "no_default_policy",
        "no_parent",
        "period",
        "type",
        "id",
        "lease",
        "entity_alias",
    }
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a way in gives: times in microseconds, 0 for the usual. `uses` 0: any number."""

    policies: tuple[str, ...]
    ttl: Micros = 0
    until: Micros = 0
    uses: int = 0
    renewable: bool = True
    default_policy: bool = True


@dataclass(frozen=True, slots=True)
class Way:
    """By which way a token was got."""

    path: str
    display_name: str
    kind: Kind
    issuer: str
    subject: str
    factors: Factors
    meta: Mapping[str, str]
    mount_id: str = ""
    parent_id: str = ""


def read_terms(data: Mapping[str, object]) -> Terms:
    """Of a user, an AppRole or a JWT role: `token_policies` (or `policies`), `token_ttl`, `token_max_ttl`, ..."""
    ttl = seconds(_either(data, "ttl") or 0) * SECOND
    until = seconds(_either(data, "max_ttl") or 0) * SECOND
    uses = uses_of(data, "token_num_uses")
    if max(ttl, until) > TTL_MAX:
        raise BadInput(f"a token for longer than {TTL_MAX // HOUR} hours", "tokens are short here: log in again")
    no_default = data.get("token_no_default_policy") in (True, "true")
    policies = policy_names(_either(data, "policies") or [])
    return Terms(policies, ttl, until, uses, default_policy=not no_default)


def uses_of(data: Mapping[str, object], name: str) -> int:
    """A number of uses, 0 for any; clients send it as a number or as its digits."""
    value = data.get(name) or 0
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**9:
        raise BadInput(f"{name} is no number")
    return value


def _either(data: Mapping[str, object], name: str) -> object:
    """A field by its name of today, where that is there at all, else by the older one."""
    return data[f"token_{name}"] if f"token_{name}" in data else data.get(name)


def with_changes(before: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """What is kept of a user or an AppRole after a write: a field that is written replaces it under either name, so
    that nothing which was taken away stays under the other one."""
    replaced = {other for name in given for other in (f"token_{name}", name.removeprefix("token_"))}
    return {name: value for name, value in before.items() if name not in replaced} | dict(given)


def terms_fields(terms: Terms) -> dict[str, object]:
    """As Vault's own answers have them."""
    return {
        "token_bound_cidrs": [],
        "token_explicit_max_ttl": 0,
        "token_max_ttl": terms.until // SECOND,
        "token_no_default_policy": not terms.default_policy,
        "token_num_uses": terms.uses,
        "token_period": 0,
        "token_policies": list(terms.policies),
        "token_ttl": terms.ttl // SECOND,
        "token_type": "default",
    }


def make_token(tx: Tx, outside: Outside, person: Person, terms: Terms, way: Way) -> tuple[VaultToken, Secret[str]]:
    """Inside a transaction: the row of a new token, and the token. Raises `Conflict` for one too many."""
    now = outside.clock()
    if tx.vault.count_tokens(now, person.id) >= TOKENS_MAX:
        raise Conflict(f"{person.name} has {TOKENS_MAX} tokens in force", "revoke some, or wait until they end")
    secret = new_secret(TOKEN, outside.random)
    until = now + min(terms.until or TTL_MAX, TTL_MAX)
    expires_at = min(now + (terms.ttl or min(TTL_DEFAULT, until - now)), until)
    policies = sorted({*terms.policies, *([DEFAULT] if terms.default_policy and ROOT not in terms.policies else [])})
    token = VaultToken(
        id=outside.new_id(now),
        person_id=person.id,
        token_hash=secret_hash(secret),
        policies=tuple(policies),
        display_name=way.display_name,
        path=way.path,
        meta=way.meta,
        kind=way.kind,
        issuer=way.issuer,
        subject=way.subject,
        factors=way.factors,
        mount_id=way.mount_id,
        parent_id=way.parent_id,
        created_at=now,
        expires_at=expires_at,
        until=until,
        ttl=expires_at - now,
        renewable=terms.renewable and ROOT not in policies,
        uses_left=terms.uses or None,
    )
    tx.vault.add_token(token)
    return token, secret


def log_in(tx: Tx, outside: Outside, asked: Asked, person: Person, terms: Terms, way: Way) -> Answer:
    """Inside a transaction: a token for somebody who came by a way in, and its event."""
    token, secret = make_token(tx, outside, person, terms, way)
    tx.log.append(said(outside, EventType.VAULT_TOKEN_MADE, None, asked, *made_detail(token), subject=person))
    return Answer(auth=auth_fields(token, secret.reveal(), outside.clock()))


def made_detail(token: VaultToken) -> tuple[tuple[str, str | int], ...]:
    return (
        ("token", token.id),
        ("path", token.path),
        ("policies", " ".join(token.policies)),
        ("expires_at", token.expires_at),
    )


def auth_fields(token: VaultToken, secret: str, now: Micros) -> dict[str, object]:
    """The `auth` block of a login."""
    return {
        "client_token": secret,
        "accessor": token.id,
        "policies": list(token.policies),
        "token_policies": list(token.policies),
        "identity_policies": None,
        "metadata": dict(token.meta) or None,
        "lease_duration": max(0, (token.expires_at - now) // SECOND),
        "renewable": token.renewable,
        "entity_id": token.person_id,
        "token_type": "service",
        "orphan": not token.parent_id,
        "mfa_requirement": None,
        "num_uses": token.uses_left or 0,
    }


async def admin_token(outside: Outside, actor: Actor, name: str, ttl: Micros = 0) -> tuple[VaultToken, Secret[str]]:
    """A token with the policy `root`, for a person who is an admin: an operator's act. Raises `NotFound`, `Denied`."""
    if not 0 <= ttl <= TTL_MAX:
        raise BadInput(f"a token for {ttl // SECOND} s", f"at most {TTL_MAX // HOUR} hours")

    def job(tx: Tx) -> tuple[VaultToken, Secret[str]]:
        person = tx.people.by_name(name)
        if person is None:
            raise NotFound(f"no person {shown(name)}", "jitgate user ls")
        if not person.admin or person.disabled_at is not None:
            raise Denied(f"{name} is no admin", "an admin's token only: jitgate user add NAME --admin")
        now = outside.clock()
        way = Way(
            "jitgate/vault-token",
            f"jitgate-{name}",
            Kind.PERSON,
            LOCAL_ISSUER,
            person.id,
            ((Factor.VAULT, now),),
            {"username": name},
        )
        token, secret = make_token(tx, outside, person, Terms((ROOT,), ttl=ttl or TTL_MAX, renewable=False), way)
        detail = (*made_detail(token), ("setting", SETTING))
        tx.log.append(
            Event(
                EventType.VAULT_TOKEN_MADE,
                "allowed",
                now,
                DEFAULT_REALM,
                actor,
                subject=person.id,
                subject_name=name,
                detail=detail,
            )
        )
        return token, secret

    return await outside.store.write(job)


async def lookup_self(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx) -> Answer:
        token = allowed(tx, outside, asked).token
        return Answer(_fields(token, outside.clock(), asked.unverified_token.reveal()))

    return await outside.store.read(job)


async def lookup(outside: Outside, asked: Asked) -> Answer:
    """Another token, by itself or by its accessor."""

    def job(tx: Tx) -> Answer:
        allowed(tx, outside, asked)
        token = _meant(tx, outside, asked)
        return Answer(_fields(token, outside.clock(), text(asked, "token")))

    return await outside.store.read(job)


async def list_accessors(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx) -> Answer:
        allowed(tx, outside, asked)
        return Answer({"keys": [each.id for each in tx.vault.tokens(outside.clock())]})

    return await outside.store.read(job)


async def renew_self(outside: Outside, asked: Asked) -> Answer:
    return await write(outside, asked, lambda tx, holder: _renew(tx, outside, asked, holder, holder.token, itself=True))


async def renew(outside: Outside, asked: Asked) -> Answer:
    return await write(
        outside, asked, lambda tx, holder: _renew(tx, outside, asked, holder, _meant(tx, outside, asked), itself=False)
    )


async def revoke_self(outside: Outside, asked: Asked) -> Answer:
    """A token may always end itself: no policy is asked."""

    def job(tx: Tx) -> Answer:
        holder = holder_of(tx, outside, asked)
        end_tokens(tx, outside, asked, holder, [holder.token], "revoked by itself")
        return NOTHING

    return await outside.store.write(job)


async def revoke(outside: Outside, asked: Asked) -> Answer:
    """Another token, and those that it made. As Vault: whether there was one is not said."""

    def job(tx: Tx, holder: Holder) -> Answer:
        try:
            token = _meant(tx, outside, asked)
        except BadInput:
            return NOTHING
        end_tokens(tx, outside, asked, holder, [token], "revoked")
        return NOTHING

    return await write(outside, asked, job)


async def create(outside: Outside, asked: Asked) -> Answer:
    """A child: never more policies than its parent, never longer than it, ended with it. A token with a number of uses
    makes none: each child would have uses of its own."""
    only(asked, CREATE)
    for name in ("no_parent", "period", "id", "entity_alias"):
        if asked.data.get(name) not in (None, False, "", 0, "false", "0", "0s"):
            raise BadInput(f"{name} is not taken", "a token ends with the one that made it")
    if text(asked, "type", "service") not in ("", "service"):
        raise BadInput("type is not taken: tokens are of type service")
    wanted = policy_names(asked.data.get("policies") or [])
    ttl = seconds(asked.data.get("ttl") or asked.data.get("lease") or 0) * SECOND
    until = seconds(asked.data.get("explicit_max_ttl") or 0) * SECOND
    uses = read_terms({"token_num_uses": asked.data.get("num_uses") or 0}).uses
    meta = _meta(asked)
    display_name = text(asked, "display_name")
    if len(display_name) > 64 or not (display_name.isascii() and display_name.isprintable()):  # noqa: PLR2004  # a name
        raise BadInput("display_name is no short plain name")

    def job(tx: Tx, holder: Holder) -> Answer:
        now, parent = outside.clock(), holder.token
        if parent.uses_left is not None:
            raise BadInput("a token with a number of uses makes no other", "log in, and use that token")
        if _generation(tx, parent) >= GENERATIONS_MAX:
            raise BadInput(f"a token of generation {GENERATIONS_MAX} makes no other", "log in, and use that token")
        if not holder.root and (more := sorted(set(wanted) - set(parent.policies))):
            raise Denied(f"child policies must be subset of parent: {', '.join(more)}", code="vault_policy")
        inherited = wanted or tuple(each for each in parent.policies if each != ROOT)
        if holder.root and not wanted:
            raise BadInput("a child of an admin's token needs policies", "-policy=NAME; root is given to nobody")
        no_default = asked.data.get("no_default_policy") in (True, "true")
        most = parent.expires_at - now
        terms = Terms(
            inherited,
            ttl=min(ttl or TTL_DEFAULT, most),
            until=min(until or most, most),
            uses=uses,
            renewable=asked.data.get("renewable") not in (False, "false"),
            default_policy=not no_default,
        )
        way = Way(
            asked.path,
            f"token-{display_name}" if display_name else "token",
            parent.kind,
            parent.issuer,
            parent.subject,
            parent.factors,
            meta,
            parent.mount_id,
            parent.id,
        )
        token, secret = make_token(tx, outside, holder.person, terms, way)
        tx.log.append(
            said(outside, EventType.VAULT_TOKEN_MADE, holder, asked, *made_detail(token), ("parent", parent.id))
        )
        return Answer(auth=auth_fields(token, secret.reveal(), now))

    return await write(outside, asked, job)


def end_tokens(
    tx: Tx, outside: Outside, asked: Asked, holder: Holder | None, tokens: Sequence[VaultToken], why: str
) -> None:
    """Inside a transaction: these and all below them sign nothing more. Each that was in force gets one event."""
    named = {token.id for token in tokens}
    for accessor in tx.vault.end_tokens(sorted(named), outside.clock()):
        detail = (("token", accessor), ("why", why if accessor in named else "its parent ended"))
        tx.log.append(said(outside, EventType.VAULT_TOKEN_ENDED, holder, asked, *detail))
    tx.move_epoch()


def _generation(tx: Tx, token: VaultToken) -> int:
    """How many tokens are above it; no more are counted than may be."""
    for above in range(GENERATIONS_MAX):
        parent = tx.vault.token(token.parent_id) if token.parent_id else None
        if parent is None:
            return above
        token = parent
    return GENERATIONS_MAX


def _renew(tx: Tx, outside: Outside, asked: Asked, holder: Holder, token: VaultToken, *, itself: bool) -> Answer:
    now, increment = outside.clock(), seconds(asked.data.get("increment") or 0) * SECOND
    if not token.renewable:
        raise BadInput("lease is not renewable")
    most = token.until
    parent = tx.vault.token(token.parent_id) if token.parent_id else None
    if parent is not None:
        most = min(most, parent.expires_at)
    wanted = now + (increment or token.ttl)
    expires_at = max(token.expires_at, min(wanted, most))
    tx.vault.extend_token(token.id, expires_at)
    tx.log.append(
        said(
            outside,
            EventType.VAULT_TOKEN_RENEWED,
            holder,
            asked,
            ("token", token.id),
            ("expires_at", expires_at),
        )
    )
    secret = asked.unverified_token.reveal() if itself else text(asked, "token")
    fresh = tx.vault.token(token.id) or token
    cut = wanted > most
    warning = (f'TTL of "{(wanted - now) // SECOND}s" exceeded the effective max_ttl; TTL value is capped accordingly',)
    return Answer(auth=auth_fields(fresh, secret, now), warnings=warning if cut else ())


def _meant(tx: Tx, outside: Outside, asked: Asked) -> VaultToken:
    """The token that a request names, in force."""
    accessor, token = text(asked, "accessor"), text(asked, "token")
    found = None
    if accessor:
        found = tx.vault.token(accessor)
    elif token.startswith(TOKEN):
        found = tx.vault.token_by_hash(secret_hash(parse_secret(token, TOKEN)))
    now = outside.clock()
    if found is None or found.ended_at is not None or now >= found.expires_at:
        raise BadInput("bad token")
    return found


def _fields(token: VaultToken, now: Micros, secret: str) -> dict[str, object]:
    return {
        "accessor": token.id,
        "creation_time": token.created_at // SECOND,
        "creation_ttl": token.ttl // SECOND,
        "display_name": token.display_name,
        "entity_id": token.person_id,
        "expire_time": rfc3339(token.expires_at),
        "explicit_max_ttl": (token.until - token.created_at) // SECOND,
        "id": secret,
        "issue_time": rfc3339(token.created_at),
        "meta": dict(token.meta) or None,
        "num_uses": token.uses_left or 0,
        "orphan": not token.parent_id,
        "path": token.path,
        "policies": list(token.policies),
        "renewable": token.renewable,
        "ttl": max(0, (token.expires_at - now) // SECOND),
        "type": "service",
    }


def _meta(asked: Asked) -> dict[str, str]:
    found = asked.data.get("meta") or asked.data.get("metadata") or {}
    if not isinstance(found, dict) or len(found) > META_MAX:
        raise BadInput("meta is no small map")
    for name, value in found.items():
        words = f"{name}{value}"
        if not isinstance(value, str) or len(words) > 200 or not (words.isascii() and words.isprintable()):  # noqa: PLR2004  # a note
            raise BadInput("meta holds what is no short plain text")
    return {str(name): str(value) for name, value in sorted(found.items())}
