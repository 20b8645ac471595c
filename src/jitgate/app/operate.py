"""How a command has an act done: by the running service, else by itself with the database locked to it."""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jitgate.app.control import Json, call_control, operator
from jitgate.app.settings import Settings
from jitgate.core.errors import Conflict


def operate(settings: Settings, act: str, arguments: Json) -> Json:
    """The result of the act. While `serve` runs it writes; the file beside it is never written by anybody else."""
    done = call_control(settings.state, act, arguments)
    return asyncio.run(_alone(settings, act, arguments)) if done is None else done


@contextmanager
def only_writer(state: Path) -> Iterator[None]:
    """Hold the state folder's lock: one process writes the database. Raises `Conflict` if another one has it."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another process uses {state}", "is it jitgate serve, or about to stop? try again when it has ended"
            ) from None
        yield
    finally:
        os.close(descriptor)


async def _alone(settings: Settings, act: str, arguments: Json) -> Json:
    # only here: most commands find the service running, and need none of it
    from jitgate.app.acts import acts  # noqa: PLC0415
    from jitgate.app.wiring import open_outside  # noqa: PLC0415

    with only_writer(settings.state):
        async with open_outside(settings) as outside:
            return await acts(outside)[act](operator(os.geteuid()), arguments)
