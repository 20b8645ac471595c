"""The process that moves the bytes (carry.py), as its parent has it: started with the first tunnel, or when it died."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from jitgate.core.errors import Unreachable
from jitgate.gateway import carry
from jitgate.sessions.session import Why

STOP_S = 5.0  # seconds for it to end by itself

_COMMAND = (sys.executable, "-I", "-S", str(Path(carry.__file__)))  # nothing but the standard library: 10 MB, 15 ms
_WHY = {
    carry.CLIENT_CLOSED: Why.CLIENT_CLOSED,
    carry.HOST_CLOSED: Why.HOST_CLOSED,
    carry.CLIENT_GONE: Why.CLIENT_GONE,
    carry.HOST_GONE: Why.HOST_GONE,
    carry.HALF_CLOSED: Why.HALF_CLOSED,
    carry.LOST: Why.CRASHED,
}
_LOG = logging.getLogger("jitgate.gateway")

OnEnd = Callable[[str, Why | None, int, int], None]
"""Told once of each session: its id, why (None: we wanted it), bytes to the host, bytes from it."""
OnMoved = Callable[[int, int], None]
"""Told about once a second how many bytes went to hosts and came from them since."""


class Carrier:
    def __init__(self, on_end: OnEnd, on_moved: OnMoved) -> None:
        self._on_end, self._on_moved = on_end, on_moved
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._carried: set[str] = set()
        self._starting = asyncio.Lock()

    async def ready(self) -> None:
        """Start the process if it does not run. Raises `Unreachable`."""
        async with self._starting:
            if self._control is not None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with closing(theirs):
                try:
                    self._process = await asyncio.create_subprocess_exec(
                        *_COMMAND,
                        str(theirs.fileno()),
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=asyncio.subprocess.DEVNULL,
                        pass_fds=(theirs.fileno(),),
                        env={"LC_ALL": "C.UTF-8"},
                    )
                except OSError as error:
                    ours.close()
                    raise Unreachable(f"the gateway cannot carry: {error.strerror}", "try again") from None
            ours.setblocking(False)
            self._control = ours
            asyncio.get_running_loop().add_reader(ours.fileno(), self._read)

    def carry(self, session_id: str, client: socket.socket, host: socket.socket) -> None:
        """Both sockets are the process's from now on. Raises `Unreachable` if it has gone since `ready`."""
        if self._control is None:
            raise Unreachable("the gateway's carrier has just ended", "try again")
        try:
            message = carry.OPEN + session_id.encode()
            socket.send_fds(self._control, [message], [client.fileno(), host.fileno()])
        except OSError as error:
            if isinstance(error, ConnectionError):  # it has died, and we hear of it here first
                self._lose(Why.CRASHED)
            raise Unreachable(f"the gateway cannot carry: {error.strerror}", "try again") from None
        self._carried.add(session_id)
        client.close()
        host.close()

    def end(self, session_id: str) -> None:
        """End one; `on_end` tells when it is done. Nothing for one that has ended."""
        if self._control is not None and session_id in self._carried:
            with suppress(OSError):  # it has gone, or is that far behind: the next look tries again
                self._control.send(carry.END + session_id.encode())

    async def stop(self) -> None:
        """End all and the process."""
        process = self._process
        self._lose(Why.STOPPED)
        if process is not None:
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _read(self) -> None:
        control = self._control
        while control is not None and control is self._control:
            try:
                message = control.recv(64)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                _LOG.error("the gateway's carrier has died; its sessions have ended")
                self._lose(Why.CRASHED)
                return
            self._take(message)

    def _take(self, message: bytes) -> None:
        if message[:1] == carry.TOTAL:
            _, up, down = carry.COUNT.unpack(message)
            self._on_moved(up, down)
            return
        _, identifier, why, up, down = carry.REPORT.unpack(message)
        session_id = identifier.decode()
        self._carried.discard(session_id)
        self._on_end(session_id, _WHY.get(why), up, down)

    def _lose(self, why: Why) -> None:
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = self._process = None
        lost, self._carried = self._carried, set()
        for session_id in lost:
            self._on_end(session_id, why, 0, 0)
