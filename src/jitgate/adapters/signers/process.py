"""The service's side: starts the signer as a child, speaks to it in batches, starts it again when it ends.

A few requests are a message, and some messages may be under way: the signer begins with the first while this side
makes what the others ask for. Everything that waits beyond that is the next message, so that the list is synced once
for all of it.

When the child ends, callers whose message was under way get `Unreachable`: what they asked for may be in the list and
was never theirs. Callers that still wait are served by the next child, or get `Unreachable` when it does not start.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.child import Child, SignerSettings, end_of, read_frame, start, stop
from jitgate.adapters.signers.protocol import (
    Bundles,
    Checkpoint,
    Generate,
    Hello,
    ListFrom,
    Op,
    Request,
    Result,
    Sign,
    Trust,
)
from jitgate.ca.model import HeldKeys, SignedEntry, SignedPage, SignRequest
from jitgate.ca.signed import parse_line
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.core.errors import BadInput, TooMany, Unreachable
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.ssh.wire import MAX_STRING

__all__ = ["ProcessSigner", "SignerSettings", "open_signer"]

ANSWER_S: Final = 30.0  # a disk that hangs longer is down; the child is then killed
FIRST_WAIT_S: Final = 0.05  # before another child; doubled each time until one answers
LONGEST_WAIT_S: Final = 5.0
WAITING_MAX: Final = 4096  # callers; beyond, the service answers at once that it is busy
UNDER_WAY: Final = 4  # messages
TOGETHER: Final = 4  # requests of one turn of the loop: so many do not wait for its end
REALM_MAX: Final = 64  # bytes

_logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_signer(settings: SignerSettings) -> "AsyncIterator[ProcessSigner]":
    """A signer that runs, until the context ends. Raises `Unreachable` with the child's own words if it does not."""
    signer = ProcessSigner(settings)
    child = await start(settings)
    signer.pid = child.pid
    running = asyncio.create_task(signer._run(child))  # noqa: SLF001  # its own factory
    try:
        yield signer
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await stop(child)  # a task that was cancelled before it began has stopped nothing


@dataclass(slots=True, eq=False)
class _Call:
    request: Request
    answer: asyncio.Future[bytes]


@dataclass(slots=True, eq=False)
class _SignCall:
    requests: tuple[SignRequest, ...]
    size: int
    answer: asyncio.Future[list[Result]]


_Message = _Call | list[_SignCall]


@dataclass(slots=True, eq=False)
class _Line:
    """To one child: what was sent to it and not answered, oldest first. `due` counts the same."""

    child: Child
    sent: deque[_Message]
    due: asyncio.Semaphore


