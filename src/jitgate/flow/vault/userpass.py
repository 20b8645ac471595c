"""`auth/<mount>` of type userpass: local users of the surface, with the throttles of every sign-in.

Users of it have one factor. Wrong and unknown names cost the same work and get the same words; attempts are counted by
name and by address before the password is looked at, as in `identity/sign_in.py`.
"""

import asyncio
from dataclasses import replace
from typing import Final

from jitgate.audit.events import EventType
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, Denied, Unsafe
from jitgate.core.secret import Secret
from jitgate.flow.grants import end_grants_of
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.sign_in import forgive
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, only, read, said, text, write
from jitgate.flow.vault.entries import entry_of, keep
from jitgate.flow.vault.holders import holder_person, person_of
from jitgate.flow.vault.tokens import TERMS, Way, end_tokens, log_in, read_terms, terms_fields, with_changes
from jitgate.identity import passwords, throttle
from jitgate.identity.model import Factor, Kind
from jitgate.identity.throttle import ACCOUNT, ADDRESS, Throttled
from jitgate.identity.vault import Mount, check_entry_name

USERS_MAX: Final = 10_000
USER: Final = TERMS | {"password", "policies", "ttl", "max_ttl"}
_PASSWORD_MAX: Final = 256


async def login(outside: Outside, asked: Asked) -> Answer:
    """Raises `Throttled`, or one wording for all else that is wrong."""
    mount = asked.of_mount()
    only(asked, frozenset({"password"}))
    password = Secret(text(asked, "password"))
    account = throttle.account_subject(f"vault\n{mount.id}\n{asked.name}")
    await outside.store.write(lambda tx: count_attempt(tx, outside, account, asked.source))
    found = await outside.store.read(lambda tx: tx.vault.entry(mount.id, "user", asked.name))
    stored = str(found.body["password_hash"]) if found else None
    right = await asyncio.get_running_loop().run_in_executor(outside.hashing, _verify, stored, password)

    def job(tx: Tx) -> Answer | None:
        entry = tx.vault.entry(mount.id, "user", asked.name)
        if not right or entry is None or entry.body["password_hash"] != stored or not _mounted(tx, mount):
            return None
        now = outside.clock()
        try:
            person = holder_person(tx, outside, mount, asked.name, asked.name)
        except Denied:
            return None
        forgive(tx, account, asked.source)
        way = Way(
            f"auth/{mount.path}/login/{asked.name}",
            f"{mount.path.replace('/', '-')}-{asked.name}",
            Kind.PERSON,
            f"vault:{mount.id}",
            asked.name,
            ((Factor.PASSWORD, now),),
            {"username": asked.name},
            mount.id,
        )
        return log_in(tx, outside, asked, person, read_terms(entry.body), way)

    answer = await outside.store.write(job)
    if answer is None:
        raise BadInput("invalid username or password", code="vault_login")
    return answer


def count_attempt(tx: Tx, outside: Outside, account: str, source: str) -> None:
    """Inside a transaction, before anything slow: a failure until it succeeds. Raises `Throttled`."""
    now, address = outside.clock(), throttle.address_subject(source)
    by_account, by_address = tx.throttles.get("account", account), tx.throttles.get("address", address)
    if pause := max(throttle.wait(by_account, now, ACCOUNT), throttle.wait(by_address, now, ADDRESS)):
        raise Throttled(pause)
    tx.throttles.put("account", account, throttle.failed(by_account, now, ACCOUNT))
    tx.throttles.put("address", address, throttle.failed(by_address, now, ADDRESS))


async def write_user(outside: Outside, asked: Asked) -> Answer:
    mount, name = asked.of_mount(), check_entry_name("user", asked.name)
    only(asked, USER)
    read_terms(asked.data)
    hashed, warnings = await _hashed(outside, asked, name)

    def job(tx: Tx, holder: Holder) -> Answer:
        there = tx.vault.entry(mount.id, "user", name)
        if there is None and not hashed:
            raise BadInput("missing password")
        before = dict(there.body) if there else {}
        given = {key: value for key, value in asked.data.items() if key != "password"}
        body = with_changes(before, given) | ({"password_hash": hashed} if hashed else {})
        return _put(tx, outside, asked, holder, mount, name, body, warnings, new_password=bool(hashed))

    return await write(outside, asked, job)


async def write_password(outside: Outside, asked: Asked) -> Answer:
    only(asked, frozenset({"password"}))
    return await write_user(outside, replace(asked, path=asked.path.removesuffix("/password")))


async def write_policies(outside: Outside, asked: Asked) -> Answer:
    only(asked, frozenset({"policies", "token_policies"}))
    return await write_user(outside, replace(asked, path=asked.path.removesuffix("/policies")))


async def read_user(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        terms = read_terms(entry_of(tx, asked, "user").body)
        return Answer(terms_fields(terms) | {"policies": list(terms.policies)})

    return await read(outside, asked, job)


async def delete_user(outside: Outside, asked: Asked) -> Answer:
    """Their tokens and running grants end with them."""
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        if tx.vault.remove_entry(mount.id, "user", asked.name):
            take_away(tx, outside, asked, holder, mount, asked.name, "its user was deleted")
            detail = (("path", asked.path), ("what", "user"))
            tx.log.append(said(outside, EventType.VAULT_DELETED, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


def take_away(tx: Tx, outside: Outside, asked: Asked, holder: Holder, mount: Mount, subject: str, why: str) -> None:
    """Inside a transaction: what a mount's subject holds ends."""
    now: Micros = outside.clock()
    if (person := person_of(tx, mount, subject)) is not None:
        end_tokens(tx, outside, asked, holder, tx.vault.tokens(now, person=person.id), why)
        end_grants_of(tx, person.id, holder.actor, now, why)
    tx.move_epoch()


def _put(
    tx: Tx,
    outside: Outside,
    asked: Asked,
    holder: Holder,
    mount: Mount,
    name: str,
    body: dict[str, object],
    warnings: tuple[str, ...],
    *,
    new_password: bool,
) -> Answer:
    keep(tx, outside, mount.id, "user", name, body, USERS_MAX)
    person = person_of(tx, mount, name) if new_password else None
    if person is not None:
        tokens = tx.vault.tokens(outside.clock(), person=person.id)
        end_tokens(tx, outside, asked, holder, tokens, "its user has another password")
    detail = (("path", asked.path), ("what", "password" if new_password else "user"))
    tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail))
    return Answer(warnings=warnings) if warnings else NOTHING


async def _hashed(outside: Outside, asked: Asked, name: str) -> tuple[str, tuple[str, ...]]:
    """The hash of the password in the request, "" where there is none; and what its writer should know of it."""
    words = text(asked, "password")
    if not words:
        return "", ()
    if len(words) > _PASSWORD_MAX:
        raise BadInput(f"the password has {len(words)} characters", f"at most {_PASSWORD_MAX}")
    secret = Secret(words)
    warnings: tuple[str, ...] = ()
    try:
        passwords.check_strength(secret, name)
    except Unsafe as error:
        warnings = (f"{error.what}: there is no second factor here; {error.hint}",)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(outside.hashing, passwords.hash_password, secret, outside.random), warnings


def _verify(stored: str | None, unverified: Secret[str]) -> bool:
    try:
        return passwords.verify_password(stored, unverified)
    except Unsafe:
        return False


def _mounted(tx: Tx, mount: Mount) -> bool:
    return tx.vault.mount("auth", mount.path) == mount
