"""Entries: an event as leaf bytes that never change, texts beside it that may be erased, and columns for searching.

The leaf is JSON in the canonical form of RFC 8785 (our keys are ASCII, our numbers whole and under 2^53, so sorted keys
and no white space are all of it), empty fields left out, a serial as decimal text. A personal text is not in it, only
a commitment, the SHA-256 of its line `SALT FIELD TEXT` with 16 random bytes as salt. Erasing the line leaves the leaf,
every proof and every checkpoint as they were, and the commitment then says nothing about the text.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from jitgate.audit.events import Event, escape
from jitgate.audit.tree import EMPTY, Frontier, hash_leaf
from jitgate.core.ids import Random, new_id
from jitgate.core.json_text import writer
from jitgate.core.outcome import Check, Outcome

__all__ = [
    "EMPTY",
    "Columns",
    "Entry",
    "Frontier",
    "Leaf",
    "Personal",
    "append",
    "columns_of",
    "commitment",
    "decode_personal",
    "encode_personal",
    "erase",
]

LEAF_VERSION = 1
SALT_SIZE = 16
CHECKS_MAX = 64  # of one decision; the rest is counted in a last one
WORDS_MAX = 400  # characters of one check's why, and of its hint

MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError, OSError)
"""What reading a row can raise that `append` never made (OSError: a time out of the C library's range)."""
_REFERENCES = ("target", "subject", "request", "grant", "session")

Leaf = dict[str, Any]
"""A leaf's JSON object. Nobody vouches for one that comes from a database, `verify` does not believe its types."""

Personal = dict[str, tuple[bytes, str]]
"""Salt and text by field; a field that was erased, or that the event does not have, is not there."""

_write = writer(sort_keys=True, ensure_ascii=False)


class Columns(NamedTuple):
    """What a store may search by. All of it stands in the leaf; `verify` compares."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on this
    id: str
    time: int  # microseconds
    realm: str
    type: str
    outcome: str
    person: str  # who acted, or ""
    subject: str  # whom it was done to, or ""
    target: str
    host: str  # the host of the target, or ""
    request: str
    grant: str
    session: str
    serial: str  # decimal, or ""


@dataclass(frozen=True, slots=True)
class Entry:
    """`personal` is what is stored of the texts, see `encode_personal`."""

    index: int
    id: str
    event: Event
    leaf: bytes
    leaf_hash: bytes
    personal: str
    columns: Columns


def append(frontier: Frontier, events: Iterable[Event], *, random: Random) -> tuple[Frontier, tuple[Entry, ...]]:
    """The next entries of the log, and its new edge. The index of each is the size of the tree before it."""
    entries = tuple(_entry(frontier.size + at, event, random) for at, event in enumerate(events))
    return frontier.extend(entry.leaf_hash for entry in entries), entries


def _entry(index: int, event: Event, random: Random) -> Entry:
    checks = _recordable(event.checks) if event.checks else ()
    texts = (
        ("actor", event.actor.name),
        ("subject", event.subject_name),
        ("source", event.source),
        ("reason", event.reason),
        ("key_id", event.key_id),
        ("checks", _write([[check.why, check.hint] for check in checks]) if checks else ""),
    )
    given = [(field, text) for field, text in texts if text]
    salts = random(SALT_SIZE * len(given))
    personal = {
        field: _line(field, salts[SALT_SIZE * at : SALT_SIZE * (at + 1)], text)
        for at, (field, text) in enumerate(given)
    }
    actor: dict[str, str] = {"kind": event.actor.kind}
    if event.actor.person:
        actor["person"] = event.actor.person
    body: Leaf = {
        "v": LEAF_VERSION,
        "index": index,
        "id": new_id(event.time, random),
        "time": event.time,
        "realm": event.realm,
        "type": event.type.value,
        "outcome": event.outcome,
        "actor": actor,
    }
    for field in _REFERENCES:
        if value := getattr(event, field):
            body[field] = value
    if event.serial is not None:
        body["serial"] = str(event.serial)
    if checks:
        body["checks"] = [f"{check.name}:{check.outcome.value}" for check in checks]
    if event.detail:
        body["detail"] = dict(event.detail)
    if personal:
        body["personal"] = {field: commitment(line) for field, line in personal.items()}
    leaf = _write(body).encode()
    columns = columns_of(body)
    return Entry(index, columns.id, event, leaf, hash_leaf(leaf), "\n".join(personal.values()), columns)


def columns_of(body: Leaf) -> Columns:
    """The columns of a leaf's object. Raises one of `MALFORMED` for what `append` never made."""
    get = body.get
    target = get("target", "")
    return Columns(
        body["index"],
        body["id"],
        body["time"],
        body["realm"],
        body["type"],
        body["outcome"],
        body["actor"].get("person", ""),
        get("subject", ""),
        target,
        target.partition("host:")[2],
        get("request", ""),
        get("grant", ""),
        get("session", ""),
        get("serial", ""),
    )


def encode_personal(personal: Personal) -> str:
    """The texts for one column: a line for each, which is what its commitment is the hash of."""
    return "\n".join([_line(field, salt, text) for field, (salt, text) in personal.items()])


def decode_personal(stored: str) -> Personal:
    """Raises one of `MALFORMED` for what `encode_personal` never made."""
    lines = [line.split(" ", 2) for line in stored.split("\n")] if stored else []
    return {field: (bytes.fromhex(salt), text) for salt, field, text in lines}


def commitment(line: str) -> str:
    """What stands in the leaf for a line of `encode_personal`: SHA-256 in hex."""
    return sha256(line.encode()).hexdigest()


def _line(field: str, salt: bytes, text: str) -> str:
    """`SALT FIELD TEXT`, the salt in hex. No text has a line break in it (`events.check_text`), no field a space."""
    return f"{salt.hex()} {field} {text}"


def erase(stored: str, fields: Collection[str]) -> str:
    """The stored form without the texts and salts of `fields`."""
    return encode_personal({field: kept for field, kept in decode_personal(stored).items() if field not in fields})


def _recordable(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    kept = checks if len(checks) <= CHECKS_MAX else checks[: CHECKS_MAX - 1]
    safe = tuple(
        Check(escape(c.name, 64), c.outcome, escape(c.why, WORDS_MAX), escape(c.hint, WORDS_MAX)) for c in kept
    )
    left = len(checks) - len(kept)
    return (*safe, Check("more", Outcome.FAILED, f"{left} more checks are not recorded")) if left else safe
