"""The log's rows: appended by the writer at the end of each group, searched by anybody."""

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, insert, literal_column, or_, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.prepared import Prepared
from jitgate.audit import log, tree
from jitgate.audit.checkpoint import checkpoint_body
from jitgate.audit.events import Event
from jitgate.audit.log import Columns
from jitgate.audit.query import Query
from jitgate.core.clock import Micros
from jitgate.core.ids import Random

# Made once: these run in every group.
_ADD = Prepared(insert(t.event), *Columns._fields, "leaf", "personal")
_EDGE = Prepared(select(t.log_state.c.frontier))
_MOVE_EDGE = Prepared(update(t.log_state).where(t.log_state.c.id == literal_column("1")), "frontier")


class Log:
    def __init__(self, connection: Connection) -> None:
        self._c = connection
        self._pending: list[Event] = []

    def append(self, event: Event) -> None:
        """Keep the event for the group's end, where it gets its index."""
        self._pending.append(event)

    def mark(self) -> int:
        return len(self._pending)

    def back_to(self, mark: int) -> None:
        """Forget the events of a job that failed."""
        del self._pending[mark:]

    def write_pending(self, random: Random) -> None:
        if not self._pending:
            return
        frontier, entries = log.append(self.frontier(), self._pending, random=random)
        _ADD.run_many(self._c, [(*entry.columns, entry.leaf, entry.personal) for entry in entries])
        _MOVE_EDGE.run(self._c, (frontier.encode(),))
        self._pending.clear()

    def frontier(self) -> tree.Frontier:
        return tree.decode(_EDGE.scalar(self._c))

    def checkpoint_body(self) -> bytes:
        """What a checkpoint of the log as it stands would say."""
        return checkpoint_body(self.origin(), self.frontier())

    def add_checkpoint(self, size: int, text: str, at: Micros) -> None:
        if self._c.execute(select(t.checkpoint.c.size).where(t.checkpoint.c.size == size)).first() is None:
            self._c.execute(insert(t.checkpoint).values(size=size, text=text, made_at=at))

    def latest_checkpoint(self) -> str | None:
        return self._c.scalar(select(t.checkpoint.c.text).order_by(t.checkpoint.c.size.desc()).limit(1))

    def checkpoints(self) -> list[str]:
        return list(self._c.scalars(select(t.checkpoint.c.text).order_by(t.checkpoint.c.size)))

    def logged(self, certificates: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Those of `certificates` (CA fingerprint, serial) that an entry names, or an event that waits to be one.

        Serials count per CA key.
        """
        wanted = [str(serial) for _, serial in certificates]
        leaves = self._c.scalars(select(t.event.c.leaf).where(t.event.c.serial.in_(wanted)))
        found = {(body["detail"]["ca"], int(body["serial"])) for body in map(json.loads, leaves)}
        found |= {(str(dict(e.detail)["ca"]), e.serial) for e in self._pending if e.serial is not None}
        return found.intersection(certificates)

    def entries(self) -> Iterator[tuple[Columns, bytes, str]]:
        """Every entry, in the order of the log, streamed."""
        query = select(t.event).order_by(t.event.c.index)
        for row in self._c.execution_options(stream_results=True, yield_per=1000).execute(query):
            yield Columns(*row[: len(Columns._fields)]), row.leaf, row.personal

    def origin(self) -> str:
        origin: str = self._c.execute(select(t.log_state.c.origin)).scalar_one()
        return origin

    def search(self, query: Query) -> list[tuple[Columns, bytes, str]]:
        """Columns, leaf and personal texts of the entries that the query asks for, in the order of the log."""
        e = t.event.c
        wanted = [
            column == value
            for column, value in ((e.host, query.host), (e.grant, query.grant), (e.outcome, query.outcome or ""))
            if value
        ]
        if query.types:
            wanted.append(e.type.in_(query.types))
        if query.serial is not None:
            wanted.append(e.serial == str(query.serial))
        if query.person:
            wanted.append(or_(e.person == query.person, e.subject == query.person))
        if query.q:
            wanted.append(
                or_(e.target.icontains(query.q, autoescape=True), e.personal.icontains(query.q, autoescape=True))
            )
        chosen = select(t.event).where(*wanted).limit(query.limit)
        if query.after is None:
            rows = list(reversed(self._c.execute(chosen.order_by(e.index.desc())).all()))
        else:
            rows = list(self._c.execute(chosen.where(e.index > query.after).order_by(e.index)))
        return [(Columns(*row[: len(Columns._fields)]), row.leaf, row.personal) for row in rows]
