"""One writer: a thread that takes all jobs that wait, and commits them with one sync.

If one of them fails, the group is begun again and each gets a savepoint: so a job may run twice, the first time
without trace, and changes nothing but its transaction.

A group commit makes "durable before the answer" cheap: while one sync runs, the next group gathers. It also makes
the database's order of acts one order, which the log's index and the revocation epoch rely on.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from jitgate.adapters.db import postgres
from jitgate.adapters.db.epochs import Epochs
from jitgate.adapters.db.failures import FAILURES, failed, unheld, unknown
from jitgate.adapters.db.prepared import Prepared
from jitgate.adapters.db.transaction import Transaction
from jitgate.core.errors import Unreachable
from jitgate.core.ids import Random

T = TypeVar("T")
_LOG = logging.getLogger("jitgate.db")

_SAVE, _BACK, _RELEASE = (
    Prepared(text(f"{word} job")) for word in ("SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT")
)
GROUP_MAX = 256  # jobs in one commit: beyond it the sync is no longer what costs
WAITING_MAX = 10_000  # jobs that may wait; more means that the disk has stopped, and the caller is told so


@dataclass(slots=True)
class _Waiting(Generic[T]):
    job: Callable[[Transaction], T]
    done: asyncio.Future[T]
    loop: asyncio.AbstractEventLoop
    result: T | None = None
    error: BaseException | None = None


class Writer:
    def __init__(self, engine: Engine, epochs: Epochs, random: Random) -> None:
        """`epochs` learns the revocation epoch of each commit before its callers go on."""
        self._engine = engine
        self._epochs = epochs
        self._random = random
        self._queue: queue.SimpleQueue[_Waiting[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jitgate-writer")
        self._thread.start()

    async def submit(self, job: Callable[[Transaction], T]) -> T:
        """Run `job` in a group; its result once that is durable, or what it raised (then nothing of it is kept)."""
        if not self._thread.is_alive():
            raise Unreachable("the database is closed")
        loop = asyncio.get_running_loop()
        waiting: _Waiting[T] = _Waiting(job, loop.create_future(), loop)
        if self._queue.qsize() >= WAITING_MAX:
            raise Unreachable("the database does not keep up", "look at the disk; try again")
        self._queue.put(waiting)
        # Shielded: a caller that goes away does not undo what is being written.
        return await asyncio.shield(waiting.done)

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._gather()
            if group:
                self._commit(group)
                _deliver(group)

    def _gather(self) -> tuple[list[_Waiting[Any]], bool]:
        group: list[_Waiting[Any]] = []
        first = self._queue.get()
        while first is not None:
            group.append(first)
            if len(group) == GROUP_MAX:
                return group, True
            try:
                first = self._queue.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _commit(self, group: list[_Waiting[Any]]) -> None:
        try:
            with closing(self._begin()) as connection:
                epoch = self._fill(connection, group)
                transaction = connection.info.get(postgres.TRANSACTION)
                try:
                    connection.commit()
                except DBAPIError as error:
                    self._look_up(transaction, error)
            self._epochs.learn(epoch)
        except Exception as error:  # noqa: BLE001  # whatever it was, nothing of the group is kept and all are told
            _LOG.error(
                "nothing of %d jobs was written: %s", len(group), error, exc_info=not isinstance(error, FAILURES)
            )
            problem = error if isinstance(error, Unreachable) else failed(error)
            for waiting in group:
                waiting.error = waiting.error or problem

    def _begin(self) -> Connection:
        """A connection with its transaction begun. One that died while nobody used it is replaced, once."""
        connection = self._engine.connect()
        try:
            connection.begin()
        except DBAPIError as error:
            connection.close()
            if not error.connection_invalidated:
                raise
            connection = self._engine.connect()
            connection.begin()
        return connection

    def _fill(self, connection: Connection, group: list[_Waiting[Any]]) -> int:
        """All jobs and their events; the epoch then. If any job fails, all begin again, each with a savepoint."""
        try:
            return self._together(connection, group)
        except Exception:  # noqa: BLE001  # whose it is and what to tell them, the second time shows
            connection.rollback()
            connection.begin()
            return self._each(connection, group)

    def _together(self, connection: Connection, group: list[_Waiting[Any]]) -> int:
        transaction = Transaction(connection)
        for waiting in group:
            waiting.result = waiting.job(transaction)
        return self._finish(transaction)

    def _each(self, connection: Connection, group: list[_Waiting[Any]]) -> int:
        transaction = Transaction(connection)
        for waiting in group:
            self._run_job(connection, transaction, waiting)
        return self._finish(transaction)

    def _finish(self, transaction: Transaction) -> int:
        transaction.certificates.write_pending()
        transaction.log.write_pending(self._random)
        return transaction.epoch()

    def _look_up(self, transaction: str | None, error: DBAPIError) -> None:
        """A commit failed. Returns if it was made all the same: then only the word of it was lost."""
        made = postgres.was_committed(self._engine, transaction) if transaction is not None else False
        if made is None:
            raise unknown(error) from error
        if not made:
            raise error
        _LOG.warning("the connection broke at a commit, which was made: %s", error.orig)

    @staticmethod
    def _run_job(connection: Connection, transaction: Transaction, waiting: _Waiting[Any]) -> None:
        before = transaction.log.mark()
        _SAVE.run(connection)
        try:
            waiting.result = waiting.job(transaction)
            transaction.certificates.write_pending()  # within the savepoint
        except Exception as error:  # noqa: BLE001  # handed to the caller whose job it was
            try:
                _BACK.run(connection)
            except SQLAlchemyError:  # such an error (a full disk, a server that is gone) has undone the whole group
                raise error from None
            transaction.log.back_to(before)
            transaction.certificates.forget_pending()
            transaction.forget_epoch()
            waiting.error = _told(error)
        _RELEASE.run(connection)


def _told(error: Exception) -> Exception:
    """What the caller is told whose job raised."""
    if isinstance(error, DataError):
        return unheld()
    return failed(error) if isinstance(error, FAILURES) else error


def _deliver(group: list[_Waiting[Any]]) -> None:
    """One wake-up a loop, not one a job."""
    for loop in {waiting.loop for waiting in group}:
        mine = [waiting for waiting in group if waiting.loop is loop]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(group: list[_Waiting[Any]]) -> None:
    for waiting in group:
        if waiting.done.cancelled():
            continue
        if waiting.error is not None:
            waiting.done.set_exception(waiting.error)
        else:
            waiting.done.set_result(waiting.result)