class ProcessSigner:
    """A `ca.model.Signer` whose keys are in a child process. Made by `open_signer`."""

    def __init__(self, settings: SignerSettings) -> None:
        self._settings = settings
        self._waiting: deque[_Call | _SignCall] = deque()
        self._line: _Line | None = None
        self._turn_ends = False  # and then what waits is sent
        self._wait = FIRST_WAIT_S
        self._ended = False
        self.pid = 0
        """Its process; 0 while there is none."""

    async def keys(self) -> HeldKeys:
        return protocol.take_keys(await self._call(Hello()))

    async def sign(self, requests: Sequence[SignRequest]) -> list[Result]:
        parts = _parts(requests)
        if len(parts) == 1:  # as ever but for the signatures of a rotation
            return await self._add_signing(parts[0])
        calls = [self._add_signing(part) for part in parts]
        return [result for part in await asyncio.gather(*calls) for result in part]

    async def checkpoint(self, body: bytes) -> Result:
        if len(body) > MAX_STRING:
            raise BadInput("a checkpoint that is too long")
        return protocol.take_results(Op.CHECKPOINT, await self._call(Checkpoint(body)), 1)[0]

    async def trust(self, payload: bytes) -> Result:
        if len(payload) > TRUST_MAX:
            raise BadInput("a list of trust that is too long")
        return protocol.take_results(Op.TRUST, await self._call(Trust(payload)), 1)[0]

    async def bundles(self, payloads: Sequence[bytes]) -> list[Result]:
        found: list[Result] = []
        for part in _bundle_parts(payloads):
            answer = await self._call(Bundles(part))
            found += protocol.take_results(Op.BUNDLES, answer, len(part))
        return found

    async def generate(self, realm: str) -> Result:
        if len(realm.encode()) > REALM_MAX:
            raise BadInput("a realm's name that is too long")
        return protocol.take_results(Op.GENERATE, await self._call(Generate(realm)), 1)[0]

    async def signed(self, offset: int = 0) -> SignedPage:
        unreadable = 0
        while True:
            lines, after = protocol.take_page(await self._call(ListFrom(offset)))
            found = [parse_line(line) for line in lines.splitlines()]
            entries = tuple(each for each in found if isinstance(each, SignedEntry))
            unreadable += found.count(None)
            if entries or after == offset:  # a page of checkpoints alone is not the end
                return SignedPage(entries, after, unreadable)
            offset = after

    async def _call(self, request: Request) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._add(_Call(request, answer))
        return await answer

    def _add_signing(self, requests: tuple[SignRequest, ...]) -> asyncio.Future[list[Result]]:
        answer: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._add(_SignCall(requests, sum(map(_size, requests)), answer))
        return answer

    def _add(self, call: _Call | _SignCall) -> None:
        if self._ended:
            raise Unreachable("the signer was stopped", "the service is ending")
        if len(self._waiting) >= WAITING_MAX:
            raise TooMany("too many requests wait for the signer", "try again in a few seconds")
        self._waiting.append(call)
        if len(self._waiting) >= TOGETHER:
            self._send()
        elif not self._turn_ends:
            self._turn_ends = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn_ends = False
        self._send()

    async def _run(self, child: Child | None) -> None:
        """Talk to one child after the other until cancelled."""
        try:
            while True:
                if child is not None:
                    await self._talk(child)
                await asyncio.sleep(self._wait)
                self._wait = min(2 * self._wait, LONGEST_WAIT_S)
                child = await self._start_again()
        finally:
            self._ended = True
            _fail(self._waiting, Unreachable("the signer was stopped", "the service is ending"))

    async def _start_again(self) -> Child | None:
        try:
            return await start(self._settings)
        except Unreachable as error:
            _logger.error("%s; %s", error.what, error.hint)  # noqa: TRY400  # the child's words, not our stack
            _fail(self._waiting, error)
            return None

    async def _talk(self, child: Child) -> None:
        """Carry messages to this child until it ends or misbehaves."""
        self.pid = child.pid
        line = self._line = _Line(child, deque(), asyncio.Semaphore(0))
        self._send()
        work = (self._receive(line), end_of(child))
        # No TaskGroup: in Python 3.11.2 (Debian 12) a timeout in a task whose group has failed ends the task
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            _logger.warning("the signer is gone: %r", next(task.exception() for task in tasks if task.done()))
        finally:
            self.pid = 0
            self._line = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gone = Unreachable("the signer ended before it answered", "try again; nothing was issued")
            for message in line.sent:
                _fail(message if isinstance(message, list) else [message], gone)
            await stop(child)

    def _send(self) -> None:
        """What waits, as far as messages may be under way: so little that the socket takes it, or the loop keeps it."""
        line = self._line
        while line and len(line.sent) < UNDER_WAY and (message := self._next_message()):
            line.sent.append(message)
            line.due.release()
            line.child.writer.write(protocol.put_request(_request(message)))

    async def _receive(self, line: _Line) -> None:
        while True:
            await line.due.acquire()
            async with asyncio.timeout(ANSWER_S):
                payload = await read_frame(line.child.reader)
            _settle(line.sent[0], payload)
            line.sent.popleft()
            self._send()
            self._wait = FIRST_WAIT_S

    def _next_message(self) -> _Message | None:
        """All sign calls that wait one behind the other, up to the limits of a message; or one other call."""
        batch: list[_SignCall] = []
        count = size = 0
        while self._waiting:
            call = self._waiting[0]
            if call.answer.cancelled():  # nobody waits for it any more: nothing is signed for nobody
                self._waiting.popleft()
            elif isinstance(call, _Call):
                if batch:
                    return batch
                self._waiting.popleft()
                return call
            elif count + len(call.requests) > protocol.MAX_BATCH or size + call.size > protocol.MAX_BATCH_BYTES:
                return batch
            else:
                self._waiting.popleft()
                batch.append(call)
                count, size = count + len(call.requests), size + call.size
        return batch or None


def _parts(requests: Sequence[SignRequest]) -> list[tuple[SignRequest, ...]]:
    """The requests in messages' sizes. `BadInput` for one that the signer would take for an attack."""
    parts: list[list[SignRequest]] = []
    size = 0
    for request in requests:
        if len(request.tbs) > MAX_STRING or len(request.realm.encode()) > REALM_MAX:
            raise BadInput(f"a certificate of {len(request.tbs)} bytes", f"at most {MAX_STRING}")
        size += _size(request)
        if not parts or len(parts[-1]) == protocol.MAX_BATCH or size > protocol.MAX_BATCH_BYTES:
            parts.append([])
            size = _size(request)
        parts[-1].append(request)
    return [tuple(part) for part in parts]


def _bundle_parts(payloads: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    parts: list[list[bytes]] = []
    size = 0
    for payload in payloads:
        if len(payload) > BUNDLE_MAX:
            raise BadInput(f"a bundle of {len(payload)} bytes", f"at most {BUNDLE_MAX}")
        size += len(payload) + 4
        if not parts or len(parts[-1]) == protocol.MAX_BUNDLES or size > protocol.MAX_BATCH_BYTES:
            parts.append([])
            size = len(payload) + 4
        parts[-1].append(payload)
    return [tuple(part) for part in parts]


def _size(request: SignRequest) -> int:
    return len(request.tbs) + REALM_MAX + 8  # and two lengths


def _request(message: _Message) -> Request:
    if isinstance(message, list):
        return Sign(tuple(request for call in message for request in call.requests))
    return message.request


def _settle(message: _Message, payload: bytes) -> None:
    if not isinstance(message, list):
        if not message.answer.done():
            message.answer.set_result(payload)
        return
    results = protocol.take_results(Op.SIGN, payload, sum(len(call.requests) for call in message))
    for call in message:
        if not call.answer.done():
            call.answer.set_result(results[: len(call.requests)])
        del results[: len(call.requests)]


def _fail(calls: deque[_Call | _SignCall] | list[_SignCall] | list[_Call], error: Unreachable) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(Unreachable(error.what, error.hint))
    calls.clear()
