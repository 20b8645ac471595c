"""`auth/<mount>` of type approle: robots with a role id and a secret id. Secret ids are kept as hashes, and end."""

import uuid
from collections.abc import Mapping
from typing import Final

from jitgate.audit.events import EventType
from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput, Denied, Error, NotFound
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.sign_in import forgive
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, only, read, said, text, write
from jitgate.flow.vault.entries import entry_of, keep
from jitgate.flow.vault.holders import holder_person
from jitgate.flow.vault.tokens import TERMS, Way, log_in, read_terms, terms_fields, uses_of, with_changes
from jitgate.flow.vault.userpass import count_attempt, take_away
from jitgate.identity import throttle
from jitgate.identity.model import Factor, Kind
from jitgate.identity.vault import SECRET_ID, SecretId, check_entry_name, new_secret, parse_secret, secret_hash
from jitgate.policy.vault_role import seconds

SECRETS_MAX: Final = 1000  # of one role, in force
ROLE: Final = TERMS | {"bind_secret_id", "secret_id_ttl", "secret_id_num_uses", "policies"}


async def login(outside: Outside, asked: Asked) -> Answer:
    """Both ids, or one wording. Guesses are counted as those of passwords."""
    mount = asked.of_mount()
    only(asked, frozenset({"role_id", "secret_id"}))
    role_id, secret = text(asked, "role_id"), text(asked, "secret_id")
    account = throttle.account_subject(f"vault\n{mount.id}\n{role_id}")
    await outside.store.write(lambda tx: count_attempt(tx, outside, account, asked.source))

    def job(tx: Tx) -> Answer | None:
        role = next((e for e in tx.vault.entries(mount.id, "approle") if e.body["role_id"] == role_id), None)
        try:
            row = tx.vault.secret_id(secret_hash(parse_secret(secret, SECRET_ID)))
        except Error:
            row = None
        now = outside.clock()
        if role is None or row is None or (row.mount_id, row.role) != (mount.id, role.name) or row.ended_at:
            return None
        if (row.expires_at is not None and now >= row.expires_at) or tx.vault.mount("auth", mount.path) != mount:
            return None
        if not tx.vault.use_secret_id(row.id):
            return None
        try:
            person = holder_person(tx, outside, mount, role.name, role.name)
        except Denied:
            return None
        forgive(tx, account, asked.source)
        way = Way(
            f"auth/{mount.path}/login",
            mount.path.replace("/", "-"),
            Kind.ROBOT,
            f"vault:{mount.id}",
            role.name,
            ((Factor.VAULT, now),),
            {"role_name": role.name},
            mount.id,
        )
        return log_in(tx, outside, asked, person, read_terms(role.body), way)

    answer = await outside.store.write(job)
    if answer is None:
        raise BadInput("invalid role or secret ID", code="vault_login")
    return answer


async def write_role(outside: Outside, asked: Asked) -> Answer:
    mount, name = asked.of_mount(), check_entry_name("role", asked.name)
    only(asked, ROLE)
    if asked.data.get("bind_secret_id", True) not in (True, "true"):
        raise BadInput("bind_secret_id = false is not taken", "a role id alone is no secret")
    read_terms(asked.data)
    _uses(asked.data)
    seconds(asked.data.get("secret_id_ttl") or 0)

    def job(tx: Tx, holder: Holder) -> Answer:
        there = tx.vault.entry(mount.id, "approle", name)
        before = dict(there.body) if there else {"role_id": str(uuid.UUID(bytes=outside.random(16), version=4))}
        keep(tx, outside, mount.id, "approle", name, with_changes(before, asked.data))
        detail = (("path", asked.path), ("what", "approle"))
        tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


async def read_role(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        body = entry_of(tx, asked, "approle").body
        own = {
            "bind_secret_id": True,
            "local_secret_ids": False,
            "secret_id_bound_cidrs": None,
            "secret_id_num_uses": _uses(body),
            "secret_id_ttl": seconds(body.get("secret_id_ttl") or 0),
        }
        return Answer(terms_fields(read_terms(body)) | own)

    return await read(outside, asked, job)


async def delete_role(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        if tx.vault.remove_entry(mount.id, "approle", asked.name):
            now = outside.clock()
            for each in tx.vault.secret_ids(mount.id, asked.name):
                tx.vault.end_secret_id(each.id, now)
            take_away(tx, outside, asked, holder, mount, asked.name, "its role was deleted")
            detail = (("path", asked.path), ("what", "approle"))
            tx.log.append(said(outside, EventType.VAULT_DELETED, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


async def read_role_id(outside: Outside, asked: Asked) -> Answer:
    return await read(outside, asked, lambda tx, _: Answer({"role_id": entry_of(tx, asked, "approle").body["role_id"]}))


async def make_secret_id(outside: Outside, asked: Asked) -> Answer:
    """Shown once. Its time and number of uses are the role's."""
    mount = asked.of_mount()
    only(asked, frozenset())

    def job(tx: Tx, holder: Holder) -> Answer:
        role, now = entry_of(tx, asked, "approle"), outside.clock()
        if len(tx.vault.secret_ids(mount.id, role.name)) >= SECRETS_MAX:
            raise BadInput(f"{SECRETS_MAX} secret ids are there already", "destroy some")
        secret = new_secret(SECRET_ID, outside.random)
        ttl, uses = seconds(role.body.get("secret_id_ttl") or 0), _uses(role.body)
        accessor, expires_at = outside.new_id(now), now + ttl * SECOND if ttl else None
        tx.vault.add_secret_id(
            SecretId(accessor, mount.id, role.name, secret_hash(secret), now, expires_at, uses or None)
        )
        detail = (("path", asked.path), ("what", "secret_id"), ("digest", accessor))
        tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail))
        return Answer(
            {
                "secret_id": secret.reveal(),
                "secret_id_accessor": accessor,
                "secret_id_num_uses": uses,
                "secret_id_ttl": ttl,
            }
        )

    return await write(outside, asked, job)


async def list_secret_ids(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        if not (names := [each.id for each in tx.vault.secret_ids(mount.id, asked.name)]):
            raise NotFound("")
        return Answer({"keys": names})

    return await read(outside, asked, job)


async def destroy_secret_id(outside: Outside, asked: Asked) -> Answer:
    """By itself or by its accessor."""
    mount = asked.of_mount()
    accessor, secret = text(asked, "secret_id_accessor"), text(asked, "secret_id")

    def job(tx: Tx, holder: Holder) -> Answer:
        hashed = secret_hash(parse_secret(secret, SECRET_ID)) if secret.startswith(SECRET_ID) else b""
        for each in tx.vault.secret_ids(mount.id, asked.name):
            if accessor == each.id or (hashed and each.secret_hash == hashed):
                tx.vault.end_secret_id(each.id, outside.clock())
                tx.move_epoch()
                detail = (("path", asked.path), ("what", "secret_id"))
                tx.log.append(said(outside, EventType.VAULT_DELETED, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


def _uses(data: Mapping[str, object]) -> int:
    return uses_of(data, "secret_id_num_uses")
