"""The registry of people's keys in KV v2: one entry a key, at PREFIX/PERSON/FINGERPRINT.

The fingerprint is OpenSSH's without `SHA256:`, in the URL-safe alphabet (RFC 4648 section 5): `/` is `_` and `+` is
`-`. An entry counts when its `person` (id) and `key` are those of the row; its other fields are for people to read.

Writes carry the version they replace (check-and-set), so that nothing is written over what somebody else wrote.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

from jitgate.adapters.vault.client import Json, Tick, Vault, open_vault
from jitgate.adapters.vault.settings import KeysSettings
from jitgate.core.clock import rfc3339
from jitgate.core.errors import BadInput, Conflict, Unreachable
from jitgate.identity.keys import Standing
from jitgate.identity.model import RegisteredKey
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

AGE_S: Final = 5.0
"""How long what an entry said is believed, counted from when it was asked for: so long an entry that somebody removed
by hand may still count. Short against the minutes of a certificate, and still one question in hundreds of issues of a
busy key. Not a setting: a promise that docs and threat model make."""
KNOWN_MAX: Final = 20_000  # keys; some 200 bytes each
ATTEMPTS: Final = 3  # at writing, each needs another writer of the same entry in the same moment


class VaultKeys:
    """A `flow.ports.KeyRegistry`. Made by `open_registry`."""

    def __init__(self, vault: Vault, mount: str, prefix: str, tick: Tick = time.monotonic) -> None:
        self._vault, self._data, self._tick = vault, f"{mount}/data/{prefix}", tick
        self._known: dict[str, tuple[float, Standing]] = {}
        self._under_way: dict[str, asyncio.Task[Standing]] = {}
        self._checking, self._checked_until = asyncio.Lock(), 0.0

    async def confirm(self, owner: str, registered: RegisteredKey) -> Standing:
        known = self._known.get(registered.id)
        if known is not None and self._tick() < known[0]:
            return known[1]
        task = self._under_way.get(registered.id)
        if task is None:  # one question for all who wait for it
            task = asyncio.create_task(self._ask(owner, registered))
            self._under_way[registered.id] = task
            task.add_done_callback(lambda done: self._answered(registered.id, done))
        return await asyncio.shield(task)

    async def put(self, owner: str, registered: RegisteredKey) -> bool:
        path = self._path(owner, registered.key)
        for _ in range(ATTEMPTS):
            entry, version = await self._read(path)
            if entry is not None:
                if standing_of(entry, registered) is Standing.AGREES:
                    return False
                raise Conflict(
                    "the key registry has something else under this key's name",
                    "tell the service's owner: somebody changed it by hand",
                    code="registry_differs",
                )
            body = {"options": {"cas": version}, "data": _entry(owner, registered)}
            status, found = await self._vault.call("POST", path, body)
            if status == 200 and isinstance(_metadata(found).get("version"), int):  # noqa: PLR2004  # HTTP
                return True
            if status == 204:  # noqa: PLR2004  # HTTP; KV v1 takes anything and says nothing
                raise _wrong("its mount is not KV version 2")
        raise _wrong("others write the same entry")

    async def remove(self, owner: str, registered: RegisteredKey) -> None:
        self._known.pop(registered.id, None)
        await self._vault.call("DELETE", self._path(owner, registered.key))

    async def check(self) -> None:
        async with self._checking:  # whoever asks whether the service is ready costs one question in `AGE_S`
            if self._tick() >= self._checked_until:
                await self._read(f"{self._data}/none")
                self._checked_until = self._tick() + AGE_S

    async def _ask(self, owner: str, registered: RegisteredKey) -> Standing:
        asked = self._tick()
        entry, _ = await self._read(self._path(owner, registered.key))
        standing = Standing.GONE if entry is None else standing_of(entry, registered)
        if standing is not Standing.GONE:  # the row goes too then, and with it this id
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[registered.id] = (asked + AGE_S, standing)
        return standing

    def _answered(self, key_id: str, task: asyncio.Task[Standing]) -> None:
        self._under_way.pop(key_id, None)
        if not task.cancelled():
            task.exception()  # those who waited for it have it, if anybody did

    async def _read(self, path: str) -> tuple[Json | None, int]:
        """The entry, None if there is none or its newest version was deleted; and the version to replace."""
        status, found = await self._vault.call("GET", path)
        data = found.get("data")
        if status == 200 and isinstance(data, dict) and isinstance(data.get("data"), dict):  # noqa: PLR2004  # HTTP
            return data["data"], _version(data)
        if status == 404 and isinstance(data, dict):  # noqa: PLR2004  # deleted; its versions are still there
            return None, _version(data)
        if status == 404 and found.get("errors") == []:  # noqa: PLR2004  # never there, or its metadata was deleted
            return None, 0
        raise _wrong("its mount is not there, or not KV version 2")

    def _path(self, owner: str, key: PublicKey) -> str:
        name = key.fingerprint.removeprefix("SHA256:").replace("+", "-").replace("/", "_")
        return f"{self._data}/{quote(owner, safe='')}/{name}"


@asynccontextmanager
async def open_registry(settings: KeysSettings, tick: Tick = time.monotonic) -> AsyncIterator[VaultKeys]:
    """The registry that `[keys]` names, open until the block ends. Nothing is asked before it is needed."""
    async with open_vault(settings, tick) as vault:
        yield VaultKeys(vault, settings.mount, settings.prefix, tick)


def standing_of(entry: Json, registered: RegisteredKey) -> Standing:
    """Whether an entry says what the row says. Whoever can write the entry may have written anything."""
    line = entry.get("key")
    try:
        key = parse_public_key_line(line)[0] if isinstance(line, str) else None
    except BadInput:
        key = None
    agrees = key == registered.key and entry.get("person") == registered.person_id
    return Standing.AGREES if agrees else Standing.DIFFERS


def _entry(owner: str, registered: RegisteredKey) -> Json:
    return {
        "key": registered.key.line(registered.comment),
        "person": registered.person_id,
        "name": owner,
        "added_at": rfc3339(registered.added_at),
    }


def _metadata(found: Json) -> dict[str, Any]:
    data = found.get("data")
    return data if isinstance(data, dict) else {}


def _version(data: Json) -> int:
    metadata = data.get("metadata")
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if not isinstance(version, int):
        raise _wrong("its mount is not KV version 2")
    return version


def _wrong(why: str) -> Unreachable:
    return Unreachable(f"the key registry does not work: {why}", "docs/key-registry.md", code="registry_unreachable")
