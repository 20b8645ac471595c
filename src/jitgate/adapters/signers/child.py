"""The signer as a child process: started over a pair of sockets, asked once whether it is well, stopped."""

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


@dataclass(slots=True, eq=False)
class Child:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def start(settings: SignerSettings) -> Child:
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
    child = Child(process, reader, writer)
    try:
        writer.write(protocol.put_request(Hello()))
        async with asyncio.timeout(START_S):
            protocol.take_keys(await read_frame(reader))
    except BaseException as error:
        await stop(child)
        if isinstance(error, SignerFailed):
            raise Unreachable(f"the signer does not start: {error.what}", error.hint) from None
        if isinstance(error, OSError | EOFError | FormatError | TimeoutError):
            raise Unreachable("the signer does not start", "its own lines in the log say why") from None
        raise
    return child


async def stop(child: Child) -> None:
    """Closing the connection ends the child; one that hangs is killed."""
    child.writer.close()
    try:
        async with asyncio.timeout(STOP_S):
            await child.process.wait()
    except TimeoutError:
        child.process.kill()
        await child.process.wait()
    with contextlib.suppress(OSError):
        await child.writer.wait_closed()


async def end_of(process: asyncio.subprocess.Process) -> NoReturn:
    raise EOFError(f"it ended with status {await process.wait()}")


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(protocol.length_of(await reader.readexactly(4)))
