"""Opening the database, and the two ways in: `write` through the one writer, `read` beside it."""

import asyncio
import logging
import os
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, insert, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, DBAPIError, IntegrityError, OperationalError

from jitgate.adapters.db import postgres, roles, sqlite
from jitgate.adapters.db import tables as t
from jitgate.adapters.db.epochs import Epochs
from jitgate.adapters.db.failures import FAILURES, failed, unheld
from jitgate.adapters.db.migrations.run import upgrade
from jitgate.adapters.db.transaction import REVOCATION_EPOCH, Transaction
from jitgate.adapters.db.writer import Writer
from jitgate.core.errors import BadInput, Conflict, Unreachable
from jitgate.core.ids import Random

T = TypeVar("T")

_LOG = logging.getLogger("jitgate.db")

_MAY_NOT = "42501"  # SQLSTATE insufficient_privilege
_NO_TABLE = "42P01"  # undefined_table
_AS_OWNER = "of another version? jitgate db upgrade, then db roles, each with --database URL of the tables' owner"

RECALLED_MAX = 20_000  # facts of so many callers, keys and grants; a few kB each
READERS = 4  # threads and connections that read at the same time


class Store:
    """An open database. `close` finishes what waits."""

    def __init__(self, writing: Engine, reading: Engine, random: Random, node: str) -> None:
        alone = writing.dialect.name != postgres.BACKEND
        with reading.connect() as connection:
            self._epochs = Epochs(Transaction(connection).epoch(), alone=alone)
        self._writing = writing
        self._reading = reading
        self._listener = None if alone else postgres.Listener(reading, self._epochs, node)
        self._writer = Writer(writing, self._epochs, random)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="jitgate-reader")
        self._recalled: dict[Hashable, tuple[int, Any]] = {}  # with the generation that they were read under

    async def write(self, job: Callable[[Transaction], T], *, brief: bool = False) -> T:
        return await self._writer.submit(job, brief=brief)

    async def read(self, job: Callable[[Transaction], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    async def recall(self, key: Hashable, job: Callable[[Transaction], T]) -> T:
        """`read`, or what it gave for the same key under the same revocation epoch. What raises is not kept.

        For facts that only an act which moves the epoch can take away; the key says all that the job depends on.
        """
        generation = self._epochs.generation()  # before the read: what comes of it can only be newer
        if generation is None:
            return await self.read(job)
        known = self._recalled.get(key)
        if known is not None and known[0] == generation:
            found: T = known[1]
            return found
        found = await self.read(job)
        if len(self._recalled) >= RECALLED_MAX:
            self._recalled.clear()
        self._recalled[key] = (generation, found)
        return found

    def _read(self, job: Callable[[Transaction], T]) -> T:
        """A connection that died while nobody used it is replaced: what only reads can begin again."""
        try:
            try:
                return self._read_once(job)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._read_once(job)
        except DataError:
            raise unheld() from None
        except FAILURES as error:
            _LOG.warning("the database could not be read: %s", error)
            raise failed(error, "read") from error

    def _read_once(self, job: Callable[[Transaction], T]) -> T:
        with self._reading.connect() as connection:
            return job(Transaction(connection))

    def close(self) -> None:
        self._writer.close()
        if self._listener is not None:
            self._listener.close()
        self._readers.shutdown()
        self._reading.dispose()
        self._writing.dispose()


def open_store(url: str, *, random: Random = os.urandom, node: str = "") -> Store:
    """Open the database at `url` (`sqlite:///FILE`, `postgresql://...`), bring its schema up to date, start the writer.

    `node`: the id of the service, which no other may have while it is open. Raises `Conflict` if one has, `NotFound`,
    `BadInput` for a database that `create_installation` did not make, `Unsafe` for a file's mode, `Unreachable`.
    """
    writing = _engine(url)
    reading: Engine | None = None
    try:
        with _readable(url):
            if writing.dialect.name == postgres.BACKEND:
                postgres.check_encoding(writing)
                postgres.warn_of_no_sync(writing)
                _check_ours(writing)
            upgrade(writing)
            _check_installed(writing)
            reading = _engine(url, read_only=True)
            return Store(writing, reading, random, node)
    except BaseException:
        writing.dispose()
        if reading is not None:
            reading.dispose()
        raise


def _check_ours(engine: Engine) -> None:
    """Before anything is changed: a server's other databases are others'."""
    if not inspect(engine).has_table(roles.VERSION):
        raise BadInput(f"{engine.url.database} holds no installation", "jitgate init makes one")


def _check_installed(engine: Engine) -> None:
    with engine.connect() as connection:
        if connection.scalar(select(t.log_state.c.origin)) is None:
            raise BadInput(f"{engine.url.database} holds no installation", "jitgate init makes one")


def check_empty(url: str) -> None:
    """Before anything is made for a new installation. `Conflict` if the database of a server holds something."""
    if _parsed(url).get_backend_name() != postgres.BACKEND:
        return  # a file is made with the installation
    engine = _engine(url, read_only=True)
    try:
        with _readable(url):
            postgres.check_encoding(engine)
            if tables := inspect(engine).get_table_names():
                what = "holds an installation already" if t.log_state.name in tables else "is not empty"
                raise Conflict(f"the database {what}", "a new one: CREATE DATABASE; another node: jitgate init --join")
    finally:
        engine.dispose()


def create_installation(url: str, *, origin: str, values: dict[str, str], now: int) -> None:
    """Make a new database with its realm `default`, an empty log under `origin`, and the installation's own values.

    On PostgreSQL the database is there already, and empty. `Conflict` if it holds an installation.
    """
    engine = _engine(url, make=True)
    try:
        with _readable(url):
            if engine.dialect.name == postgres.BACKEND:
                postgres.check_encoding(engine)
            upgrade(engine)
            with engine.begin() as connection:
                connection.execute(insert(t.realm).values(id="default", created_at=now))
                connection.execute(insert(t.log_state).values(id=1, origin=origin, frontier=b""))
                rows = [{"name": name, "value": value} for name, value in ({REVOCATION_EPOCH: "0"} | values).items()]
                connection.execute(insert(t.meta), rows)
    except IntegrityError:
        raise Conflict("the database holds an installation already", "jitgate init --join adds a node") from None
    finally:
        engine.dispose()


def upgrade_schema(url: str) -> None:
    """As the owner of the tables: bring them up to date."""
    with _owning(url) as engine:
        _check_ours(engine)
        upgrade(engine)


def apply_roles(url: str, prefix: str) -> None:
    """As the owner of the tables, who may make roles: grant to the programs' roles what they need (`roles`)."""
    if _parsed(url).get_backend_name() != postgres.BACKEND:
        raise BadInput("a database in a file has no roles", "--database postgresql://OWNER@HOST/NAME")
    with _owning(url) as engine:
        _check_ours(engine)
        roles.apply(engine, prefix)


@contextmanager
def _owning(url: str) -> Iterator[Engine]:
    engine = _engine(url)
    try:
        with _readable(url):
            yield engine
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
    """A file that is no database of ours, or a damaged one, is said so; a server that is not there, too."""
    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as error:
        place = make_url(url)
        if place.get_backend_name() == postgres.BACKEND and isinstance(error, OperationalError):
            what = f"cannot get into the database: {str(error.orig).splitlines()[0]}"
            raise Unreachable(what, "does it run? is its URL right?") from None
        if getattr(error.orig, "sqlstate", "") == _MAY_NOT:
            what = f"{error.orig}".splitlines()[0]
            raise BadInput(f"the database's user may not do that: {what}", _AS_OWNER) from None
        if getattr(error.orig, "sqlstate", "") == _NO_TABLE:
            raise BadInput(f"{place.database} holds no installation", "jitgate init makes one") from None
        hint = "is it the whole database of a jitgate installation?"
        raise BadInput(f"cannot read {place.database}: {error.orig}", hint) from None


def _engine(url: str, *, read_only: bool = False, make: bool = False) -> Engine:
    parsed = _parsed(url)
    if parsed.get_backend_name() == postgres.BACKEND:
        return postgres.engine(parsed, read_only=read_only)
    return sqlite.engine(parsed, read_only=read_only, make=make)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in {"sqlite", postgres.BACKEND}:
        raise BadInput("the database is SQLite or PostgreSQL", "sqlite:////FILE or postgresql://USER@HOST/NAME")
    return parsed
