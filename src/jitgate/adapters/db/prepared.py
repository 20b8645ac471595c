"""Statements of the hot path: compiled once a dialect, then handed to the driver as they are.

SQLAlchemy takes ten times as long to find out anew what to do with each of them. Only for statements whose parameters
and columns the driver takes as they come: texts, whole numbers, bytes.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement

ROWS_MAX = 64  # of one statement: each number of rows is a statement of its own to the database
Values = Sequence[str | int | bytes | None]


class Prepared:
    """`parameters`: the names of the statement's parameters, in the order in which the values will be given."""

    def __init__(self, statement: ClauseElement, *parameters: str) -> None:
        self._statement = statement
        self._parameters = parameters
        self._texts: dict[tuple[str, int], str] = {}  # by dialect and number of rows

    def run(self, connection: Connection, values: Values = ()) -> None:
        self._execute(connection, values)

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Insert all rows by one statement: with each statement other threads take their turn before this one's."""
        for at in range(0, len(rows), ROWS_MAX):
            some = rows[at : at + ROWS_MAX]
            self._execute(connection, [value for row in some for value in row], rows=len(some))

    def scalar(self, connection: Connection, values: Values = ()) -> Any:  # noqa: ANN401  # what the column holds
        """The first column of the first row, or None."""
        row = self._execute(connection, values, fetch=True)
        return row and row[0]

    def _execute(self, connection: Connection, values: Values, *, rows: int = 1, fetch: bool = False) -> Any:  # noqa: ANN401  # the driver's
        text = self._texts.get((connection.dialect.name, rows)) or self._compile(connection.dialect, rows)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, values)
            return cursor.fetchone() if fetch else None
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, text, error) from error
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect, rows: int) -> str:
        style = "qmark" if dialect.name == "sqlite" else "format"  # by place, which costs nothing a call
        positional: Any = type(dialect)(paramstyle=style)  # type: ignore[call-arg]  # every dialect takes it
        compiled: Any = self._statement.compile(dialect=positional, column_keys=self._parameters or None)
        if tuple(compiled.positiontup) != self._parameters:
            raise AssertionError(f"{compiled} takes {compiled.positiontup}")
        head, values, row = str(compiled).partition(" VALUES ")
        self._texts[dialect.name, rows] = head + values + ", ".join([row] * rows)
        return self._texts[dialect.name, rows]


def _wrapped(connection: Connection, text: str, error: Exception) -> DBAPIError:
    """The error as SQLAlchemy would have raised it; a connection that broke is not used again."""
    dialect = connection.dialect
    driver: Any = connection.connection.dbapi_connection
    gone = dialect.is_disconnect(error, driver, None)  # type: ignore[arg-type]  # it is the driver's error
    if gone:
        connection.invalidate(error)
    told: Any = DBAPIError.instance(
        text,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=gone,
        dialect=dialect,
    )
    wrapped: DBAPIError = told
    return wrapped
