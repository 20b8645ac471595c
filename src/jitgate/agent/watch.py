"""Watches logins while the agent runs: the folder where PAM's hook writes, and the journal where there is one."""

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jitgate.agent import accepted, doctor, durable, left_behind
from jitgate.agent.login_hook import SOCKET, TEXT_MAX
from jitgate.agent.logins import Logins
from jitgate.agent.pam import FOLDER
from jitgate.agent.sshd import Sshd
from jitgate.core.clock import Micros
from jitgate.core.errors import Error

JOURNAL: Final = (
    "journalctl",
    "-q",
    "-f",
    "-n",
    "0",
    "-o",
    "json",
    "_UID=0",
    "_COMM=sshd",
    "+",
    "_UID=0",
    "_COMM=sshd-session",
)
LOOK_S: Final = 2.0
MARK_S: Final = 0.02
_FILES_MAX: Final = 4096
_AGAIN_S: Final = 10.0
_LOG: Final = logging.getLogger("jitgate.agent")


@dataclass(slots=True)
class Watch:
    """`journal`: the program that follows it, or empty. `told`: called when something may have been reported."""

    logins: Logins
    state: Path
    journal: tuple[str, ...] = ()
    told: Callable[[], Awaitable[None]] | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _work: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def folder(self) -> Path:
        return self.state / FOLDER

    async def run(self) -> None:
        """Until cancelled."""
        durable.make_folder(self.folder)
        self.logins.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve())
            group.create_task(self._look())
            if self.journal:
                group.create_task(self._follow())

    def wake(self, _: object = None) -> None:
        """Something may have to end now. From any thread."""
        with contextlib.suppress(RuntimeError):  # it has stopped
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _look(self) -> None:
        while True:
            await self._read_folder()
            async with self._work:
                try:
                    await asyncio.to_thread(self.logins.look)
                except Exception:  # noqa: BLE001  # whatever one login or one file did, the others are looked after
                    _LOG.exception("logins cannot be looked after")
            if self.told:
                await self.told()
            await self._rest()
            self._woken.clear()

    async def _rest(self) -> None:
        """Until something may have to end or `LOOK_S` have passed; meanwhile a login that began gets its marks."""
        until = self._loop.time() + LOOK_S
        while (left := until - self._loop.time()) > 0:
            async with self._work:
                young = await asyncio.to_thread(self.logins.mark)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, MARK_S) if young else left):
                    await self._woken.wait()
                    return

    # ---- PAM ----

    async def _serve(self) -> None:
        """Hooks that wait: each is answered once what it wrote was read, so that nobody is in unseen."""
        path = self.folder / SOCKET
        path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(64)
            listener.setblocking(False)
            while True:
                connection, _ = await loop.sock_accept(listener)
                with connection:
                    await self._read_folder()
                    with contextlib.suppress(OSError):
                        connection.setblocking(False)
                        await loop.sock_sendall(connection, b"\n")
                self._woken.set()

    async def _read_folder(self) -> None:
        async with self._work:
            await asyncio.to_thread(self._take_files)

    def _take_files(self) -> None:
        for path in sorted(self.folder.glob("*.json"))[:_FILES_MAX]:
            try:
                data = durable.get(path, 2 * TEXT_MAX)
                kind, told = accepted.from_pam(data or b"")
                if kind == "open_session":
                    self.logins.entered(told)
                else:
                    self.wake()
            except (Error, OSError) as error:
                _LOG.warning("%s: %s", path.name, error)
            path.unlink(missing_ok=True)

    # ---- the journal ----

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
            except (Error, OSError) as error:
                _LOG.warning("the journal cannot be followed: %s", error)
            await asyncio.sleep(_AGAIN_S)

    async def _follow_once(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self.journal,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=accepted.ENTRY_MAX * 4,
        )
        assert process.stdout is not None  # noqa: S101  # a pipe, as asked for
        try:
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:  # longer than any entry that we look at: it is dropped
                    continue
                if not line:
                    return
                if (told := accepted.from_journal(line)) is not None:
                    async with self._work:
                        await asyncio.to_thread(self.logins.entered, told)
                    self._woken.set()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def journal_program() -> tuple[str, ...]:
    """What follows the journal; empty on a machine without one."""
    is_there = Path("/run/systemd/journal/stdout").exists() and shutil.which("journalctl")
    return JOURNAL if is_there and os.geteuid() == 0 else ()


def changed_since(sshd: Sshd, login: str, since: Micros) -> list[tuple[str, str]]:
    """What a login changed to come back by."""
    try:
        account = pwd.getpwnam(login)
    except KeyError:
        return []
    keys: list[Path] = []
    with contextlib.suppress(Error):
        keys = doctor.key_files(sshd, sshd.effective(login), account)
    return left_behind.changed(account, since, keys)
