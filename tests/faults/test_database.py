"""The database server goes away: in an orderly way, as in a crash, between two acts, in the middle of a commit.

Nothing is given meanwhile, callers are told why, and all goes on when it is back, without a restart of the service.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from tests.conformance.stores import append, log, make, said, steps
from tests.faults.load import check, loaded
from tests.postgres import Postgres
from tests.service import Service

from jitgate.adapters.db import postgres as adapter
from jitgate.adapters.db.store import Store, open_store
from jitgate.core.errors import Unreachable
from jitgate.flow.ports import Tx


@pytest.fixture(scope="module")
def server(programs: dict[str, Path]) -> Iterator[Postgres]:
    """One that may be stopped."""
    made = Postgres(programs["initdb"], programs["postgres"])
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def url(server: Postgres) -> Iterator[str]:
    server.stop()
    server.start()
    with server.database() as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    make(url)
    opened = open_store(url)
    yield opened
    opened.close()


def cut(url: str, which: str = "true") -> int:
    """End the connections of a database that `which` holds for, as a proxy or an administrator does; how many."""
    chosen = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {which}"
    with psycopg.connect(url, autocommit=True) as connection:
        here = "datname = current_database()"
        return len(connection.execute(f"{chosen} AND {here}".encode()).fetchall())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # another thread's work
            await asyncio.sleep(0.01)


# --- the service ---


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_service_goes_on_when_the_database_is_back(
    install: Callable[..., Service], server: Postgres, url: str, mode: str
):
    service = install(database=url)
    service.start()
    with loaded(service) as load:
        olga = service.enter("olga", admin=True)
        for _ in range(2):
            load.wait_for_one()
            server.stop(mode)
            ready = olga.get("/readyz")
            assert (ready.status, ready.json["store"]) == (503, "the database is gone")
            assert (olga.get("/livez").status, ready.json["signer"]) == (200, "ok")
            answer = olga.get("/v1/me")
            assert (answer.status, answer.code) == (503, "unreachable"), answer
            assert "127.0.0.1" not in answer.body.decode()
            assert str(server.folder) not in answer.body.decode()
            asked = time.monotonic()
            done = service.jitgate("user", "ls")
            assert (done.returncode, done.stderr.splitlines()[0]) == (8, "jitgate: error: the database is gone")
            assert time.monotonic() - asked < 20
            server.start()
            load.wait_for_one()
            assert olga.get("/readyz").status == 200
        load.stop()
        assert service.stop() == 0
        service.start()  # what was signed meanwhile and could not be written is looked for
        assert service.stop() == 0
        check(load)


def test_a_service_does_not_start_without_its_database(install: Callable[..., Service], server: Postgres, url: str):
    service = install(database=url)
    server.stop()
    with pytest.raises(AssertionError, match="cannot get into the database"):
        service.start()
    done = service.jitgate("user", "ls")
    assert done.returncode == 8
    assert "cannot get into the database" in done.stderr
    assert "Traceback" not in done.stderr
    server.start()
    service.start()
    assert service.stop() == 0


def test_a_service_stops_while_its_database_is_gone(install: Callable[..., Service], server: Postgres, url: str):
    service = install(database=url)
    service.start()
    server.stop()
    assert service.stop() == 8
    said = service.words()
    assert "jitgate: error: the database is gone" in said
    assert "Traceback" not in said.rpartition("stopping")[2]
    server.start()


# --- the store ---


async def test_connections_that_died_while_nobody_used_them_are_replaced(store: Store, url: str):
    for at in range(3):
        await store.write(append(said(f"before {at}")))
        await asyncio.gather(*(store.read(lambda tx: tx.people.all()) for _ in range(4)))
        assert cut(url) >= 3  # a writer, a reader, who listens
        if at:
            await store.write(append(said(f"after {at}")))
        else:
            assert await log(store) == ["before 0"]
    assert await log(store) == ["before 0", "before 1", "after 1", "before 2", "after 2"]


async def test_a_group_whose_connection_dies_is_not_written_and_all_are_told(store: Store, url: str):
    def die(tx: Tx) -> None:
        tx.log.append(said("dying"))
        cut(url, "pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory')")
        tx.people.all()

    jobs = [store.write(job) for job in (append(said("beside")), die, append(said("after")))]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    told = [result for result in results if result is not None]
    assert all(isinstance(each, Unreachable) and each.what == "the database is gone" for each in told), told
    assert results[1] is not None
    written = [reason for reason, result in zip(("beside", "dying", "after"), results, strict=True) if result is None]
    await store.write(append(said("next")))
    assert await log(store) == [*written, "next"]


@pytest.mark.parametrize("when", ["after", "before"])
async def test_a_commit_whose_word_was_lost_is_looked_up(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, when: str
):
    """The connection breaks after the server committed, or just before: callers are told what is so."""
    real = Connection.commit

    def commit(connection: Connection) -> None:
        monkeypatch.undo()
        if when == "after":
            connection.exec_driver_sql("COMMIT")
        cut(url, "query LIKE '%log_state%' OR query = 'COMMIT'")
        real(connection)

    monkeypatch.setattr(Connection, "commit", commit)
    writing = asyncio.ensure_future(store.write(steps(append(said("this")), lambda tx: tx.move_epoch())))
    if when == "after":
        await writing
    else:
        with pytest.raises(Unreachable, match="gone"):
            await writing
    await store.write(append(said("next")))
    assert await log(store) == (["this", "next"] if when == "after" else ["next"])


async def test_a_commit_that_nobody_can_look_up_is_said_so(
    store: Store, server: Postgres, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adapter, "PATIENCE_S", 0.2)
    real = Connection.commit

    def commit(connection: Connection) -> None:
        server.stop("immediate")
        real(connection)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "commit", commit)
        with pytest.raises(Unreachable, match="nobody knows whether it wrote this"):
            await store.write(append(said("perhaps")))
    server.start()
    await store.write(append(said("next")))
    assert (await log(store))[-1] == "next"


async def test_while_nobody_tells_us_nothing_is_recalled(store: Store, server: Postgres, url: str):
    other = open_store(url)
    try:
        look = partial(store.recall, "key", lambda tx: tx.value("fact"))
        await other.write(lambda tx: tx.set_value("fact", "old"))
        await until(lambda: store._epochs.generation() is not None)
        assert [await look() for _ in range(3)] == ["old"] * 3
        await other.write(lambda tx: tx.set_value("fact", "new"))  # an act that takes nothing away
        assert await look() == "old"  # so it is recalled
        server.run(f"ALTER DATABASE {url.split('/')[3].partition('?')[0]} CONNECTION LIMIT 0")
        assert cut(url, "query LIKE '%meta%'") >= 0
        await until(lambda: store._epochs.generation() is None)
        with suppress(Unreachable):  # the limit holds for owners too, unless they are superusers
            assert await look() == "new"
    finally:
        other.close()


async def test_a_server_that_says_nothing_for_a_while_ends_what_is_recalled(store: Store, url: str):
    """As where the network is cut: no error, no answer."""
    await until(lambda: store._epochs.generation() is not None)
    with psycopg.connect(url) as connection:
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%revocation_epoch%'"
        )
        (listening,) = [
            pid for (pid,) in connection.execute(f"{query} AND pid <> pg_backend_pid() AND state = 'idle'").fetchall()
        ]
    os.kill(listening, signal.SIGSTOP)
    try:
        await until(lambda: store._epochs.generation() is None)
        assert await store.recall("key", lambda tx: tx.value("fact")) is None
        await store.write(lambda tx: tx.set_value("fact", "new"))
        assert await store.recall("key", lambda tx: tx.value("fact")) == "new"
    finally:
        os.kill(listening, signal.SIGCONT)
    await until(lambda: store._epochs.generation() is not None)


def wedge(url: str) -> Any:
    """A node that hangs in the middle of a group, with the writers' lock."""
    connection = psycopg.connect(url)
    connection.execute("SET idle_in_transaction_session_timeout = '300ms'")
    connection.execute(f"SELECT pg_advisory_xact_lock({adapter.WRITERS_LOCK})".encode())
    return connection


async def test_a_node_that_hangs_does_not_keep_the_others_from_writing(store: Store, url: str):
    assert "idle_in_transaction_session_timeout" in adapter._SESSION
    connection = wedge(url)
    try:
        await store.write(append(said("in the end")))
        assert await log(store) == ["in the end"]
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1")
    finally:
        connection.close()


async def test_who_waits_too_long_for_the_lock_is_told(url: str, monkeypatch: pytest.MonkeyPatch):
    make(url)
    monkeypatch.setattr(adapter, "_SESSION", adapter._SESSION.replace("lock_timeout = '20s'", "lock_timeout = '200ms'"))
    store = open_store(url)
    with psycopg.connect(url) as connection:
        connection.execute(f"SELECT pg_advisory_xact_lock({adapter.WRITERS_LOCK})".encode())
        with pytest.raises(Unreachable, match="could not write"):
            await store.write(append(said("too late")))
    await store.write(append(said("in time")))
    assert await log(store) == ["in time"]
    store.close()
