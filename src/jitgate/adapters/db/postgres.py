"""PostgreSQL: how its connections are set up, and how a node learns what other nodes took away.

Whoever writes holds one advisory lock from the first statement of a transaction to its end, so that all nodes' groups
are one order. The lock is taken under READ COMMITTED: what a statement after it reads holds every commit before it.
"""

import logging
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import URL, Engine, bindparam, create_engine, event, func, text
from sqlalchemy import select as sql_select
from sqlalchemy.exc import DBAPIError

from jitgate.adapters.db.epochs import Epochs
from jitgate.core.errors import BadInput, Conflict

BACKEND = "postgresql"
WRITERS_LOCK = 0x6A69745F6C6F67  # any number; advisory locks are counted for each database
CHANNEL = "jitgate_epoch"
POOL = 4

BEAT_S = 0.5  # the listening connection asks so often, if it hears nothing
FRESH_S = 1.5  # an answer is good for so long, counted from the question: then nothing is recalled
AGAIN_S = 0.5  # before another try to connect
PATIENCE_S = 5.0  # with a server that went away in the middle of a commit, before nobody knows what became of it
TRANSACTION = "jitgate_transaction"  # a connection's own note: the number of its transaction

# A node that hangs must not keep the lock for long, nor one whose network is cut: the server ends its transaction.
_SESSION = """
SET idle_in_transaction_session_timeout = '15s';
SET lock_timeout = '20s';
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
SET tcp_user_timeout = '10s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
_CLIENT = {  # libpq's own; each may be set otherwise in the URL
    "application_name": "jitgate",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

NOTIFY = sql_select(func.pg_notify(CHANNEL, bindparam("epoch")))
"""Sent with the commit, and only then."""

_TAKE_NODE = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"  # until the connection ends
_STATUS = text("SELECT pg_xact_status(CAST(:transaction AS xid8))")

_LOG = logging.getLogger("jitgate.db")


def engine(url: URL, *, read_only: bool = False) -> Engine:
    """`read_only`: each transaction sees one moment and changes nothing. Otherwise each holds the writers' lock."""
    try:
        from psycopg import IsolationLevel  # noqa: PLC0415  # an extra, which SQLite does without
    except ModuleNotFoundError:
        raise BadInput("PostgreSQL needs psycopg", "install jitgate with the extra [server,postgres]") from None
    made = create_engine(
        url.set(drivername="postgresql+psycopg", query=_CLIENT | dict(url.query)),
        hide_parameters=True,  # hashes and seeds are among them; errors go to the log
        use_native_hstore=False,
        pool_size=POOL,
        max_overflow=0,
    )

    @event.listens_for(made, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own connection
        try:
            connection.autocommit = True
            connection.execute(_SESSION)
            connection.autocommit = False
            connection.isolation_level = IsolationLevel.REPEATABLE_READ if read_only else IsolationLevel.READ_COMMITTED
            connection.read_only = read_only
        except Exception:
            connection.close()
            raise

    if not read_only:

        @event.listens_for(made, "begin")
        def on_begin(connection: Any) -> None:  # noqa: ANN401  # sqlalchemy's hook is untyped
            asked = f"SELECT pg_advisory_xact_lock({WRITERS_LOCK}), pg_current_xact_id()::text"
            connection.info[TRANSACTION] = connection.exec_driver_sql(asked).one()[1]

    return made


def was_committed(made: Engine, transaction: str) -> bool | None:
    """Whether a transaction whose connection broke at its commit is there; None if the server cannot be asked.

    Asked under the writers' lock, which that transaction held: so it has ended, one way or the other.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with made.begin() as connection:
                return bool(connection.scalar(_STATUS, {"transaction": transaction}) == "committed")
        except DBAPIError:
            if time.monotonic() > until:
                return None
            time.sleep(AGAIN_S / 5)


def check_encoding(made: Engine) -> None:
    """Raises `BadInput` for a database that cannot hold our texts."""
    encoding = _setting(made, "server_encoding")
    if encoding != "UTF8":
        hint = "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        raise BadInput(f"the database's encoding is {encoding}", hint)


def warn_of_no_sync(made: Engine) -> None:
    if _setting(made, "fsync") != "on":
        _LOG.warning("the database server runs without fsync: a power cut may take back what was answered")


def _setting(made: Engine, name: str) -> str:
    with made.connect() as connection:
        return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


class Listener:
    """A thread with a connection of its own that keeps `epochs` true; while it has none, nothing is recalled."""

    def __init__(self, made: Engine, epochs: Epochs, node: str = "") -> None:
        """Returns when it listens, or soon: a server that is slow only makes the first facts be read.

        `node`: its id, for as long as we listen; `Conflict` if another service has it, as from a copied state folder.
        """
        self._engine = made
        self._epochs = epochs
        self._node = node
        self._taken = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._closing = threading.Event()
        self._hears = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jitgate-listener")
        self._thread.start()
        if not self._hears.wait(BEAT_S) and self._taken.is_set() and not self._hears.wait(PATIENCE_S):
            self.close()
            raise Conflict(
                "another service runs as this node", "a copied folder is none: jitgate init --join makes one"
            )

    def close(self) -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._wake.send(b"x")
            self._thread.join()
            self._wake.close()
            self._woken.close()

    def _run(self) -> None:
        import psycopg  # noqa: PLC0415  # an extra

        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        said = False
        while not self._closing.is_set():
            try:
                with psycopg.connect(*arguments, autocommit=True, **options) as connection:
                    self._listen(connection)
            except psycopg.Error as error:
                if self._hears.is_set() or not said:  # once for each time that it is lost
                    _LOG.warning("nothing is heard of other nodes, so nothing is recalled: %s", error)
                    said = True
            finally:
                self._hears.clear()
                self._epochs.doubt()
            if not self._closing.is_set():
                select.select([self._woken], [], [], AGAIN_S)

    def _listen(self, connection: Any) -> None:  # noqa: ANN401  # psycopg's, which is an extra
        connection.add_notify_handler(lambda notice: self._heard(notice.payload))
        connection.execute(_SESSION)
        connection.execute(f"LISTEN {CHANNEL}")
        while self._node and not connection.execute(_TAKE_NODE, (f"jitgate node {self._node}",)).fetchone()[0]:
            self._taken.set()
            if self._closing.is_set():
                return
            select.select([self._woken], [], [], AGAIN_S)
        while not self._closing.is_set():
            asked = time.monotonic()
            row = connection.execute("SELECT value FROM meta WHERE name = 'revocation_epoch'").fetchone()
            self._epochs.learn(int(row[0]) if row else 0, asked + FRESH_S)
            self._hears.set()
            select.select([connection.fileno(), self._woken], [], [], BEAT_S)

    def _heard(self, payload: str) -> None:
        with suppress(ValueError):  # anybody may notify; then we ask, as always
            self._epochs.learn(int(payload))
