"""What every store does, whatever database is under it: one order of acts, all or nothing, durable before the answer.

Written against the port (`flow.ports.Store`, `Tx`). A further store is one more `Opened` in `STORES`.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.conformance.stores import (
    Held,
    Opened,
    add,
    an_id,
    append,
    key,
    log,
    person,
    said,
    steps,
)

from jitgate.adapters.db import writer
from jitgate.adapters.db.store import Store
from jitgate.core.errors import NotFound, Unreachable
from jitgate.flow.ports import Tx

# --- groups ---


async def test_a_job_that_fails_leaves_nothing_and_its_neighbours_stay(store: Store):
    """Twenty jobs in one commit, every third of which fails after it has written state and event."""

    def job(at: int) -> Callable[[Tx], int]:
        def write(tx: Tx) -> int:
            tx.log.append(said(f"job {at}"))
            add(tx, person(f"p{at}"))
            if at % 3 == 0:
                raise NotFound(f"job {at}")
            return at

        return write

    async with Held(store):
        jobs = [asyncio.ensure_future(store.write(job(at))) for at in range(20)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*jobs, return_exceptions=True)
    good = [at for at in range(20) if at % 3]
    assert [result for result in results if isinstance(result, int)] == good
    assert [result.what for result in results if isinstance(result, NotFound)] == [
        f"job {at}" for at in range(0, 20, 3)
    ]
    assert await log(store) == [f"job {at}" for at in good]
    assert {each.name for each in await store.read(lambda tx: tx.people.all())} == {f"p{at}" for at in good}


async def test_any_error_undoes_its_job_and_no_other(store: Store):
    def broken_rule(tx: Tx) -> None:
        tx.log.append(said("broken"))
        ann = add(tx, person("ann"))
        tx.keys.add(key(ann))
        tx.keys.add(replace(key(ann), id=an_id()))  # the same key again

    def crash(tx: Tx) -> None:
        tx.log.append(said("crash"))
        raise ZeroDivisionError

    async with Held(store):
        jobs = [asyncio.ensure_future(store.write(job)) for job in (broken_rule, crash, append(said("good")))]
        await asyncio.sleep(0)
    first, second, third = await asyncio.gather(*jobs, return_exceptions=True)
    assert "IntegrityError" in type(first).__name__
    assert isinstance(second, ZeroDivisionError)
    assert third is None
    assert await log(store) == ["good"]
    assert await store.read(lambda tx: tx.people.all()) == []


async def test_jobs_run_in_the_order_they_came_and_see_what_came_before(store: Store):
    seen: list[int] = []

    def job(tx: Tx) -> None:
        seen.append(len(tx.people.all()))
        add(tx, person(f"p{len(seen)}"))
        tx.log.append(said(f"{len(seen)}"))

    await asyncio.gather(*(store.write(job) for _ in range(300)))  # more than a group takes
    assert seen == list(range(300))
    assert await log(store) == [f"{at}" for at in range(1, 301)]


async def test_what_is_being_written_is_not_read_yet(store: Store):
    async with Held(store):
        writing = asyncio.ensure_future(store.write(lambda tx: add(tx, person("ann"))))
        await asyncio.sleep(0)
        assert await store.read(lambda tx: tx.people.all()) == []
    await writing
    assert len(await store.read(lambda tx: tx.people.all())) == 1


async def test_an_answer_is_given_for_what_another_process_would_find(opened: Opened):
    await opened.store.write(lambda tx: add(tx, person("ann")))
    assert [each.name for each in await opened.again().read(lambda tx: tx.people.all())] == ["ann"]


async def test_a_group_that_cannot_be_committed_fails_for_all_and_the_next_one_works(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    from jitgate.adapters.db.log import Log  # noqa: PLC0415  # of this store

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "write_pending", full)
        jobs = [store.write(append(said("lost"))) for _ in range(3)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [Unreachable] * 3
    await store.write(append(said("kept")))
    assert await log(store) == ["kept"]


async def test_a_caller_that_goes_away_undoes_nothing(store: Store):
    async with Held(store):
        leaving = asyncio.ensure_future(store.write(append(said("left"))))
        failing = asyncio.ensure_future(store.write(lambda tx: tx.authorities.take_serials("nobody", 1)))
        await asyncio.sleep(0)
        leaving.cancel()
        failing.cancel()
    await store.write(append(said("next")))
    assert leaving.cancelled()
    assert await log(store) == ["left", "next"]


async def test_too_many_that_wait_are_turned_away_at_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    assert writer.WAITING_MAX == 10_000
    monkeypatch.setattr(writer, "WAITING_MAX", 50)
    async with Held(store):
        jobs = [asyncio.ensure_future(store.write(append(said("in")))) for _ in range(60)]
        await asyncio.sleep(0)
        turned_away = [job for job in jobs if job.done()]
        assert len(turned_away) == 10
        assert all(isinstance(job.exception(), Unreachable) for job in turned_away)
    await asyncio.gather(*jobs, return_exceptions=True)
    assert await log(store) == ["in"] * 50


async def test_closing_finishes_what_waits_and_takes_no_more(opened: Opened):
    store = opened.again()
    jobs = [asyncio.ensure_future(store.write(append(said("in")))) for _ in range(500)]
    await asyncio.sleep(0)
    store.close()
    await asyncio.gather(*jobs)
    assert await log(opened.store) == ["in"] * 500
    with pytest.raises(Unreachable):
        await store.write(append(said("late")))


async def test_readers_are_many_and_change_nothing(store: Store):
    with pytest.raises(Unreachable, match="could not read"):
        await store.read(lambda tx: add(tx, person("ann")))
    barrier = threading.Barrier(3, timeout=20)

    def together(tx: Tx) -> int:
        barrier.wait()
        return len(tx.people.all())

    assert await asyncio.gather(*(store.read(together) for _ in range(3))) == [0, 0, 0]


async def test_a_reader_sees_one_moment(store: Store):
    first = threading.Event()
    written = threading.Event()

    def look(tx: Tx) -> tuple[int, int]:
        before = len(tx.people.all())
        first.set()
        assert written.wait(20)
        return before, len(tx.people.all())

    looking = asyncio.ensure_future(store.read(look))
    await asyncio.to_thread(first.wait, 20)
    await store.write(lambda tx: add(tx, person("ann")))
    written.set()
    assert await looking == (0, 0)


# --- what is recalled ---


async def test_facts_are_recalled_until_something_is_taken_away(store: Store):
    reads = 0

    def job(tx: Tx) -> str | None:
        nonlocal reads
        reads += 1
        return tx.value("fact")

    await store.write(lambda tx: tx.set_value("fact", "old"))
    assert [await store.recall("key", job) for _ in range(3)] == ["old"] * 3
    assert await store.recall("another key", job) == "old"
    assert reads == 2

    def take_away(tx: Tx) -> None:
        tx.set_value("fact", "new")
        tx.move_epoch()

    await store.write(take_away)
    assert await store.recall("key", job) == "new"  # from the moment that the act was answered


async def test_what_fails_is_not_recalled(store: Store):
    def job(tx: Tx) -> str:
        value = tx.value("fact")
        if value is None:
            raise NotFound("no fact")
        return value

    with pytest.raises(NotFound):
        await store.recall("key", job)
    await store.write(lambda tx: tx.set_value("fact", "here"))
    assert await store.recall("key", job) == "here"


async def test_what_was_read_before_the_loss_is_not_kept_after_it(store: Store):
    """The read began, then the right was taken away, then the read came back: it must not be believed later."""
    begun, go = threading.Event(), threading.Event()

    def slow(tx: Tx) -> str | None:
        value = tx.value("fact")
        begun.set()
        assert go.wait(20)
        return value

    await store.write(lambda tx: tx.set_value("fact", "old"))
    reading = asyncio.ensure_future(store.recall("key", slow))
    await asyncio.to_thread(begun.wait, 20)
    await store.write(steps(lambda tx: tx.set_value("fact", "new"), lambda tx: tx.move_epoch()))
    go.set()
    await reading
    assert await store.recall("key", lambda tx: tx.value("fact")) == "new"
