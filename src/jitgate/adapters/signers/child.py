"""The signer as a child process: started over a pair of sockets, asked once whether it is well, stopped.

Or one that runs apart: reached by its socket, and left as it is.
"""

import asyncio
import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.protocol import Hello, SignerFailed
from jitgate.core.errors import Unreachable
from jitgate.core.peer import peer_of
from jitgate.ssh.wire import FormatError

START_S: Final = 20.0
STOP_S: Final = 5.0
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8"}  # the service's own may hold secrets
_COMMAND: Final = (sys.executable, "-I", "-m", "jitgate", "signer")  # -I: no code from the working folder


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """`keys`: folder of key files, may be read-only; `rules`: its `signer.toml`; `state`: folder of its list."""

    keys: Path
    rules: Path
    state: Path
    command: tuple[str, ...] = _COMMAND
    socket: str = ""
    """Where a signer listens that runs apart; the others are then its own."""


@dataclass(slots=True, eq=False)
class Child:
    """`process`: none of a signer that runs apart."""

    process: asyncio.subprocess.Process | None
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pid: int
    gone: asyncio.Event


class _Watched(asyncio.StreamReaderProtocol):
    """Notices the end of a stream while nobody reads it."""

    def __init__(self, reader: asyncio.StreamReader, gone: asyncio.Event) -> None:
        super().__init__(reader)
        self._gone = gone

    def eof_received(self) -> bool | None:
        self._gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        super().connection_lost(exc)


async def start(settings: SignerSettings) -> Child:
    child = await (_reach(settings.socket) if settings.socket else _start(settings))
    try:
        child.writer.write(protocol.put_request(Hello()))
        async with asyncio.timeout(START_S):
            protocol.take_keys(await read_frame(child.reader))
    except BaseException as error:
        await stop(child)
        where = f"the signer at {settings.socket} does not answer" if settings.socket else "the signer does not start"
        if isinstance(error, SignerFailed):
            raise Unreachable(f"{where}: {error.what}", error.hint) from None
        if isinstance(error, OSError | EOFError | FormatError | TimeoutError):
            raise Unreachable(where, "its own lines in the log say why") from None
        raise
    return child


async def _reach(path: str) -> Child:
    """Connect to a signer that runs apart."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.connect(path)
        pid, _ = peer_of(connection)
    except OSError as error:
        connection.close()
        hint = "systemctl status jitgate-signer; `signer` in jitgate.toml names its socket"
        raise Unreachable(f"no signer at {path}: {error.strerror}", hint) from None
    reader = asyncio.StreamReader()
    transport, held = await loop.create_unix_connection(lambda: _Watched(reader, gone), sock=connection)
    return Child(None, reader, asyncio.StreamWriter(transport, held, reader, loop), pid, gone)


async def _start(settings: SignerSettings) -> Child:
    ours, theirs = socket.socketpair()
    with contextlib.closing(theirs):
        paths = ("--keys", settings.keys, "--rules", settings.rules, "--state", settings.state)
        try:
            process = await asyncio.create_subprocess_exec(
                *settings.command,
                "--fd",
                str(theirs.fileno()),
                *map(str, paths),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT,
            )
        except OSError as error:
            ours.close()
            raise Unreachable(f"the signer does not start: {error.strerror}", "is the installation whole?") from None
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return Child(process, reader, writer, process.pid, asyncio.Event())


async def stop(child: Child) -> None:
    """Closing the connection ends the child; one that hangs is killed. A signer apart goes on."""
    child.writer.close()
    if child.process is not None:
        try:
            async with asyncio.timeout(STOP_S):
                await child.process.wait()
        except TimeoutError:
            child.process.kill()
            await child.process.wait()
    with contextlib.suppress(OSError):
        await child.writer.wait_closed()


async def end_of(child: Child) -> NoReturn:
    if child.process is not None:
        raise EOFError(f"it ended with status {await child.process.wait()}")
    await child.gone.wait()
    raise EOFError("it hung up")


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(protocol.length_of(await reader.readexactly(4)))
