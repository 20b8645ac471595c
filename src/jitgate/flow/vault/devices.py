"""Audit devices and counters. What decides is in jitgate's own log; a file device is a rendering of every request.

A device of type file writes below `[vault] audit_folder`, under the last part of the path that was asked for, whatever
folder that names: who may enable a device chooses no file of the machine. Of secrets it holds none.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from jitgate.audit.events import EventType
from jitgate.audit.query import Query
from jitgate.audit.show import as_json
from jitgate.core.clock import DAY, rfc3339
from jitgate.core.errors import BadInput, Error
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, holder_of, only, read, said, text, write
from jitgate.identity.vault import Entry, check_mount_path

_LOG = logging.getLogger("jitgate.vault")
DEVICES_MAX: Final = 8
RECENT: Final = 20
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(?:log|json)")  # so that no other file is appended to
_SHOWN: Final = frozenset({"valid_principals", "ttl", "cert_type", "type", "description", "default_user"})
"""Fields of a request that are written in clear; all others are left out."""


async def list_devices(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        return Answer({f"{each.name}/": _shown(each) for each in tx.vault.entries("", "device")}, beside=True)

    return await read(outside, asked, job)


async def enable(outside: Outside, asked: Asked) -> Answer:
    name = check_mount_path(asked.name)
    only(asked, frozenset({"type", "description", "options", "local"}))
    if text(asked, "type") != "file":
        raise BadInput("unknown backend type", "there is file; for others: jitctl audit, docs/audit.md")
    options = asked.data.get("options") or {}
    if not isinstance(options, dict) or not isinstance(wanted := options.get("file_path"), str) or not wanted:
        raise BadInput("file_path is required")
    if len(options) > 1:
        raise BadInput("file_path is the only option", "what is written is the same for all")
    file = PurePosixPath(wanted).name
    if not _FILE.fullmatch(file):
        raise BadInput("file_path names no log", "a name of letters, digits and . _ - that ends in .log or .json")
    folder = outside.vault.audit_folder
    where = f"{folder}/{file}" if folder else ""

    def job(tx: Tx, holder: Holder) -> Answer:
        there = tx.vault.entries("", "device")
        if any(each.name == name for each in there):
            raise BadInput("path already in use")
        if len(there) >= DEVICES_MAX:
            raise BadInput(f"{DEVICES_MAX} devices are there already", "disable one")
        body = {"type": "file", "description": text(asked, "description"), "asked": wanted, "file": file}
        tx.vault.put_entry(Entry("", "device", name, body, outside.clock()))
        tx.log.append(
            said(outside, EventType.VAULT_WRITTEN, holder, asked, ("path", asked.path), ("what", "audit device"))
        )
        told = f"requests are written to {where}" if where else "no file is written: [vault] audit_folder is empty"
        return Answer(warnings=(f"{told}; every decision is in jitgate's own log: jitctl audit --follow",))

    return await write(outside, asked, job)


async def disable(outside: Outside, asked: Asked) -> Answer:
    def job(tx: Tx, holder: Holder) -> Answer:
        if tx.vault.remove_entry("", "device", asked.name):
            detail = (("path", asked.path), ("what", "audit device"))
            tx.log.append(said(outside, EventType.VAULT_DELETED, holder, asked, *detail))
        return NOTHING

    return await write(outside, asked, job)


async def activity(outside: Outside, asked: Asked) -> Answer:
    """How many clients signed in the last thirty days, as Vault counts them, and the newest certificates of mounts."""

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        now = outside.clock()
        found = tx.log.search(Query(types=(EventType.CERTIFICATE_ISSUED,), limit=1000))
        shown = [as_json(columns[0], leaf, personal) for columns, leaf, personal in reversed(found)]
        mine = [each for each in shown if str(each["realm"]).startswith("vault-")]
        clients = {str(each["actor"]) for each in mine}
        counted = {"clients": len(clients), "entity_clients": len(clients), "non_entity_clients": 0}
        return Answer(
            {
                "start_time": rfc3339(now - 30 * DAY),
                "end_time": rfc3339(now),
                "total": counted,
                "by_namespace": [{"namespace_id": "root", "namespace_path": "", "counts": counted}],
                "months": [],
                "certificates": len(mine),
                "recent_certificates": [_certificate(each) for each in mine[:RECENT]],
            }
        )

    return await read(outside, asked, job)


async def tell(outside: Outside, asked: Asked, *, error: str = "") -> None:
    """One line for this request in the file of each device. Never raises: the log of what was decided is another."""
    if outside.vault_audit is None:
        return
    try:
        lines = await outside.store.read(lambda tx: _line(tx, outside, asked, error))
    except Error:
        return
    for file, line in lines:
        try:
            outside.vault_audit(file, line)
        except OSError as problem:
            _LOG.warning("an audit device's file could not be written", extra={"problem": str(problem.strerror)})


def _line(tx: Tx, outside: Outside, asked: Asked, error: str) -> list[tuple[str, bytes]]:
    devices = tx.vault.entries("", "device")
    if not devices:
        return []
    auth: dict[str, object] = {}
    try:
        holder = holder_of(tx, outside, asked)
        token = holder.token
        auth = {
            "accessor": token.id,
            "display_name": token.display_name,
            "entity_id": token.person_id,
            "policies": list(token.policies),
        }
    except Error:
        pass
    data: dict[str, object] = {key: asked.data[key] for key in sorted(asked.data) if key in _SHOWN}
    if isinstance(key := asked.data.get("public_key"), str):
        data["public_key"] = "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    entry = {
        "time": rfc3339(outside.clock()),
        "type": "response",
        "auth": auth,
        "request": {
            "operation": "update" if asked.operation == "write" else asked.operation,
            "path": asked.path,
            "remote_address": asked.source,
            "data": data,
        },
        "error": error,
    }
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    return [(str(each.body["file"]), line) for each in devices]


def _shown(found: Entry) -> dict[str, object]:
    return {
        "type": found.body["type"],
        "description": found.body["description"],
        "options": {"file_path": found.body["asked"]},
        "path": f"{found.name}/",
        "local": False,
    }


def _certificate(event: Mapping[str, object]) -> dict[str, object]:
    return {name: event.get(name) for name in ("time", "realm", "actor", "serial", "target", "grant")}
