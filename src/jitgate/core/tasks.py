"""Tasks that go on beside who began them, each held until it has ended: the loop itself holds none (asyncio's docs)."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """One that crashes is logged, as `name`; the others go on."""

    def __init__(self, log: logging.Logger, name: str) -> None:
        self._log, self._name = log, name
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        for task in list(self._running):
            task.cancel()

    async def ended(self, seconds: float | None = None) -> None:
        """All of them, those too that begin meanwhile; or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running:
                    await asyncio.wait(self._running)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (problem := task.exception()):
            self._log.error("%s crashed", self._name, exc_info=problem)
