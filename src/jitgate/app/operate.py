"""How a command has an act done: by the running service, else by itself with the database locked to it."""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jitgate.app.control import Json, call_control, is_served, operator
from jitgate.app.settings import Settings
from jitgate.core.errors import Conflict

PATIENCE_S = 15.0
"""How long a command waits for a service that starts or stops: `jitgate serve &` and the next line of a script."""


class Taken(Conflict):
    """Another process has the state folder's lock."""


def operate(settings: Settings, act: str, arguments: Json) -> Json:
    """The result of the act. While `serve` runs it writes; the file beside it is never written by anybody else."""
    until = time.monotonic() + PATIENCE_S
    while (done := call_control(settings.state, act, arguments)) is None:
        try:
            return asyncio.run(_alone(settings, act, arguments))
        except Taken:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    return done


@contextmanager
def only_writer(state: Path, *, patience_s: float = 0) -> Iterator[None]:
    """Hold the state folder's lock: one process writes the database. Raises `Taken` if another one has it.

    A command that has it is waited for, up to `patience_s`; a service that listens is not.
    """
    until = time.monotonic() + patience_s
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(descriptor):
            if is_served(state):
                raise Taken(f"another process uses {state}", "jitgate serve runs there already")
            if time.monotonic() >= until:
                raise Taken(f"another process uses {state}", "try again; if it stays: ps, for a jitgate that hangs")
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _alone(settings: Settings, act: str, arguments: Json) -> Json:
    # only here: most commands find the service running, and need none of it
    from jitgate.app.acts import acts  # noqa: PLC0415
    from jitgate.app.wiring import open_outside  # noqa: PLC0415

    with only_writer(settings.state):
        async with open_outside(settings) as outside:
            return await acts(outside)[act](operator(os.geteuid()), arguments)
