"""What only the store on a server has: one order for all nodes, what it sets whatever the server's defaults, roles."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from tests.conformance.stores import append, apply, log, make, said, steps
from tests.postgres import Postgres
from tests.unit.ca.samples import NOW, ORIGIN

from jitgate.adapters.db import roles, tables
from jitgate.adapters.db.migrations.run import upgrade
from jitgate.adapters.db.store import (
    Store,
    _engine,
    apply_roles,
    check_empty,
    create_installation,
    open_read_only,
    open_store,
    upgrade_schema,
)
from jitgate.core.errors import BadInput, Conflict, Error, Unreachable
from jitgate.flow.ports import Tx


@pytest.fixture
def url(postgres: Postgres, empty_template: str) -> Iterator[str]:
    with postgres.database(empty_template) as made:
        yield made


@pytest.fixture
def nodes(postgres: Postgres, url: str) -> Iterator[tuple[Store, Store]]:
    """One by the Unix socket, one by TCP."""
    both = open_store(url), open_store(postgres.url(url.split("/")[3].partition("?")[0], tcp=True))
    yield both
    for store in both:
        store.close()


def as_user(url: str, name: str) -> str:
    return url.replace("owner@", f"{name}@", 1)


def asked(url: str, *statements: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


# --- several nodes ---


async def test_groups_of_all_nodes_are_one_order(nodes: tuple[Store, Store]):
    """State and log alike: each job reads what the one before it wrote, whoever wrote it."""

    def job(name: str, tx: Tx) -> int:
        count = int(tx.value("count") or 0) + 1
        tx.set_value("count", str(count))
        tx.log.append(said(f"{name} {count}"))
        return count

    jobs = [store.write(partial(job, name)) for _ in range(60) for name, store in zip("ab", nodes, strict=True)]
    counts = await asyncio.gather(*jobs)
    assert sorted(counts) == list(range(1, 121))
    reasons = await log(nodes[0])
    assert [int(reason[2:]) for reason in reasons] == list(range(1, 121))
    for name in "ab":  # each node's own stay in the order they came
        mine = [int(reason[2:]) for reason in reasons if reason[0] == name]
        assert mine == sorted(mine)


async def test_what_another_node_took_away_is_not_recalled(nodes: tuple[Store, Store]):
    here, there = nodes
    await there.write(lambda tx: tx.set_value("fact", "old"))
    look = partial(here.recall, "key", lambda tx: tx.value("fact"))
    assert await look() == "old"
    await there.write(steps(lambda tx: tx.set_value("fact", "new"), lambda tx: tx.move_epoch()))
    async with asyncio.timeout(10):
        while await look() != "new":  # noqa: ASYNC110  # another thread's work
            await asyncio.sleep(0)


async def test_a_commit_compares_the_epoch_of_now_however_late_it_is_told(nodes: tuple[Store, Store]):
    """The word of another node's loss may be on its way. Inside the lock nothing is."""
    here, there = nodes
    assert here._listener is not None
    here._listener.close()
    here._epochs.learn(0, float("inf"))  # as if it had heard of nothing, for ever
    known = await here.recall("epoch", lambda tx: tx.epoch())
    await there.write(lambda tx: tx.move_epoch())
    assert await here.recall("epoch", lambda tx: tx.epoch()) == known  # a fact of before
    assert await here.write(lambda tx: tx.epoch()) == known + 1


async def test_an_epoch_that_was_not_kept_is_not_told(nodes: tuple[Store, Store]):
    here, there = nodes

    def take_away(tx: Tx) -> None:
        tx.move_epoch()
        raise Conflict("changed my mind")

    generation = here._epochs.generation()
    with pytest.raises(Conflict):
        await there.write(take_away)
    await there.write(append(said("next")))
    await asyncio.sleep(0.05)
    assert here._epochs.generation() == generation


async def test_nonsense_on_the_channel_is_nothing(nodes: tuple[Store, Store], url: str):
    generation = nodes[0]._epochs.generation()
    asked(url, "NOTIFY jitgate_epoch", "NOTIFY jitgate_epoch, 'x'", "NOTIFY jitgate_epoch, '0'")
    await nodes[0].write(append(said("on")))
    assert nodes[0]._epochs.generation() == generation


