"""The log: entries made and written, and entries verified offline, a second. One core."""

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from tests.bench.rows import Row, median, timed
from tests.unit.audit.samples import KEY, ORIGIN, PUBLIC, START, an_event

from jitgate.adapters.db.log import Log
from jitgate.adapters.db.sqlite import engine
from jitgate.adapters.db.store import create_installation
from jitgate.audit.checkpoint import checkpoint_body, seal
from jitgate.audit.events import Event, EventType
from jitgate.audit.log import EMPTY, append
from jitgate.audit.verify import verify
from jitgate.core.clock import DAY

GROUP = 32  # events in one transaction
EVENTS = 20_000
ROUNDS = 5


def audit() -> Iterator[Row]:
    events = [an_event(EventType.CERTIFICATE_ISSUED, at=at, everything=False, serial=at + 1) for at in range(EVENTS)]
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'jitgate.db'}"
        create_installation(url, origin=ORIGIN, values={}, now=START)
        yield Row("audit", "appended/s", _appended(url, events), None, "", ">= 5000")
    yield Row("audit", "verified/s", _verified(events), None, "", ">= 100000")


def _appended(url: str, events: list[Event]) -> float:
    """In groups as the writer has them, each with its sync."""
    opened = engine(make_url(url))
    groups = [events[at : at + GROUP] for at in range(0, 64 * GROUP, GROUP)]
    took = [timed(partial(_append, opened.connect(), group)) for group in groups]
    opened.dispose()
    return GROUP / median(took) * 1000


def _append(connection: Connection, events: list[Event]) -> None:
    with connection, connection.begin():
        log = Log(connection)
        for event in events:
            log.append(event)
        log.write_pending(os.urandom)


def _verified(events: list[Event]) -> float:
    frontier, entries = append(EMPTY, events, random=os.urandom)
    rows = [(entry.columns, entry.leaf, entry.personal) for entry in entries]
    text = seal(checkpoint_body(ORIGIN, frontier), ORIGIN, KEY.sign, PUBLIC)

    def once() -> None:
        report = verify(rows, origin=ORIGIN, public=PUBLIC, now=START + 365 * DAY, stored=[text])
        assert report.ok, report

    return EVENTS / median(timed(once) for _ in range(ROUNDS)) * 1000
