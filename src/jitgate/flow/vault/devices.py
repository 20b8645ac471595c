"""Audit devices and counters. What decides is in jitgate's own log; a file device is a rendering of every request.

A device of type file writes below `[vault] audit_folder`, under the last part of the path that was asked for, whatever
folder that names: who may enable a device chooses no file of the machine. Of secrets it holds none.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

from jitgate.audit.events import EventType
from jitgate.audit.query import Query
from jitgate.audit.show import as_json
from jitgate.core.clock import DAY, rfc3339
from jitgate.core.errors import BadInput, Error, TooMany, Unreachable
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, only, read, said, text, write
from jitgate.identity.vault import Entry, check_mount_path

_LOG = logging.getLogger("jitgate.vault")
DEVICES_MAX: Final = 8
RECENT: Final = 20
SHOWN_MAX: Final = 200  # characters of one field
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


async def check(outside: Outside) -> None:
    """Before an act. `Unreachable` where there are devices and none can be written: what is not told is not done."""
    if outside.vault_audit is not None:
        _append(outside.vault_audit, await outside.store.read(_files), b"")


async def tell(
    outside: Outside, asked: Asked, holder: Holder | None, *, error: Error | None = None, first: bool = False
) -> None:
    """One line for this request in the file of each device. `Unreachable` where there are some and none took it.

    `holder` None: a stranger, of whose words none are kept. What they or somebody too fast are refused is a line only
    where it is the `first`, which the log has too: so nobody fills a disk who may do nothing.
    """
    if outside.vault_audit is None or (error and not first and (holder is None or isinstance(error, TooMany))):
        return
    line = json.dumps(_entry(outside, asked, holder, error), separators=(",", ":")).encode() + b"\n"
    _append(outside.vault_audit, await outside.store.read(_files), line)


def _files(tx: Tx) -> list[str]:
    return [str(each.body["file"]) for each in tx.vault.entries("", "device")]


def _append(append: Callable[[str, bytes], None], files: list[str], line: bytes) -> None:
    """As Vault: one device that takes it is enough."""
    taken = not files
    for file in files:
        try:
            append(file, line)
            taken = True
        except OSError as problem:
            _LOG.warning("an audit device's file could not be written", extra={"problem": str(problem.strerror)})
    if not taken:
        raise Unreachable("no audit device can be written", "make room, or move its file away", code="vault_audit")


def _entry(outside: Outside, asked: Asked, holder: Holder | None, error: Error | None) -> dict[str, object]:
    auth: dict[str, object] = {}
    data: dict[str, object] = {}
    if holder is not None:
        token = holder.token
        auth = {
            "accessor": token.id,
            "display_name": token.display_name,
            "entity_id": token.person_id,
            "policies": list(token.policies),
        }
        data = {key: _cut(asked.data[key]) for key in sorted(asked.data) if key in _SHOWN}
        if isinstance(key := asked.data.get("public_key"), str):
            data["public_key"] = "sha256:" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
    return {
        "time": rfc3339(outside.clock()),
        "type": "response",
        "auth": auth,
        "request": {
            "operation": "update" if asked.operation == "write" else asked.operation,
            "path": "" if error and holder is None else asked.path,
            "remote_address": asked.source,
            "data": data,
        },
        "error": _cut(error.what) if error else "",
    }


def _cut(value: object) -> str:
    """As it may stand in a line: texts cut, several of them joined; other things than texts and numbers left out."""
    if isinstance(value, list):
        value = ",".join(each for each in value if isinstance(each, str))
    words = value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
    return words if len(words) <= SHOWN_MAX else words[:SHOWN_MAX] + "…"


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
