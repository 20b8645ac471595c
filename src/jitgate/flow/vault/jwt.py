"""`auth/<mount>` of type jwt: workloads with a token of a provider that the service's own settings list.

The token is checked by the rules of `identity/oidc.py` and works once. A mount's `config` names the issuer; no address
that a client writes is ever fetched.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from jitgate.audit.events import EventType
from jitgate.core.errors import BadInput, Denied, NotFound, NotSignedIn
from jitgate.core.text import shown
from jitgate.flow.elsewhere import Provider
from jitgate.flow.grants import end_grants_of
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, only, read, said, text, write
from jitgate.flow.vault.entries import entry_of, keep
from jitgate.flow.vault.holders import holder_person
from jitgate.flow.vault.tokens import TERMS, Way, end_tokens, log_in, read_terms, terms_fields
from jitgate.identity.model import Factor, Kind
from jitgate.identity.oidc import LEEWAY, IdToken, claims_of, read_header, token_rules, verify_id_token
from jitgate.identity.vault import Entry, check_entry_name
from jitgate.policy.vault_role import split_list

CONFIG: Final = frozenset({"oidc_discovery_url", "bound_issuer", "default_role"})
ROLE: Final = TERMS | {"role_type", "bound_audiences", "bound_subject", "bound_claims", "user_claim", "policies"}


async def login(outside: Outside, asked: Asked) -> Answer:
    """Raises `BadInput`, whatever was wrong with what was sent."""
    try:
        return await _login(outside, asked)
    except (BadInput, Denied, NotSignedIn) as error:
        raise BadInput(error.what, error.hint, code=error.code) from None


async def _login(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()
    only(asked, frozenset({"role", "jwt"}))
    words = text(asked, "jwt")
    config, role = await outside.store.read(lambda tx: _both(tx, mount.id, text(asked, "role")))
    provider = _provider(outside, str(config["bound_issuer"]))
    audience = _audience(role.body)
    rules = replace(token_rules(provider.settings, audience), name_claim="", groups_claim="", directory_claim="")
    key = await provider.key(read_header(words, rules))
    token = verify_id_token(words, key, rules, nonce=None, now=outside.clock())
    _check_bound(role.body, token, claims_of(words))

    def job(tx: Tx) -> Answer:
        now = outside.clock()
        if _both(tx, mount.id, role.name)[1] != role or tx.vault.mount("auth", mount.path) != mount:
            raise Denied("the role has changed", "try again", code="vault_login")
        digest = hashlib.sha256(b"jitgate-vault-jwt-v1\n" + words.encode("ascii")).digest()
        if not tx.keys.use_proof(digest, now, token.expires_at + LEEWAY):
            raise Denied("the token was used before", "a token works once", code="token_used")
        subject = hashlib.sha256(f"{token.issuer}\n{token.subject}".encode()).hexdigest()
        person = holder_person(tx, outside, mount, f"{role.name}:{subject}", f"{role.name}-{subject[:12]}")
        way = Way(
            f"auth/{mount.path}/login",
            f"{mount.path.replace('/', '-')}-{token.subject}"[:200],
            Kind.ROBOT,
            f"vault:{mount.id}",
            token.subject,
            ((Factor.OIDC, token.at),),
            {"role": role.name},
            mount.id,
        )
        return log_in(tx, outside, asked, person, read_terms(role.body), way)

    return await outside.store.write(job)


async def write_config(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()
    only(asked, CONFIG)
    issuer = text(asked, "bound_issuer") or text(asked, "oidc_discovery_url")
    if text(asked, "oidc_discovery_url") not in ("", issuer):
        raise BadInput("oidc_discovery_url and bound_issuer differ", "name the provider's issuer")
    _provider(outside, issuer)
    body = {"bound_issuer": issuer, "default_role": text(asked, "default_role")}

    def job(tx: Tx, holder: Holder) -> Answer:
        keep(tx, outside, mount.id, "config", "config", body)
        detail = (("path", asked.path), ("what", "config"))
        tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


async def read_config(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        if (found := tx.vault.entry(mount.id, "config", "config")) is None:
            raise NotFound("")
        return Answer(dict(found.body) | {"oidc_discovery_url": found.body["bound_issuer"]})

    return await read(outside, asked, job)


async def write_role(outside: Outside, asked: Asked) -> Answer:
    mount, name = asked.of_mount(), check_entry_name("role", asked.name)
    only(asked, ROLE)
    if text(asked, "role_type", "jwt") != "jwt":
        raise BadInput("role_type is jwt here", "people sign in by jitctl login")
    if text(asked, "user_claim", "sub") != "sub":
        raise BadInput("user_claim is sub here", "who somebody is: issuer and subject")
    _audience(asked.data)
    claims = _claims(asked.data)
    if not asked.data.get("bound_subject") and not claims:
        raise BadInput("must have at least one bound constraint", "bound_subject or bound_claims: else all may come in")
    read_terms(asked.data)

    def job(tx: Tx, holder: Holder) -> Answer:
        keep(tx, outside, mount.id, "jwt", name, dict(asked.data))
        detail = (("path", asked.path), ("what", "jwt"))
        tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


async def read_role(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        found = entry_of(tx, asked, "jwt")
        own = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [_audience(found.body)],
            "bound_subject": found.body.get("bound_subject") or "",
            "bound_claims": _claims(found.body) or None,
        }
        return Answer(terms_fields(read_terms(found.body)) | own)

    return await read(outside, asked, job)


async def delete_role(outside: Outside, asked: Asked) -> Answer:
    """The tokens that it gave end with it, and the running grants of who has one."""
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        if tx.vault.remove_entry(mount.id, "jwt", asked.name):
            now, why = outside.clock(), "its role was deleted"
            given = [token for token in tx.vault.tokens(now, mount=mount.id) if not token.parent_id]
            its = [token for token in given if token.meta.get("role") == asked.name]
            end_tokens(tx, outside, asked, holder, its, why)
            for person_id in sorted({token.person_id for token in its}):
                end_grants_of(tx, person_id, holder.actor, now, why)
            tx.move_epoch()
            detail = (("path", asked.path), ("what", "jwt"))
            tx.log.append(said(outside, EventType.VAULT_DELETED, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


def _both(tx: Tx, mount_id: str, name: str) -> tuple[Mapping[str, object], Entry]:
    config = tx.vault.entry(mount_id, "config", "config")
    if config is None:
        raise BadInput("could not load configuration", "write config bound_issuer=ISSUER first")
    role = tx.vault.entry(mount_id, "jwt", name or str(config.body.get("default_role") or ""))
    if role is None:
        raise Denied(f'role "{name[:64]}" could not be found', code="vault_login")
    return config.body, role


def _provider(outside: Outside, issuer: str) -> Provider:
    for each in outside.elsewhere.providers.values():
        if issuer and each.settings.issuer == issuer:
            return each
    hint = "an operator adds a [[provider]] to jitgate.toml; no other address is asked"
    raise BadInput(f"no provider here has the issuer {shown(issuer)}", hint)


def _audience(body: Mapping[str, object]) -> str:
    found = split_list(body.get("bound_audiences") or [])
    if len(found) != 1 or len(found[0]) > 255:  # noqa: PLR2004  # as a client id
        raise BadInput("bound_audiences is not one audience", "a token is for this service and for nobody else")
    return found[0]


def _claims(body: Mapping[str, object]) -> dict[str, list[str]]:
    found = body.get("bound_claims") or {}
    if not isinstance(found, dict):
        raise BadInput("bound_claims is no map", 'as JSON: {"repository": "acme/app"}')
    claims = {}
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(each, str) and each for each in values):
            raise BadInput(f"bound_claims: {shown(str(name))} is no text or list of texts")
        claims[str(name)] = [str(each) for each in values]
    return claims


def _check_bound(body: Mapping[str, object], token: IdToken, claims: Mapping[str, object]) -> None:
    subject = body.get("bound_subject")
    if subject and token.subject != subject:
        raise Denied("the token's subject is not the role's", "bound_subject", code="vault_login")
    for name, values in _claims(body).items():
        said_values = claims.get(name)
        found = said_values if isinstance(said_values, list) else [said_values]
        if not any(isinstance(each, str) and each in values for each in found):
            raise Denied(f"the token's {shown(name)} is not the role's", "bound_claims", code="vault_login")
