"""Opening the database, and the two ways in: `write` through the one writer, `read` beside it."""

import asyncio
import os
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.migrations.run import upgrade
from jitgate.adapters.db.transaction import REVOCATION_EPOCH, Transaction
from jitgate.adapters.db.writer import Writer
from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.core.ids import Random

T = TypeVar("T")

RECALLED_MAX = 20_000  # facts of so many callers, keys and grants; a few kB each
READERS = 4  # threads and connections that read at the same time


class Store:
    """An open database. `close` finishes what waits."""

    def __init__(self, writing: Engine, reading: Engine, random: Random) -> None:
        self._writing = writing
        self._reading = reading
        self._writer = Writer(writing, random)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="jitgate-reader")
        self._recalled: dict[Hashable, tuple[int, Any]] = {}  # with the epoch that they were read under

    async def write(self, job: Callable[[Transaction], T]) -> T:
        return await self._writer.submit(job)

    async def read(self, job: Callable[[Transaction], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    async def recall(self, key: Hashable, job: Callable[[Transaction], T]) -> T:
        """`read`, or what it gave for the same key under the same revocation epoch. What raises is not kept.

        For facts that only an act which moves the epoch can take away; the key says all that the job depends on.
        """
        epoch = self._writer.epoch  # before the read: what comes of it can only be newer
        known = self._recalled.get(key)
        if known is not None and known[0] == epoch:
            found: T = known[1]
            return found
        found = await self.read(job)
        if len(self._recalled) >= RECALLED_MAX:
            self._recalled.clear()
        self._recalled[key] = (epoch, found)
        return found

    def _read(self, job: Callable[[Transaction], T]) -> T:
        with self._reading.connect() as connection:
            return job(Transaction(connection))

    def close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        self._reading.dispose()
        self._writing.dispose()


def open_store(url: str, *, random: Random = os.urandom) -> Store:
    """Open the database at `url` (`sqlite:///FILE`), bring its schema up to date, start the writer.

    Raises `NotFound`, `BadInput` for a file that is none that `create_installation` made, `Unsafe` for its mode.
    """
    writing = _engine(url)
    try:
        with _readable(url):
            upgrade(writing)
            _check_installed(writing)
            return Store(writing, _engine(url, read_only=True), random)
    except BaseException:
        writing.dispose()
        raise


def _check_installed(engine: Engine) -> None:
    with engine.connect() as connection:
        if connection.scalar(select(t.log_state.c.origin)) is None:
            raise BadInput(f"{engine.url.database} holds no installation", "jitgate init makes one")


def create_installation(url: str, *, origin: str, values: dict[str, str], now: int) -> None:
    """Make a new database with its realm `default`, an empty log under `origin`, and the installation's own values.

    A second call on the same database is refused by its primary keys.
    """
    engine = _engine(url, make=True)
    try:
        upgrade(engine)
        with engine.begin() as connection:
            connection.execute(insert(t.realm).values(id="default", created_at=now))
            connection.execute(insert(t.log_state).values(id=1, origin=origin, frontier=b""))
            rows = [{"name": name, "value": value} for name, value in ({REVOCATION_EPOCH: "0"} | values).items()]
            connection.execute(insert(t.meta), rows)
    finally:
        engine.dispose()


@contextmanager
def open_read_only(url: str) -> Iterator[Transaction]:
    """One moment of a database, beside whoever writes it: nothing is changed, not even the schema."""
    engine = _engine(url, read_only=True)
    try:
        with _readable(url), engine.connect() as connection:
            yield Transaction(connection)
    finally:
        engine.dispose()


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """A file that is no database of ours, or a damaged one, is said so."""
    try:
        yield
    except DatabaseError as error:
        hint = "is it the whole database of a jitgate installation?"
        raise BadInput(f"cannot read {make_url(url).database}: {error.orig}", hint) from None


def _engine(url: str, *, read_only: bool = False, make: bool = False) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = make_url("sqlite://")
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise BadInput(
            "this version keeps its data in SQLite only", "database = 'sqlite:////var/lib/jitgate/jitgate.db'"
        )
    _check_file(Path(parsed.database), make=make)
    engine = create_engine(parsed, hide_parameters=True)  # hashes and seeds are among them; errors go to the log

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own connection
        connection.isolation_level = None  # the driver must not begin transactions of its own (sqlite3, PEP 249)
        settings = (
            *(() if read_only else ("journal_mode=WAL",)),  # it is kept in the file
            "synchronous=FULL",  # an answer is given only for what is on the disk
            "foreign_keys=ON",
            "busy_timeout=5000",
            "trusted_schema=OFF",
            f"query_only={'ON' if read_only else 'OFF'}",
        )
        try:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}")
        except Exception:
            connection.close()  # nobody else has it: the pool takes only connections that were made
            raise

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:  # noqa: ANN401  # sqlalchemy's hook is untyped
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _check_file(path: Path, *, make: bool) -> None:
    """The file holds hashes, sealed seeds and people's reasons: made 0600, refused when others can read it."""
    if not path.exists():
        if not make:
            raise NotFound(f"no database at {path}", "jitgate init makes one")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if path.stat().st_mode & 0o077:
        raise Unsafe(f"{path} can be read by others", f"chmod 600 {path}")
