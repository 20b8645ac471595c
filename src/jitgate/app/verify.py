"""`jitgate audit verify`: the log, the checkpoints and the signers' lists, read from their files and held together."""

import base64
import heapq
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from jitgate.adapters.db.store import open_read_only
from jitgate.adapters.signers import ledger
from jitgate.app.installation import list_folder, log_key_file
from jitgate.app.settings import Settings
from jitgate.audit.checkpoint import Checkpoint, open_checkpoint, parse_verifier_key
from jitgate.audit.report import Report
from jitgate.audit.signed import SignedItem
from jitgate.audit.verify import verify
from jitgate.ca.model import LogHead, SignedEntry
from jitgate.ca.signed import parse_line


def verify_installation(
    settings: Settings,
    outside: Sequence[str],
    *,
    log_key: str | None = None,
    database: str | None = None,
    lists: Sequence[Path] = (),
) -> Report:
    """Check the log of `settings`. `outside`: texts of checkpoints kept elsewhere; `log_key`: the log's key, likewise.

    `lists`: copies of the lists of other nodes' signers. Such a copy is as old as its file: of what was logged after
    the oldest of them nothing is said.

    Raises `BadInput` for a checkpoint or key that is none. The service may run meanwhile.
    """
    name, public = parse_verifier_key(log_key or log_key_file(settings).read_text())
    checkpoints = [open_checkpoint(text, name, public) for text in outside]
    files = [list_folder(settings) / ledger.NAME, *lists]
    durable = [path.stat().st_size for path in files]  # what was signed up to here was in the database before we look
    copied = min((path.stat().st_mtime_ns // 1000 for path in lists), default=None)
    now = time.time_ns() // 1000
    with open_read_only(database or settings.database_url) as transaction:
        heads = [_heads(path, end, name) for path, end in zip(files, durable, strict=True)]
        report = verify(
            transaction.log.entries(),
            origin=name,
            public=public,
            now=now,
            stored=transaction.log.checkpoints(),
            outside=checkpoints,
            listed=heapq.merge(*heads, key=lambda head: head.size),
            signed=heapq.merge(*map(_signed, files), key=lambda item: item.time),
            copied=copied,
        )
        report.lists, report.nodes = len(files), len(transaction.nodes.all())
        return report


def _signed(path: Path) -> Iterator[SignedItem]:
    with path.open("rb") as lines:
        for line in lines:
            entry = parse_line(line)
            if isinstance(entry, SignedEntry):
                yield SignedItem(entry.ca, entry.serial, entry.tbs_sha256, entry.time)


def _heads(path: Path, end: int, origin: str) -> Iterator[Checkpoint]:
    """The checkpoints that the signer signed, as the first `end` bytes of its list name them."""
    with path.open("rb") as lines:
        for line in lines:
            end -= len(line)
            if end < 0:
                return
            head = parse_line(line)
            if isinstance(head, LogHead):
                yield Checkpoint(origin, head.size, base64.b64decode(head.root))
