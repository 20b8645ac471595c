"""One writer: all jobs that wait are a group, in one transaction, committed with one sync.

If one of them fails, the group is begun again and each gets a savepoint: so a job may run twice, the first time
without trace, and changes nothing but its transaction.

A group commit makes "durable before the answer" cheap: while one sync runs, the next group gathers. It also makes
the database's order of acts one order, which the log's index and the revocation epoch rely on.

A thread of its own runs the jobs and commits, so that no disk and no server holds up the event loop. Only a group of
brief jobs is run on the loop itself where the database is a file: two threads that both run Python take turns at the
interpreter, and at each statement of the one the other goes first. The commit is the thread's always.
"""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from jitgate.adapters.db import postgres, sqlite
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
    brief: bool
    result: T | None = None
    error: BaseException | None = None


_Group = list[_Waiting[Any]]
_Filled = tuple[Connection, int]
"""With all jobs and their events in it, not committed; and the revocation epoch then."""


class Writer:
    def __init__(self, engine: Engine, epochs: Epochs, random: Random) -> None:
        """`epochs` learns the revocation epoch of each commit before its callers go on."""
        self._engine = engine
        self._epochs = epochs
        self._random = random
        self._in_file = engine.dialect.name == "sqlite"
        self._waiting: deque[_Waiting[Any]] = deque()
        self._lock = threading.Lock()  # of the two below
        self._busy = False  # somebody takes the next group: a callback on a loop, or the thread
        self._closed = False
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jitgate-writer")
        self._thread.start()

    async def submit(self, job: Callable[[Transaction], T], *, brief: bool = False) -> T:
        """Run `job` in a group; its result once that is durable, or what it raised (then nothing of it is kept).

        A caller that goes away does not undo what is being written. `brief`: takes well under a millisecond.
        """
        loop = asyncio.get_running_loop()
        waiting: _Waiting[T] = _Waiting(job, loop.create_future(), loop, brief)
        with self._lock:
            if self._closed:
                raise Unreachable("the database is closed")
            if len(self._waiting) >= WAITING_MAX:
                raise Unreachable("the database does not keep up", "look at the disk; try again")
            self._waiting.append(waiting)
            begin, self._busy = not self._busy, True
        if begin:
            loop.call_soon(self._next, loop)  # with what else comes in this turn of the loop
        return await waiting.done

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._lock:
            self._closed = True
        self._acts.put(None)
        self._thread.join()
        self._write_all()  # what came while the thread was at its last group

    def _run(self) -> None:
        while (act := self._acts.get()) is not None:
            act()

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the loop: begin with the next group, if there is one. When it is done, this is called again."""
        group = self._gather()
        if group:
            filled = self._fill_here(group, loop)
            self._acts.put(lambda: self._finish_group(group, filled, loop))

    def _gather(self) -> _Group:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
            self._busy = bool(group)
        return group

    def _fill_here(self, group: _Group, loop: asyncio.AbstractEventLoop) -> _Filled | None:
        """All brief jobs of a group at once. None, and nothing done, where the thread had better do it."""
        if not self._in_file or not all(waiting.brief and waiting.loop is loop for waiting in group):
            return None
        connection = self._engine.connect()
        try:
            with sqlite.impatient(connection):
                connection.begin()
            return connection, self._together(connection, group)
        except Exception:  # noqa: BLE001  # the thread tries again, and says whose it is
            connection.close()
            return None

    def _finish_group(self, group: _Group, filled: _Filled | None, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        self._commit(group, filled)
        _deliver([waiting for waiting in group if waiting.loop is not loop])
        try:
            loop.call_soon_threadsafe(self._resolve_and_go_on, [w for w in group if w.loop is loop], loop)
        except RuntimeError:  # the loop is closed, and nobody there waits any more; others may
            self._write_all()

    def _resolve_and_go_on(self, group: _Group, loop: asyncio.AbstractEventLoop) -> None:
        _resolve(group)
        self._next(loop)

    def _write_all(self) -> None:
        while group := self._gather():
            self._commit(group, None)
            _deliver(group)

    def _commit(self, group: _Group, filled: _Filled | None) -> None:
        """The group, filled already or not. Whatever happens, each of it has a result or an error then."""
        try:
            connection, epoch = filled or (self._begin(), None)
            with closing(connection):
                if epoch is None:
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

    def _fill(self, connection: Connection, group: _Group) -> int:
        """All jobs and their events; the epoch then. If any job fails, all begin again, each with a savepoint."""
        try:
            return self._together(connection, group)
        except Exception:  # noqa: BLE001  # whose it is and what to tell them, the second time shows
            connection.rollback()
            connection.begin()
            return self._each(connection, group)

    def _together(self, connection: Connection, group: _Group) -> int:
        transaction = Transaction(connection)
        for waiting in group:
            waiting.result = waiting.job(transaction)
        return self._finish(transaction)

    def _each(self, connection: Connection, group: _Group) -> int:
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


def _deliver(group: _Group) -> None:
    """One wake-up a loop, not one a job."""
    for loop in {waiting.loop for waiting in group}:
        mine = [waiting for waiting in group if waiting.loop is loop]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(group: _Group) -> None:
    for waiting in group:
        if waiting.done.cancelled():
            continue
        if waiting.error is not None:
            waiting.done.set_exception(waiting.error)
        else:
            waiting.done.set_result(waiting.result)