async def test_a_lease_is_one_nodes_until_it_ends(nodes: tuple[Store, Store]):
    await nodes[0].write(lambda tx: tx.nodes.take("work", "first", NOW + 5))

    def may(node: str, now: int) -> Callable[[Tx], bool]:
        return lambda tx: tx.nodes.may_take("work", node, now, 5)

    for node, now, may_take in (
        ("first", NOW, True),
        ("second", NOW, False),
        ("second", NOW + 4, False),
        ("second", NOW + 5, True),
        ("second", NOW - 1, True),  # it ends later than any lease can: the holder's clock was wrong
    ):
        assert await nodes[1].read(may(node, now)) is may_take, (node, now)


# --- what is set, whatever the server's defaults are ---


async def test_transactions_are_what_the_lock_needs(postgres: Postgres, url: str):
    name = url.split("/")[3].partition("?")[0]
    for setting in ("default_transaction_isolation = serializable", "synchronous_commit = off"):
        postgres.run(f"ALTER DATABASE {name} SET {setting}")
    store = open_store(url)

    def settings(tx: Any) -> tuple[str, ...]:
        names = ("transaction_isolation", "transaction_read_only", "synchronous_commit")
        return tuple(tx.connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names)

    try:
        assert await store.write(settings) == ("read committed", "off", "on")
        assert await store.read(settings) == ("repeatable read", "on", "on")
    finally:
        store.close()


