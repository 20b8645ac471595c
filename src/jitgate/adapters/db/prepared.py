"""Statements of the hot path: compiled once a dialect, then handed to the driver as they are.

SQLAlchemy takes ten times as long to find out anew what to do with each of them. Only for statements whose parameters
and columns the driver takes as they come: texts, whole numbers, bytes.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement

Values = Sequence[str | int | bytes | None]


class Prepared:
    """`parameters`: the names of the statement's parameters, in the order in which the values will be given."""

    def __init__(self, statement: ClauseElement, *parameters: str) -> None:
        self._statement = statement
        self._parameters = parameters
        self._texts: dict[str, str] = {}  # by dialect

    def run(self, connection: Connection, values: Values = ()) -> None:
        self._execute(connection, values)

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        self._execute(connection, rows, many=True)

    def scalar(self, connection: Connection, values: Values = ()) -> Any:  # noqa: ANN401  # what the column holds
        """The first column of the first row, or None."""
        row = self._execute(connection, values, fetch=True)
        return row and row[0]

    def _execute(self, connection: Connection, given: Any, *, many: bool = False, fetch: bool = False) -> Any:  # noqa: ANN401  # the driver's
        text = self._texts.get(connection.dialect.name) or self._compile(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            (cursor.executemany if many else cursor.execute)(text, given)
            return cursor.fetchone() if fetch else None
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, text, error) from error
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect) -> str:
        style = "qmark" if dialect.name == "sqlite" else "format"  # by place, which costs nothing a call
        positional: Any = type(dialect)(paramstyle=style)  # type: ignore[call-arg]  # every dialect takes it
        compiled: Any = self._statement.compile(dialect=positional, column_keys=self._parameters or None)
        if tuple(compiled.positiontup) != self._parameters:
            raise AssertionError(f"{compiled} takes {compiled.positiontup}")
        self._texts[dialect.name] = str(compiled)
        return self._texts[dialect.name]


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
