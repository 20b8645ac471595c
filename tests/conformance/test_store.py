"""What every store does, whatever database is under it: one order of acts, all or nothing, durable before the answer.

Written against the port (`flow.ports.Store`, `Tx`). A further store is one more `Opened` in `STORES`.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest
from tests.unit.ca.samples import GRANT, NOW, ORIGIN, public

from jitgate.adapters.db import tables, writer
from jitgate.adapters.db.migrations.run import upgrade
from jitgate.adapters.db.store import Store, _engine, create_installation, open_read_only, open_store
from jitgate.audit.checkpoint import parse_body
from jitgate.audit.events import Actor, Event, EventType
from jitgate.audit.query import Query
from jitgate.audit.tree import EMPTY
from jitgate.ca.realms import Authority, CaKind
from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.core.errors import Error, NotFound, Unreachable, Unsafe
from jitgate.core.ids import new_id
from jitgate.flow.ports import Tx
from jitgate.grants.model import Grant
from jitgate.identity.model import Credential, Factor, Person, RegisteredKey, SignIn
from jitgate.identity.throttle import Throttle
from jitgate.sessions.model import Host
from jitgate.ssh.cert import CertificateBody, CertType


@dataclass
class Opened:
    """An open store, and how to open another one on the same data."""

    store: Store
    again: Callable[[], Store]


def sqlite(folder: Path) -> Iterator[Opened]:
    url = f"sqlite:///{folder / 'jitgate.db'}"
    create_installation(url, origin=ORIGIN, values={"epoch": "0"}, now=NOW)
    others: list[Store] = []

    def again() -> Store:
        others.append(open_store(url))
        return others[-1]

    store = open_store(url)
    yield Opened(store, again)
    for each in (store, *others):
        each.close()


STORES = [sqlite]


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    yield from request.param(tmp_path)


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


Job = Callable[[Tx], object]
count = iter(range(1, 1 << 40))


def an_id() -> str:
    return new_id(NOW, lambda size: next(count).to_bytes(size, "big"))


def person(name: str, *groups: str) -> Person:
    return Person(an_id(), name, groups, False, None, NOW)


def add(tx: Tx, who: Person, step: int = 0) -> Person:
    tx.people.add(who, Credential(who.id, "hash", b"sealed", step), an_id())
    return who


def key(owner: Person, name: str = "laptop") -> RegisteredKey:
    return RegisteredKey(an_id(), owner.id, public(name), name, NOW)


def host(name: str, **changes: Any) -> Host:
    return replace(
        Host(an_id(), "default", name, "192.0.2.1", 22, {"a": "b"}, ("ubuntu",), public(name), NOW), **changes
    )


def authority(kind: CaKind = CaKind.USER) -> Authority:
    return Authority(an_id(), "default", kind, public(f"ca {next(count)}"))


def said(text: str, serial: int | None = None) -> Event:
    """An event that names `text` as its reason."""
    service = Actor("service")
    if serial is None:
        restored = (("size", 1), ("epoch", 1))
        return Event(EventType.SERVICE_RESTORED, "done", NOW, "default", service, reason=text, detail=restored)
    burnt = (("ca", public("user").fingerprint), ("digest", "0" * 64))
    return Event(EventType.CERTIFICATE_UNRELEASED, "done", NOW, "default", service, serial=serial, detail=burnt)


def append(event: Event) -> Job:
    return lambda tx: tx.log.append(event)


def add_sign_in(row: SignIn, tx: Tx) -> None:
    tx.sign_ins.add(row)


def add_grant(grant: Grant, tx: Tx) -> None:
    tx.grants.add(grant)


def add_checkpoint(size: int, text: str, tx: Tx) -> None:
    tx.log.add_checkpoint(size, text, NOW)


def use_step(who: Person, step: int, tx: Tx) -> bool:
    return tx.people.use_totp_step(who.id, step)


def apply(letter: str, at: int, tx: Tx) -> None:
    tx.policies.add(an_id(), letter * 64, f"text {letter}", at)


def steps(*jobs: Job) -> Job:
    """All of them in one transaction."""

    def run(tx: Tx) -> None:
        for job in jobs:
            job(tx)

    return run


async def log(store: Store) -> list[str]:
    """The reasons in the log, by index; the indexes have no gap."""
    rows = await store.read(lambda tx: tx.log.search(Query(after=-1, limit=1000)))
    assert [columns.index for columns, _, _ in rows] == list(range(len(rows)))
    texts = [personal.rpartition(" reason ")[2] for _, _, personal in rows]
    body = parse_body(await store.read(lambda tx: tx.log.checkpoint_body()))
    assert body.size == len(rows)
    return texts


class Held:
    """Holds the writer, so that what is written next is one group."""

    def __init__(self, store: Store) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.job = asyncio.ensure_future(store.write(self._wait))

    def _wait(self, _tx: Tx) -> None:
        self.begun.set()
        assert self.go.wait(30)

    async def __aenter__(self) -> Self:
        while not self.begun.is_set():  # noqa: ASYNC110  # the writer is another thread
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go.set()
        await self.job


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
    assert store._writer._queue.maxsize == 10_000
    monkeypatch.setattr(store._writer._queue, "maxsize", 50)
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
    with pytest.raises(Exception, match="readonly"):
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


# --- the log ---


async def test_the_logs_edge_moves_with_its_entries(opened: Opened):
    store = opened.store
    assert parse_body(await store.read(lambda tx: tx.log.checkpoint_body())).root == EMPTY.root()
    roots = []
    for at in range(5):
        await store.write(steps(*(append(said(f"{at}-{each}")) for each in range(at))))
        roots.append(parse_body(await store.read(lambda tx: tx.log.checkpoint_body())))
    assert [body.size for body in roots] == [0, 1, 3, 6, 10]
    assert len({body.root for body in roots}) == 5
    assert roots[-1] == parse_body(await opened.again().read(lambda tx: tx.log.checkpoint_body()))


async def test_many_writers_at_once_make_one_log(store: Store):
    async def write(name: int) -> None:
        for at in range(20):
            await store.write(append(said(f"{name} {at}")))

    await asyncio.gather(*(write(name) for name in range(20)))
    texts = await log(store)
    assert len(texts) == 400
    for name in range(20):
        assert [text for text in texts if text.startswith(f"{name} ")] == [f"{name} {at}" for at in range(20)]


async def test_checkpoints_are_kept_once_and_the_largest_is_the_newest(store: Store):
    assert await store.read(lambda tx: tx.log.latest_checkpoint()) is None
    for size, text in ((5, "five"), (9, "nine"), (9, "another nine"), (7, "seven")):
        await store.write(partial(add_checkpoint, size, text))
    assert await store.read(lambda tx: tx.log.latest_checkpoint()) == "nine"


async def test_serials_that_the_log_names_are_found_in_the_same_group_too(store: Store):
    user, other = public("user").fingerprint, public("host").fingerprint
    await store.write(append(said("", serial=2**63 - 1)))

    def job(tx: Tx) -> set[tuple[str, int]]:
        tx.log.append(said("", serial=7))
        return tx.log.logged([(user, 7), (user, 8), (user, 2**63 - 1), (other, 7)])

    assert await store.write(job) == {(user, 7), (user, 2**63 - 1)}
    asked = [(user, serial) for serial in (7, 8)] + [(user, serial) for serial in range(10_000, 15_000)]
    assert await store.read(lambda tx: tx.log.logged(asked)) == {(user, 7)}
    assert await store.read(lambda tx: tx.log.logged([])) == set()


async def test_searching_finds_what_holds_and_nothing_else(store: Store):
    ann, ben, grant = an_id(), an_id(), an_id()

    def refused(who: str, name: str, target: str, reason: str) -> Event:
        actor = Actor("person", who, name)
        more: dict[str, Any] = {"target": target, "reason": reason, "detail": (("code", "no"),), "grant": grant}
        return Event(EventType.GRANT_REFUSED, "refused", NOW, "default", actor, **more)

    def job(tx: Tx) -> None:
        tx.log.append(refused(ann, "ann", "host:web1", "100% of it"))
        tx.log.append(refused(ben, "ben", "root@host:web1", "under_score"))
        tx.log.append(refused(ben, "ben", "host:web10", "Ärger"))
        disabled = Event(
            EventType.PERSON_DISABLED, "done", NOW, "default", Actor("service"), subject=ann, subject_name="x"
        )
        tx.log.append(disabled)
        tx.log.append(said("", serial=99))

    await store.write(job)

    async def found(**query: Any) -> list[int]:
        return [columns.index for columns, _, _ in await store.read(lambda tx: tx.log.search(Query(**query)))]

    assert await found() == [0, 1, 2, 3, 4]
    assert await found(limit=2) == [3, 4]  # the newest, in the order of the log
    assert await found(after=1, limit=2) == [2, 3]
    assert await found(after=4) == []
    assert await found(person=ann) == [0, 3]  # acted, and was acted on
    assert await found(host="web1") == [0, 1]
    assert await found(host="web10") == [2]
    assert await found(grant=grant, person=ben) == [1, 2]
    assert await found(serial=99) == [4]
    assert await found(outcome="refused") == [0, 1, 2]
    assert await found(types=(EventType.PERSON_DISABLED, EventType.SERVICE_RESTORED)) == [3]
    assert await found(q="%") == [0]
    assert await found(q="_score") == [1]
    assert await found(q="UNDER_") == [1]
    assert await found(q="web1") == [0, 1, 2]
    assert await found(q="' OR 1=1 --") == []


# --- people, keys, sign-ins ---


async def test_a_name_a_key_and_a_token_have_one_owner(store: Store):
    ann, ben = person("ann", "ops", "dba"), person("ben")
    await store.write(steps(lambda tx: add(tx, ann), lambda tx: add(tx, ben), lambda tx: tx.keys.add(key(ann))))
    sign_in = SignIn(an_id(), ann.id, b"t" * 32, ((Factor.TOTP, NOW),), NOW, NOW + HOUR)
    await store.write(lambda tx: tx.sign_ins.add(sign_in))
    for job in (
        lambda tx: add(tx, person("ann")),
        lambda tx: tx.keys.add(key(ben)),
        lambda tx: tx.sign_ins.add(replace(sign_in, id=an_id(), person_id=ben.id)),
        lambda tx: tx.keys.add(replace(key(ann, "other"), person_id=an_id())),  # of nobody
    ):
        with pytest.raises(Exception, match="IntegrityError"):
            await store.write(job)
    assert await store.read(lambda tx: tx.people.by_name("ann")) == replace(ann, groups=("dba", "ops"))
    assert await store.read(lambda tx: tx.people.by_id(ben.id)) == ben
    assert await store.read(lambda tx: tx.people.by_name("ANN")) is None
    assert [each.name for each in await store.read(lambda tx: tx.people.all())] == ["ann", "ben"]
    assert await store.read(lambda tx: tx.sign_ins.by_token_hash(b"t" * 32)) == sign_in
    assert await store.read(lambda tx: tx.sign_ins.by_token_hash(b"x" * 32)) is None


async def test_a_key_that_was_removed_may_come_back_to_anybody(store: Store):
    ann, ben = person("ann"), person("ben")
    first = key(ann)
    await store.write(steps(lambda tx: add(tx, ann), lambda tx: add(tx, ben), lambda tx: tx.keys.add(first)))
    assert await store.read(lambda tx: tx.keys.current(first.key)) == first
    await store.write(lambda tx: tx.keys.remove(first.id, NOW))
    assert await store.read(lambda tx: tx.keys.current(first.key)) is None
    assert await store.read(lambda tx: tx.keys.of_person(ann.id)) == []
    second = key(ben)
    await store.write(lambda tx: tx.keys.add(second))
    assert await store.read(lambda tx: tx.keys.current(first.key)) == second


async def test_one_of_many_takes_a_step_and_none_takes_an_earlier_one(store: Store):
    ann = person("ann")
    await store.write(lambda tx: add(tx, ann, step=5))
    taken = await asyncio.gather(*(store.write(lambda tx: tx.people.use_totp_step(ann.id, 7)) for _ in range(20)))
    assert taken.count(True) == 1
    for step, expected in ((7, False), (6, False), (5, False), (8, True), (7, False)):
        assert await store.write(partial(use_step, ann, step)) is expected
    assert not await store.write(lambda tx: tx.people.use_totp_step(an_id(), 9))


async def test_disabling_and_ending_are_kept_and_end_only_once(store: Store):
    ann, ben = person("ann"), person("ben")
    rows = [
        SignIn(an_id(), who.id, bytes([at]) * 32, ((Factor.TOTP, NOW),), NOW, NOW + HOUR)
        for at, who in enumerate((ann, ann, ben))
    ]
    await store.write(steps(lambda tx: add(tx, ann), lambda tx: add(tx, ben)))
    for row in rows:
        await store.write(partial(add_sign_in, row))
    await store.write(lambda tx: tx.sign_ins.end(rows[0].id, NOW + 1))
    await store.write(
        steps(lambda tx: tx.people.set_disabled(ann.id, NOW + 2), lambda tx: tx.sign_ins.end_all_of(ann.id, NOW + 2))
    )
    hashes = [row.token_hash for row in rows]
    ended = await store.read(lambda tx: [tx.sign_ins.by_token_hash(each) for each in hashes])
    assert [each.ended_at for each in ended if each] == [NOW + 1, NOW + 2, None]
    found = await store.read(lambda tx: tx.people.by_id(ann.id))
    assert found is not None
    assert found.disabled_at == NOW + 2
    await store.write(lambda tx: tx.people.set_disabled(ann.id, None))
    assert await store.read(lambda tx: tx.people.by_id(ann.id)) == ann


async def test_a_proof_is_used_once_until_its_time_is_over(store: Store):
    uses = await asyncio.gather(
        *(store.write(lambda tx: tx.keys.use_proof(b"d" * 32, NOW, NOW + MINUTE)) for _ in range(10))
    )
    assert uses.count(True) == 1
    assert await store.write(lambda tx: tx.keys.use_proof(b"e" * 32, NOW, NOW + MINUTE))
    assert not await store.write(lambda tx: tx.keys.use_proof(b"d" * 32, NOW + MINUTE, NOW + 2 * MINUTE))
    assert await store.write(lambda tx: tx.keys.use_proof(b"d" * 32, NOW + MINUTE + 1, NOW + 2 * MINUTE))


async def test_throttles_are_kept_replaced_and_forgotten(store: Store):
    def put(at: int) -> Callable[[Tx], None]:
        return lambda tx: tx.throttles.put("account", f"s{at}", Throttle(at, NOW + at))

    for at in range(5):
        await store.write(put(at))
    await store.write(lambda tx: tx.throttles.put("address", "s1", Throttle(9, NOW)))
    await store.write(lambda tx: tx.throttles.put("account", "s1", Throttle(7, NOW + 3)))
    await store.write(lambda tx: tx.throttles.put("account", "s2", None))
    assert await store.read(lambda tx: tx.throttles.get("account", "s1")) == Throttle(7, NOW + 3)
    assert await store.read(lambda tx: tx.throttles.get("account", "s2")) is None
    await store.write(lambda tx: tx.throttles.forget(NOW + 3))
    left = await store.read(lambda tx: [tx.throttles.get("account", f"s{at}") for at in range(5)])
    assert left == [None, Throttle(7, NOW + 3), None, Throttle(3, NOW + 3), Throttle(4, NOW + 4)]
    assert await store.read(lambda tx: tx.throttles.get("address", "s1")) is None


# --- hosts, policy, grants, certificates, serials ---


async def test_a_host_name_is_taken_once_at_a_time(store: Store):
    first = host("web1")
    await store.write(lambda tx: tx.hosts.add(first))
    with pytest.raises(Exception, match="IntegrityError"):
        await store.write(lambda tx: tx.hosts.add(host("web1")))
    await store.write(lambda tx: tx.hosts.add(host("web0")))
    assert [each.name for each in await store.read(lambda tx: tx.hosts.all())] == ["web0", "web1"]
    assert await store.read(lambda tx: tx.hosts.by_name("default", "web1")) == first
    assert await store.read(lambda tx: tx.hosts.by_name("other", "web1")) is None
    await store.write(lambda tx: tx.hosts.remove(first.id, NOW))
    assert await store.read(lambda tx: tx.hosts.by_name("default", "web1")) is None
    again = host("web1", address="web1.internal", port=2222, labels={})
    await store.write(lambda tx: tx.hosts.add(again))
    assert await store.read(lambda tx: tx.hosts.by_name("default", "web1")) == again


async def test_the_policy_in_force_is_the_one_applied_last_whatever_the_clock_says(store: Store):
    assert await store.read(lambda tx: (tx.policies.digest(), tx.policies.current())) == (None, None)
    for digest, at in (("a", NOW), ("b", NOW - HOUR), ("c", NOW - HOUR), ("a", NOW - 2 * HOUR)):
        await store.write(partial(apply, digest, at))
        assert await store.read(lambda tx: tx.policies.digest()) == digest * 64
        assert await store.read(lambda tx: tx.policies.current()) == (digest * 64, f"text {digest}")


async def test_grants_come_back_as_they_were(store: Store):
    ann, ben = person("ann"), person("ben")
    await store.write(lambda tx: (add(tx, ann), add(tx, ben)))

    def grant(who: Person, **changes: Any) -> Any:
        holder = replace(GRANT.holder, person_id=who.id, name=who.name)
        return replace(GRANT, id=an_id(), holder=holder, targets=tuple(sorted(GRANT.targets)), **changes)

    first = grant(ann, ends_at=NOW + HOUR)
    second = grant(ann, opened_at=NOW + 1, ends_at=NOW + MINUTE, options=(), metadata=(), reason="Ärger")
    other = grant(ben, on_expiry="keep", max_session_s=3600, ticket="T-1")
    await store.write(steps(*(partial(add_grant, each) for each in (first, second, other))))
    assert await store.read(lambda tx: [tx.grants.by_id(each.id) for each in (first, second, other)]) == [
        first,
        second,
        other,
    ]
    assert await store.read(lambda tx: tx.grants.active(NOW, person_id=ann.id)) == [second, first]
    assert await store.read(lambda tx: tx.grants.active(NOW + MINUTE, person_id=ann.id)) == [first]
    assert len(await store.read(lambda tx: tx.grants.active(NOW))) == 3
    await store.write(lambda tx: tx.grants.end(first.id, NOW + 5, "done"))
    ended = replace(first, ended_at=NOW + 5, end_reason="done")
    assert await store.read(lambda tx: tx.grants.by_id(first.id)) == ended
    assert await store.read(lambda tx: tx.grants.active(NOW + MINUTE, person_id=ann.id)) == []
    assert await store.read(lambda tx: tx.grants.latest(10, person_id=ann.id)) == [second, ended]
    assert await store.read(lambda tx: tx.grants.latest(1)) == [other]
    assert await store.read(lambda tx: tx.grants.by_id(an_id())) is None
    with pytest.raises(Exception, match="IntegrityError"):
        await store.write(lambda tx: tx.grants.add(first))


async def test_a_serial_is_issued_once_under_its_authority(store: Store):
    ann, user, hosts = person("ann"), authority(), authority(CaKind.HOST)
    grant = replace(GRANT, holder=replace(GRANT.holder, person_id=ann.id), id=an_id())

    def body(serial: int, seconds: int) -> CertificateBody:
        times = {"valid_after": NOW // SECOND, "valid_before": NOW // SECOND + seconds}
        more: dict[str, Any] = {"critical_options": (), "extensions": (), "ca": user.key} | times
        return CertificateBody(CertType.USER, public("laptop"), serial, "jitgate x", ("ubuntu@host:web1",), **more)

    def job(tx: Tx) -> None:
        add(tx, ann)
        tx.grants.add(grant)
        for each in (user, hosts):
            tx.authorities.add(each, NOW, 1)
        for serial in (1, 2**63 - 1):
            tx.certificates.add(body(serial, 60 if serial == 1 else 120), user, NOW + serial % 9, grant=grant)
        tx.certificates.add(body(1, 60), hosts, NOW)

    await store.write(job)
    with pytest.raises(Exception, match="IntegrityError"):
        await store.write(lambda tx: tx.certificates.add(body(1, 60), user, NOW, grant=grant))
    both = [(1, NOW + MINUTE), (2**63 - 1, NOW + 2 * MINUTE)]
    assert await store.read(lambda tx: tx.certificates.of_grant(grant.id, NOW)) == both
    assert await store.read(lambda tx: tx.certificates.of_grant(grant.id, NOW + MINUTE)) == both[1:]
    assert await store.read(lambda tx: tx.certificates.of_grant(grant.id, NOW + 2 * MINUTE)) == []


async def test_blocks_of_serials_never_overlap(opened: Opened):
    store, one, other = opened.store, authority(), authority(CaKind.HOST)
    await store.write(
        steps(lambda tx: tx.authorities.add(one, NOW, 1000), lambda tx: tx.authorities.add(other, NOW, 5))
    )
    assert await store.read(lambda tx: tx.authorities.all()) == [one, other]
    firsts = await asyncio.gather(*(store.write(lambda tx: tx.authorities.take_serials(one.id, 10)) for _ in range(50)))
    assert sorted(firsts) == list(range(1000, 1500, 10))
    assert await store.write(lambda tx: tx.authorities.take_serials(other.id, 3)) == 5

    def fail(tx: Tx) -> None:
        tx.authorities.take_serials(one.id, 10)
        raise NotFound("changed my mind")

    with pytest.raises(NotFound):
        await store.write(fail)
    assert await store.write(lambda tx: tx.authorities.take_serials(one.id, 1)) == 1500
    store.close()
    assert await opened.again().write(lambda tx: tx.authorities.take_serials(one.id, 1)) == 1501


async def test_the_epoch_moves_and_comes_back(opened: Opened):
    store = opened.store

    def move(tx: Tx) -> int:
        tx.move_epoch()
        return tx.epoch()

    epochs = [await store.write(move) for _ in range(3)]
    assert all(later == earlier + 1 for earlier, later in pairwise(epochs))

    def fail(tx: Tx) -> None:
        tx.move_epoch()
        raise NotFound("no")

    async with Held(store):
        lost = asyncio.ensure_future(store.write(fail))
        seen = asyncio.ensure_future(store.write(lambda tx: tx.epoch()))
        await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await lost
    assert await seen == await store.read(lambda tx: tx.epoch()) == epochs[-1]
    store.close()
    assert await opened.again().read(lambda tx: tx.epoch()) == epochs[-1]


async def test_values_are_kept_by_name(store: Store):
    assert await store.read(lambda tx: tx.value("nothing")) is None
    await store.write(steps(*(lambda tx, n=n, v=v: tx.set_value(n, v) for n, v in ("a1", "b2", "a3"))))
    assert await store.read(lambda tx: (tx.value("a"), tx.value("b"), tx.value("epoch"))) == ("3", "2", "0")


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


# --- SQLite's own ---


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
    with pytest.raises(Exception, match="IntegrityError"):
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


@pytest.mark.parametrize("text", ["postgresql://x/y", "sqlite://", "sqlite:///", "mysql://x/y", "nonsense", ""])
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
