"""What only the store in one file has: its mode, its syncs, its schema's steps, other programs beside it."""

import asyncio
import json
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from tests.conformance.stores import Job, append, log, said, steps
from tests.unit.ca.samples import NOW, ORIGIN

from jitgate.adapters.db import tables, writer
from jitgate.adapters.db.migrations.run import upgrade
from jitgate.adapters.db.store import _engine, create_installation, open_read_only, open_store
from jitgate.audit.query import Query
from jitgate.core.errors import Conflict, Error, Unreachable, Unsafe
from jitgate.flow.ports import Tx


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'jitgate.db'}"


def test_the_file_is_its_owners_and_one_that_others_can_read_is_refused(tmp_path: Path):
    create_installation(url(tmp_path), origin=ORIGIN, values={}, now=NOW)
    file = tmp_path / "jitgate.db"
    assert file.stat().st_mode & 0o777 == 0o600
    store = open_store(url(tmp_path))
    try:
        assert {path.name for path in tmp_path.iterdir()} == {"jitgate.db", "jitgate.db-wal", "jitgate.db-shm"}
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    finally:
        store.close()
    for mode in (0o644, 0o640, 0o604, 0o620, 0o601):
        file.chmod(mode)
        with pytest.raises(Unsafe, match="can be read by others"):
            open_store(url(tmp_path))
        with pytest.raises(Unsafe), open_read_only(url(tmp_path)):
            pass


def test_every_commit_is_on_the_disk(tmp_path: Path):
    create_installation(url(tmp_path), origin=ORIGIN, values={}, now=NOW)
    store = open_store(url(tmp_path))
    try:
        for engine, query_only in ((store._writing, 0), (store._reading, 1)):
            with engine.connect() as connection:
                wanted = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "query_only": query_only}
                for name, value in (wanted | {"trusted_schema": 0}).items():
                    assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value, name
    finally:
        store.close()


def test_the_schema_is_what_the_steps_make(tmp_path: Path):
    """And a second `upgrade` changes nothing."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  # for this one
    from alembic.migration import MigrationContext  # noqa: PLC0415

    engine = _engine(url(tmp_path), make=True)
    for _ in range(2):
        upgrade(engine)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    engine.dispose()


def test_each_table_that_belongs_to_a_realm_says_so():
    without = {"realm", "meta", "serial_counter", "throttle", "used_proof", "log_state", "checkpoint", "event"}
    assert {name for name, table in tables.metadata.tables.items() if "realm_id" not in table.c} == without
    assert "realm" in tables.event.c


def test_an_installation_is_made_once(tmp_path: Path):
    create_installation(url(tmp_path), origin=ORIGIN, values={}, now=NOW)
    with pytest.raises(Conflict, match="holds an installation"):
        create_installation(url(tmp_path), origin="other.example/log", values={}, now=NOW)
    with open_read_only(url(tmp_path)) as tx:
        assert tx.log.origin() == ORIGIN


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_looking_at_what_is_no_database_of_ours_says_so_and_makes_nothing(tmp_path: Path, content: bytes | None):
    file = tmp_path / "jitgate.db"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    with pytest.raises(Error), open_read_only(url(tmp_path)) as tx:
        list(tx.log.entries())
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if content is None else ["jitgate.db"])
    assert content is None or file.read_bytes() == content


@pytest.mark.parametrize("text", ["sqlite://", "sqlite:///", "mysql://x/y", "nonsense", ""])
def test_another_database_is_refused_with_a_word(text: str):
    with pytest.raises(Error):
        open_store(text)


def test_the_limits_are_what_the_design_says():
    assert (writer.GROUP_MAX, writer.WAITING_MAX) == (256, 10_000)


def test_a_database_in_use_by_another_program_is_waited_for(tmp_path: Path):
    """A backup tool holds a lock for a moment: the write comes later, and is not lost."""
    create_installation(url(tmp_path), origin=ORIGIN, values={}, now=NOW)

    async def run() -> None:
        store = open_store(url(tmp_path))
        try:
            locked = sqlite3.connect(tmp_path / "jitgate.db", isolation_level=None)
            locked.execute("BEGIN IMMEDIATE")
            writing = asyncio.ensure_future(store.write(append(said("later"))))
            await asyncio.sleep(0.05)
            assert not writing.done()
            locked.execute("COMMIT")
            locked.close()
            await writing
            assert await log(store) == ["later"]
        finally:
            store.close()

    asyncio.run(run())


def test_the_log_row_says_what_its_leaf_says(tmp_path: Path):
    create_installation(url(tmp_path), origin=ORIGIN, values={}, now=NOW)

    async def run() -> None:
        store = open_store(url(tmp_path))
        try:
            await store.write(append(said("a reason")))
            ((columns, leaf, personal),) = await store.read(lambda tx: tx.log.search(Query()))
            body = json.loads(leaf)
            assert (body["id"], body["time"], body["type"]) == (columns.id, columns.time, columns.type)
            assert b"a reason" not in leaf
            assert personal.endswith(" reason a reason")
        finally:
            store.close()

    asyncio.run(run())


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 1000])
def test_no_database_is_made_by_opening_one(tmp_path: Path, content: bytes | None):
    """A service whose file is gone must say so: an empty one would have no revocations and no log."""
    file = tmp_path / "jitgate.db"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    with pytest.raises(Error):
        open_store(url(tmp_path))
    assert file.exists() == (content is not None)


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path: Path):
    """And once there is room again, all goes on."""
    create_installation(url(tmp_path), origin=ORIGIN, values={}, now=NOW)

    async def run() -> None:
        store = open_store(url(tmp_path))
        try:

            def room(pages: int) -> Job:
                return lambda tx: tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar()  # type: ignore[attr-defined]  # the store's own

            def job(at: int) -> Job:
                return steps(append(said(f"p{at}")), lambda tx: tx.set_value(f"p{at}", "x" * 2000))

            await store.write(append(said("before")))
            await store.write(room(1))  # what it has now
            results = await asyncio.gather(*(store.write(job(at)) for at in range(200)), return_exceptions=True)
            failed = [result for result in results if result is not None]
            assert failed
            assert all(isinstance(each, Unreachable) and "disk is full" in each.hint for each in failed)
            await store.write(room(100_000))
            await store.write(append(said("after")))
            written = [f"p{at}" for at, result in enumerate(results) if result is None]
            assert await log(store) == ["before", *written, "after"]
            kept = [f"p{at}" for at in range(200) if await store.read(partial(value, f"p{at}"))]
            assert kept == written
        finally:
            store.close()

    asyncio.run(run())


def value(name: str, tx: Tx) -> str | None:
    return tx.value(name)