def test_the_schema_is_what_the_steps_make(postgres: Postgres):
    """And two nodes that start at once make it once."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  # for this one
    from alembic.migration import MigrationContext  # noqa: PLC0415

    async def at_once(url: str) -> None:
        await asyncio.gather(*(asyncio.to_thread(upgrade_schema, url) for _ in range(3)))

    with postgres.database() as url:
        asked(url, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")  # of before the first step
        asyncio.run(at_once(url))
        engine = _engine(url)
        upgrade(engine)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
        engine.dispose()


# --- what is no database of ours ---


def test_an_installation_is_made_once_and_only_where_nothing_is(postgres: Postgres, url: str):
    with pytest.raises(Conflict, match="holds an installation already"):
        create_installation(url, origin="other.example/log", values={}, now=NOW)
    with pytest.raises(Conflict, match="holds an installation already"):
        check_empty(url)
    with open_read_only(url) as tx:
        assert tx.log.origin() == ORIGIN
    with postgres.database() as other:
        check_empty(other)
        asked(other, "CREATE TABLE theirs (id int)")
        with pytest.raises(Conflict, match="is not empty"):
            check_empty(other)


def test_what_is_not_there_is_said(postgres: Postgres, url: str):
    for wrong, kind in (
        (postgres.url("nothing"), Unreachable),
        (f"postgresql://owner@127.0.0.1:1/{url.split('/')[3].partition('?')[0]}", Unreachable),
        ("postgresql://owner@/x?host=/nowhere", Unreachable),
    ):
        for act in (open_store, check_empty, upgrade_schema):
            with pytest.raises(kind, match="cannot get into the database"):
                act(wrong)
    with postgres.database() as empty:
        for act in (open_store, upgrade_schema):
            with pytest.raises(BadInput, match="holds no installation"):
                act(empty)
        check_empty(empty)  # nothing was made in what may be somebody else's


def test_texts_in_another_encoding_are_refused(postgres: Postgres):
    postgres.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(BadInput, match="encoding is LATIN1"):
            make(postgres.url("latin"))
    finally:
        postgres.drop("latin")


# --- roles ---


@pytest.fixture
def users(url: str, postgres: Postgres) -> dict[str, str]:
    """By role: the URL of a user who has it and nothing else."""
    apply_roles(url, "jitgate")
    found = {}
    for role in roles.ROLES:
        name = f"some_{role}"
        postgres.run(
            f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
            f"GRANT jitgate_{role} TO {name}"
        )
        found[role] = as_user(url, name)
    return found


WRITE_A_GRANT = (
    "INSERT INTO access_grant (id, realm_id, person_id, role, policy_digest, terms, reason, opened_at, ends_at,"
    " end_reason) VALUES ('x', 'default', 'x', 'x', 'x', '{}', '', 0, 0, '')"
)
MAY_NOT: tuple[tuple[str, str], ...] = (
    # Nobody changes or removes what is in the log.
    *(
        (role, statement)
        for role in ("api", "gateway", "auditor", "eraser")
        for statement in (
            "DELETE FROM event",
            "TRUNCATE event",
            "DROP TABLE event",
            "UPDATE event SET leaf = ''",
            'UPDATE event SET "index" = 7',
            "DELETE FROM checkpoint",
            "UPDATE checkpoint SET text = ''",
            "ALTER TABLE event DISABLE TRIGGER ALL",
            "CREATE TABLE mine (id int)",
            "UPDATE access_grant SET ends_at = ends_at + 1",
            "UPDATE certificate SET valid_before = 0",
            "UPDATE policy SET files = ''",
            "UPDATE person SET admin = true",
            "DELETE FROM person_key",
        )
    ),
    *((role, "UPDATE event SET personal = ''") for role in ("api", "gateway", "auditor")),
    *(
        ("gateway", statement)
        for statement in (
            WRITE_A_GRANT,
            "UPDATE access_grant SET ended_at = NULL",
            "INSERT INTO certificate SELECT * FROM certificate",
            "INSERT INTO person_key SELECT * FROM person_key",
            "UPDATE person_key SET removed_at = NULL",
            "UPDATE person SET disabled_at = NULL",
            "UPDATE sign_in SET ended_at = NULL",
            "INSERT INTO policy SELECT * FROM policy",
            "UPDATE meta SET value = ''",
            "SELECT * FROM credential",
            "UPDATE serial_counter SET next = 1",
            "INSERT INTO ca_key SELECT * FROM ca_key",
        )
    ),
    *(
        ("auditor", statement)
        for statement in ("SELECT * FROM credential", "SELECT * FROM sign_in", "INSERT INTO event SELECT * FROM event")
    ),
    *(("eraser", statement) for statement in ("SELECT leaf FROM event", "SELECT personal FROM event", WRITE_A_GRANT)),
)


def test_what_a_role_may_not_do_the_server_refuses(users: dict[str, str]):
    for role, statement in MAY_NOT:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            asked(users[role], statement)


def test_what_a_role_is_for_it_may_do(users: dict[str, str]):
    async def write(tx_url: str, *jobs: Callable[[Tx], object]) -> None:
        store = open_store(tx_url)
        try:
            for job in jobs:
                await store.write(job)
        finally:
            store.close()

    async def run() -> None:
        await write(users["api"], append(said("by the api")), partial(apply, "a", NOW), lambda tx: tx.move_epoch())
        seen = lambda tx: tx.nodes.seen("gateway", "web", NOW)  # noqa: E731  # one job of a list
        await write(users["gateway"], append(said("by the gateway")), seen, seen)

    asyncio.run(run())
    asked(users["eraser"], "UPDATE event SET personal = '' WHERE \"index\" = 0")
    with open_read_only(users["auditor"]) as tx:
        found = [personal.rpartition(" reason ")[2] for _, _, personal in tx.log.entries()]
        assert tx.log.checkpoints() == []
    assert found == ["", "by the gateway"]


def test_what_may_change_is_named_by_columns_that_there_are():
    for table, columns in roles._CHANGES.items():
        assert set(columns.split()) <= set(tables.metadata.tables[table].c.keys()), table
    never = {"event", "checkpoint", "certificate", "policy", "grant_target", "realm"}
    assert not never & (roles._CHANGES.keys() | roles._REMOVED)


def test_who_does_not_own_the_tables_is_told_who_may_upgrade_them(users: dict[str, str], url: str):
    asked(url, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(BadInput, match="may not do that") as caught:
        open_store(users["api"])
    assert "jitgate db upgrade" in caught.value.hint


def test_roles_are_for_servers(tmp_path: Any):
    with pytest.raises(Error, match="no roles"):
        apply_roles(f"sqlite:///{tmp_path}/x.db", "jitgate")
