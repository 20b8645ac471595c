"""`sys/policies/acl` and `sys/policy`: path policies, kept as they were written."""

import hashlib

from jitgate.audit.events import EventType
from jitgate.core.clock import rfc3339
from jitgate.core.errors import BadInput, NotFound
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, holder_of, only, read, rules_of, said, text, write
from jitgate.flow.vault.entries import keep
from jitgate.policy.vault_acl import (
    DEFAULT,
    DEFAULT_POLICY,
    RESERVED,
    ROOT,
    capabilities,
    check_policy_name,
    parse_policy,
)
from jitgate.policy.vault_role import split_list

_KNOWN = frozenset({"policy", "rules"})


async def list_policies(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        names = sorted({each.name for each in tx.vault.entries("", "policy")} | RESERVED)
        old = {"policies": names} if asked.path == "sys/policy" else {}
        return Answer({"keys": names} | old, beside=asked.path == "sys/policy")

    return await read(outside, asked, job)


async def read_policy(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        found = tx.vault.entry("", "policy", asked.name)
        words = str(found.body["policy"]) if found else DEFAULT_POLICY if asked.name == DEFAULT else ""
        if found is None and asked.name not in RESERVED:
            raise NotFound(f"No policy named: {asked.name}")
        told: dict[str, object] = {"name": asked.name, "policy": words, "rules": words}
        if found:
            told |= {"version": found.version, "modified": rfc3339(found.changed_at)}
        return Answer(told, beside=asked.path.startswith("sys/policy/"))

    return await read(outside, asked, job)


async def write_policy(outside: Outside, asked: Asked) -> Answer:
    name = check_policy_name(asked.name)
    if name == ROOT:
        raise BadInput('cannot update "root" policy')
    only(asked, _KNOWN)
    words = text(asked, "policy") or text(asked, "rules")
    parse_policy(words)

    def job(tx: Tx, holder: Holder) -> Answer:
        keep(tx, outside, "", "policy", name, {"policy": words})
        digest = hashlib.sha256(words.encode()).hexdigest()
        detail = (("path", asked.path), ("digest", digest), ("what", "policy"))
        tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail, target=f"policy:{name}"))
        return NOTHING

    return await write(outside, asked, job)


async def delete_policy(outside: Outside, asked: Asked) -> Answer:
    name = check_policy_name(asked.name)
    if name in RESERVED:
        raise BadInput(f'cannot delete "{name}" policy')

    def job(tx: Tx, holder: Holder) -> Answer:
        if tx.vault.remove_entry("", "policy", name):
            tx.move_epoch()
            detail = (("path", asked.path), ("what", "policy"))
            tx.log.append(said(outside, EventType.VAULT_DELETED, holder, asked, *detail, target=f"policy:{name}"))
        return NOTHING

    return await write(outside, asked, job)


async def capabilities_self(outside: Outside, asked: Asked) -> Answer:
    """`token capabilities PATH`: what the request's own token may do there."""
    paths = split_list(asked.data.get("paths") or asked.data.get("path") or [])

    def job(tx: Tx) -> Answer:
        holder = holder_of(tx, outside, asked)
        rules = rules_of(tx, holder.token.policies)
        found: dict[str, object] = {
            path: [ROOT] if holder.root else sorted(capabilities(rules, path.strip("/"))) for path in paths
        }
        return Answer(found | ({"capabilities": found[paths[0]]} if paths else {}), beside=True)

    return await outside.store.read(job)


def policy_names(value: object) -> tuple[str, ...]:
    """Names to be given to a user, a role or a token; never `root`."""
    names = [check_policy_name(each) for each in split_list(value, "list of policies")]
    if ROOT in names:
        raise BadInput("the policy root is given to nobody", "an admin's token: jitgate vault token NAME")
    return tuple(dict.fromkeys(names))
