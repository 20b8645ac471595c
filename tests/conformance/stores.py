"""What the tests of stores share: each store there is, and rows and jobs to give to it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pytest
from tests.postgres import Postgres
from tests.unit.ca.samples import NOW, ORIGIN, public

from jitgate.adapters.db.store import Store, create_installation, open_store
from jitgate.audit.checkpoint import parse_body
from jitgate.audit.events import Actor, Event, EventType
from jitgate.audit.query import Query
from jitgate.ca.realms import Authority, CaKind
from jitgate.core.ids import new_id
from jitgate.flow.ports import Tx
from jitgate.grants.model import Grant
from jitgate.hosts.model import Host
from jitgate.identity.model import Credential, Person, RegisteredKey, SignIn


@dataclass
class Opened:
    """An open store, and how to open another one on the same data."""

    store: Store
    again: Callable[[], Store]


def sqlite(folder: Path, _request: pytest.FixtureRequest) -> Iterator[Opened]:
    yield from _opened(f"sqlite:///{folder / 'jitgate.db'}")


def postgres(_folder: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    server: Postgres = request.getfixturevalue("postgres")
    with server.database(request.getfixturevalue("empty_template")) as url:
        yield from _opened(url, made=True)


def _opened(url: str, *, made: bool = False) -> Iterator[Opened]:
    if not made:
        make(url)
    others: list[Store] = []

    def again() -> Store:
        others.append(open_store(url))
        return others[-1]

    store = open_store(url)
    yield Opened(store, again)
    for each in (store, *others):
        each.close()


def make(url: str) -> None:
    create_installation(url, origin=ORIGIN, values={"epoch": "0"}, now=NOW)


STORES = [sqlite, postgres]


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
