"""The directory's answers: how long they are used, who asks, and what happens while it is slow or down."""

import asyncio
import threading

import pytest
from tests.world import Clock

from jitgate.adapters.ldap import cache
from jitgate.adapters.ldap.cache import PAUSE, CachedDirectory
from jitgate.core.clock import SECOND
from jitgate.core.errors import Unreachable

NOW = 1_700_000_000 * SECOND
AGE = 60 * SECOND


class Directory:
    """`groups` of everybody; `away`: it does not answer; `held`: it takes until that is set."""

    def __init__(self, timeout_s: float = 5) -> None:
        self.clock = Clock(NOW)
        self.groups: tuple[str, ...] | None = ("ops",)
        self.away = False
        self.held: threading.Event | None = None
        self.looks: list[str] = []
        self.looking = threading.Event()
        self.known = CachedDirectory(self._look, self.clock, max_age=AGE, timeout_s=timeout_s)

    def _look(self, name: str) -> tuple[str, ...] | None:
        self.looks.append(name)
        self.looking.set()
        if self.held:
            self.held.wait(20)
        if self.away:
            raise Unreachable("the directory is away")
        return self.groups

    async def ask(self, name: str = "alice", *, fresh: bool = False) -> tuple[str, ...] | None:
        return await self.known.groups(name, self.clock(), fresh=fresh)


async def test_an_answer_is_used_until_it_is_too_old():
    directory = Directory()
    assert await directory.ask() == ("ops",)
    directory.groups = None
    directory.clock.advance(AGE - 1)
    assert await directory.ask() == ("ops",)
    directory.clock.advance(1)
    assert await directory.ask() is None
    assert directory.looks == ["alice"] * 2


async def test_one_that_must_be_fresh_is_asked_for_and_serves_the_others():
    directory = Directory()
    assert await directory.ask() == ("ops",)
    directory.groups = ()
    assert await directory.ask(fresh=True) == ()
    assert await directory.ask() == ()


async def test_who_asks_at_once_shares_a_look():
    directory = Directory()
    directory.held = threading.Event()
    asking = [asyncio.create_task(directory.ask()) for _ in range(50)]
    await asyncio.to_thread(directory.looking.wait, 20)
    asking[0].cancel()
    directory.held.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [("ops",)] * 49
    assert directory.looks == ["alice"]


async def test_one_that_is_down_is_no_answer_and_is_left_alone_for_a_while():
    directory = Directory()
    await directory.ask()
    directory.away = True
    directory.clock.advance(AGE)
    for _ in range(9):
        with pytest.raises(Unreachable, match="away"):
            await directory.ask()
    assert len(directory.looks) == 2
    directory.away = False
    directory.clock.advance(PAUSE)
    assert await directory.ask() == ("ops",)


async def test_one_that_is_slow_is_as_one_that_is_down():
    directory = Directory(timeout_s=0.02)
    directory.held = threading.Event()
    try:
        with pytest.raises(Unreachable, match=r"longer than 0\.02 s"):
            await directory.ask()
        with pytest.raises(Unreachable):
            await directory.ask("bob")
        assert directory.looks == ["alice"]
    finally:
        directory.held.set()


async def test_an_answer_counts_from_before_it_was_asked_for():
    directory = Directory()
    directory.held = threading.Event()
    asking = asyncio.create_task(directory.ask())
    await asyncio.to_thread(directory.looking.wait, 20)
    directory.clock.advance(AGE - 1)
    directory.held.set()
    await asking
    directory.clock.advance(1)
    await directory.ask()
    assert len(directory.looks) == 2


async def test_a_clock_that_was_set_back_makes_no_old_answer_young():
    directory = Directory()
    await directory.ask()
    directory.clock.advance(-1)
    await directory.ask()
    assert len(directory.looks) == 2


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "KNOWN_MAX", 10)
    directory = Directory()
    for number in range(25):
        await directory.ask(f"p{number}")
    assert len(directory.known._known) <= 10
