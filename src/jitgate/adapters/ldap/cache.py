"""The directory as the acts see it (`flow.elsewhere.Directory`): short-lived answers; a no where it is slow or down.

Rules:
1. An answer is used until it is `max_age_s` old, counted from before it was asked for. Then there is none.
2. One look a person at a time; who asks meanwhile waits for it.
3. A look has `timeout_s` altogether. After one that failed nobody is asked for `PAUSE`: those who come then are refused
   at once, instead of waiting each.
4. At most `KNOWN_MAX` answers are kept, and `LOOKS` looks run at a time.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jitgate.adapters.ldap.settings import DirectorySettings
from jitgate.adapters.secret_file import read_secret
from jitgate.core.clock import SECOND, Clock, Micros
from jitgate.core.errors import BadInput, Unreachable

PAUSE: Micros = 2 * SECOND
KNOWN_MAX = 20_000
LOOKS = 8

Look = Callable[[str], tuple[str, ...] | None]
"""Blocks; raises `Unreachable`, and `Denied` about this one person, which is not remembered."""

_LOG = logging.getLogger("jitgate.directory")


@dataclass(frozen=True, slots=True)
class _Answer:
    groups: tuple[str, ...] | None
    at: Micros


class CachedDirectory:
    def __init__(self, look: Look, clock: Clock, *, max_age: Micros, timeout_s: float) -> None:
        self._look, self._clock, self._max_age, self._timeout_s = look, clock, max_age, timeout_s
        self._known: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[_Answer]] = {}
        self._threads = ThreadPoolExecutor(LOOKS, thread_name_prefix="jitgate-directory")
        self._failed: tuple[Micros, Unreachable] | None = None

    async def groups(self, name: str, now: Micros, *, fresh: bool = False) -> tuple[str, ...] | None:
        """Their groups as of `now`; None for nobody, or somebody disabled. Raises `Unreachable`."""
        answer = self._known.get(name)
        if fresh or answer is None or not 0 <= now - answer.at < self._max_age:
            answer = await self._ask(name)
        return answer.groups

    async def _ask(self, name: str) -> _Answer:
        self._check_pause()
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._ask_once(name))
            self._asking[name] = task
            task.add_done_callback(lambda done: self._forget(name, done))
        return await asyncio.shield(task)  # whoever gives up takes nobody else's answer away

    def _forget(self, name: str, done: asyncio.Task[_Answer]) -> None:
        del self._asking[name]
        if not done.cancelled():
            done.exception()  # seen, also where everybody who waited has gone

    async def _ask_once(self, name: str) -> _Answer:
        at, loop = self._clock(), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                groups = await loop.run_in_executor(self._threads, self._look, name)
        except TimeoutError:
            raise self._fail(Unreachable(f"the directory takes longer than {self._timeout_s:g} s")) from None
        except Unreachable as error:
            raise self._fail(error) from None
        self._failed = None
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[name] = _Answer(groups, at)
        return self._known[name]

    def _fail(self, error: Unreachable) -> Unreachable:
        self._failed = (self._clock(), error)
        _LOG.warning("the directory did not answer", extra={"problem": error.what})
        return error

    def _check_pause(self) -> None:
        if self._failed and 0 <= self._clock() - self._failed[0] < PAUSE:
            raise Unreachable(self._failed[1].what, self._failed[1].hint)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@contextlib.asynccontextmanager
async def open_directory(settings: DirectorySettings, clock: Clock) -> AsyncIterator[CachedDirectory]:
    """Until the block ends. Nothing is asked yet. Raises `BadInput`, `NotFound`, `Unsafe` for wrong files."""
    try:
        from jitgate.adapters.ldap.directory import look, ssl_context  # noqa: PLC0415  # extra `ldap`, slow to import
    except ModuleNotFoundError as error:
        what = f"the settings name a directory, and {error.name} is not installed"
        raise BadInput(what, "install jitgate with the extra [server,ldap]") from None

    context, password = ssl_context(settings), read_secret(settings.bind_password_file)
    directory = CachedDirectory(
        lambda name: look(settings, context, password, name),
        clock,
        max_age=settings.max_age_s * SECOND,
        timeout_s=settings.timeout_s,
    )
    try:
        yield directory
    finally:
        directory.close()
