"""SQLite in one file: how its connections are set up."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from jitgate.adapters.db.prepared import Prepared
from jitgate.core.errors import BadInput, NotFound, Unsafe

PATIENCE_MS = 5000  # with another program that has the file locked


def engine(url: URL, *, read_only: bool = False, make: bool = False) -> Engine:
    """Raises `NotFound` where there is no file, unless it is to be made, and `Unsafe` for its mode."""
    if not url.database:
        raise BadInput("the database's URL names no file", "database = 'sqlite:////var/lib/jitgate/jitgate.db'")
    _check_file(Path(url.database), make=make)
    made = create_engine(url, hide_parameters=True)  # hashes and seeds are among them; errors go to the log

    @event.listens_for(made, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own connection
        connection.isolation_level = None  # the driver must not begin transactions of its own (sqlite3, PEP 249)
        settings = (
            *(() if read_only else ("journal_mode=WAL",)),  # it is kept in the file
            "synchronous=FULL",  # an answer is given only for what is on the disk
            "foreign_keys=ON",
            f"busy_timeout={PATIENCE_MS}",
            "trusted_schema=OFF",
            f"query_only={'ON' if read_only else 'OFF'}",
        )
        try:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}")
        except Exception:
            connection.close()  # nobody else has it: the pool takes only connections that were made
            raise

    begin = Prepared(text("BEGIN" if read_only else "BEGIN IMMEDIATE"))
    event.listens_for(made, "begin")(begin.run)

    return made


@contextmanager
def impatient(connection: Connection) -> Iterator[None]:
    """What finds the file locked by another program fails at once, inside."""
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")


def _check_file(path: Path, *, make: bool) -> None:
    """The file holds hashes, sealed seeds and people's reasons: made 0600, refused when others can read it."""
    if not path.exists():
        if not make:
            raise NotFound(f"no database at {path}", "jitgate init makes one")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if path.stat().st_mode & 0o077:
        raise Unsafe(f"{path} can be read by others", f"chmod 600 {path}")
