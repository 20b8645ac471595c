"""Where passwords are hashed: few at a time, and with a short queue. Each takes 64 MiB and a good part of a second."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from jitgate.core.errors import Unreachable

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 2
WAITING_MAX = 64  # beyond it a sign-in would wait longer than its code is good for


class Hashing(ThreadPoolExecutor):
    """A pool that refuses work, with `Unreachable`, instead of queueing without end."""

    def __init__(self) -> None:
        super().__init__(AT_ONCE, thread_name_prefix="jitgate-hashing")
        self._room = threading.BoundedSemaphore(AT_ONCE + WAITING_MAX)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if not self._room.acquire(blocking=False):
            raise Unreachable("too many sign-ins at the same time", "try again in a minute")
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future
