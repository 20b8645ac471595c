"""Brief jobs of a database in a file run on the event loop, and nothing holds the loop up all the same."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.stores import add, an_id, append, log, make, person, said

from jitgate.adapters.db.store import Store, open_store
from jitgate.core.errors import NotFound
from jitgate.flow.ports import Tx


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'jitgate.db'}"
    make(url)
    opened = open_store(url)
    yield opened
    opened.close()


def thread(_tx: Tx) -> int:
    return threading.get_ident()


async def test_a_group_of_brief_jobs_runs_on_the_loop(store: Store):
    ran = await asyncio.gather(*(store.write(thread, brief=True) for _ in range(5)))
    assert set(ran) == {threading.get_ident()}


async def test_a_group_with_another_job_runs_beside_it(store: Store):
    ran = await asyncio.gather(*(store.write(thread, brief=at != 3) for at in range(5)))
    assert len(set(ran)) == 1
    assert threading.get_ident() not in ran


async def test_one_that_fails_leaves_nothing_and_its_neighbours_stay(store: Store):
    def fails(tx: Tx) -> None:
        tx.log.append(said("lost"))
        add(tx, person("ann"))
        raise NotFound("no")

    jobs = [store.write(append(said(f"{at}")), brief=True) for at in range(3)]
    *good, bad = await asyncio.gather(*jobs, store.write(fails, brief=True), return_exceptions=True)
    assert good == [None] * 3
    assert isinstance(bad, NotFound)
    assert await log(store) == ["0", "1", "2"]
    assert await store.read(lambda tx: tx.people.all()) == []


async def test_what_is_answered_is_on_the_disk_and_read(store: Store):
    await store.write(lambda tx: tx.set_value("fact", "old"))
    assert await store.recall("key", lambda tx: tx.value("fact")) == "old"

    def take_away(tx: Tx) -> None:
        tx.set_value("fact", "new")
        tx.move_epoch()

    await store.write(take_away, brief=True)
    assert await store.recall("key", lambda tx: tx.value("fact")) == "new"


async def test_many_at_once_are_one_order(store: Store):
    await asyncio.gather(*(store.write(append(said(f"{at}")), brief=at % 7 > 0) for at in range(600)))
    assert await log(store) == [f"{at}" for at in range(600)]


async def test_a_file_that_another_program_has_locked_holds_up_no_loop(store: Store, tmp_path: Path):
    locked = sqlite3.connect(tmp_path / "jitgate.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.write(append(said("later")), brief=True))
    began = time.monotonic()
    await asyncio.sleep(0.05)
    assert time.monotonic() - began < 1
    assert not writing.done()
    locked.execute("COMMIT")
    locked.close()
    await writing
    assert await log(store) == ["later"]


async def test_a_sync_that_hangs_holds_up_no_loop(store: Store, monkeypatch: pytest.MonkeyPatch):
    from sqlalchemy import Connection  # noqa: PLC0415  # of this test alone

    go, real = threading.Event(), Connection.commit

    def hanging(connection: Connection) -> None:
        assert go.wait(20)
        real(connection)

    monkeypatch.setattr(Connection, "commit", hanging)
    writing = asyncio.ensure_future(store.write(append(said("kept")), brief=True))
    await asyncio.sleep(0.05)
    assert not writing.done()
    go.set()
    await writing
    assert await log(store) == ["kept"]


async def test_closing_finishes_what_waits(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'jitgate.db'}"
    make(url)
    store = open_store(url)
    jobs = [asyncio.ensure_future(store.write(append(said(an_id())), brief=True)) for _ in range(500)]
    await asyncio.sleep(0)
    store.close()
    await asyncio.gather(*jobs)
    again = open_store(url)
    assert len(await log(again)) == 500
    again.close()
