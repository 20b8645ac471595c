"""The program that moves the bytes of tunnels: nothing but the standard library, started by carrier.py.

It is handed pairs of connected sockets over a SOCK_SEQPACKET pair and copies each into the other, both ways, until both
have closed, one breaks, or it is told to end a pair. It holds no secret, decides nothing, and ends with its parent.

The bytes go from socket to socket through a pipe (splice(2)); Python never sees them. A pipe is borrowed only while
something is in it, so an idle tunnel is two sockets and a few small objects. A direction reads nothing while its last
bytes are unsent: that is the whole of back-pressure. A half-close is passed on.

Messages, one a packet. To here: `O` id (and two descriptors: client, host), `E` id. From here: `D` id, why (one of
below), bytes to the host, bytes from it; `T` bytes moved since the last one.
"""

import collections
import contextlib
import fcntl
import os
import resource
import select
import socket
import struct
import sys
import time

ID = 26  # bytes of an id: a ULID
OPEN, END, DONE, TOTAL = b"O", b"E", b"D", b"T"
REPORT = struct.Struct("!c26scQQ")
COUNT = struct.Struct("!cQQ")
CLIENT_CLOSED, HOST_CLOSED, CLIENT_GONE, HOST_GONE, HALF_CLOSED, TOLD, LOST = (bytes([code]) for code in range(1, 8))
"""Why a pair ended: who closed first, whose connection broke; LOST: its descriptors did not come through."""

CHUNK = 1 << 20  # bytes moved by one call
TURN = 8 << 20  # bytes that one direction moves before others have their turn
PIPE = 1 << 20  # bytes of a large pipe (fcntl(2) F_SETPIPE_SZ); what an unprivileged user may have by default
BULK = 1 << 20  # bytes that a direction moves before it is worth a large pipe
LARGE_MAX = 32  # large pipes: half of what all pipes of a user may hold (pipe(7), pipe-user-pages-soft)
SPARE_MAX = 32  # pipes of either kind that are kept for the next
HALF_CLOSED_S = 60.0  # seconds without a byte after one side has closed: sshd and ssh then end at once
LINGER_S = 2.0  # seconds for what was sent last to be read, where closing at once would throw it away
COUNT_S = 1.0
DESCRIPTORS = 65_536  # wanted; two a tunnel, two for each direction that waits for its receiver

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


Pipe = tuple[int, int, bool]
"""Its end to read from, its end to write to, whether it is a large one."""


class Pipes:
    """Empty pipes, for whoever has bytes in flight."""

    def __init__(self) -> None:
        self._spare: dict[bool, list[Pipe]] = {False: [], True: []}
        self._large = 0

    def borrow(self, *, large: bool) -> Pipe:
        if large and not self._spare[True] and self._large < LARGE_MAX:
            return self._grown()
        for kind in (large, False):
            if self._spare[kind]:
                return self._spare[kind].pop()
        return (*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC), False)

    def give_back(self, pipe: Pipe) -> None:
        if len(self._spare[pipe[2]]) < SPARE_MAX:
            self._spare[pipe[2]].append(pipe)
        else:
            self.throw_away(pipe)

    def throw_away(self, pipe: Pipe) -> None:
        """One that still holds bytes."""
        self._large -= pipe[2]
        os.close(pipe[0])
        os.close(pipe[1])

    def close(self) -> None:
        for pipe in self._spare[False] + self._spare[True]:
            self.throw_away(pipe)

    def _grown(self) -> Pipe:
        ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE)
        except OSError:  # the user has as much as may be: small ones do
            return (*ends, False)
        self._large += 1
        return (*ends, True)


class Way:
    """One direction of a pair."""

    __slots__ = ("broken", "can_read", "can_write", "done", "moved", "pending", "pipe", "sink", "source", "starved")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.pipe: Pipe | None = None
        self.pending = self.moved = 0
        self.can_read = self.can_write = True  # not known otherwise: trying tells
        self.done = False
        self.starved = False  # no pipe was to be had: this process has as many descriptors as it may
        self.broken: socket.socket | None = None

    def move(self, pipes: Pipes) -> bool:
        """Move until there is nothing to read or no room to write; True if it was stopped by `TURN`."""
        stop = self.moved + TURN
        while not self.done:
            if self.pipe is not None and self.pending:
                if not self.can_write or not self._write(self.pipe):
                    break
            elif not self.can_read:
                break
            elif self.moved >= stop:
                return True
            elif not self._read(pipes):
                break
        if self.pipe is not None and (self.done or not self.pending):
            (pipes.throw_away if self.pending else pipes.give_back)(self.pipe)
            self.pipe = None
        return False

    def _read(self, pipes: Pipes) -> bool:
        if self.pipe is None:
            try:
                self.pipe = pipes.borrow(large=self.moved > BULK)
            except OSError:
                self.starved = True
                return False
        try:
            count = os.splice(self.source.fileno(), self.pipe[1], CHUNK, flags=_FLAGS)
        except BlockingIOError:
            self.can_read = False
            return False
        except OSError:
            self.broken, count = self.source, 0
        if count:
            self.pending = count
            return True
        self._finish()
        return False

    def _write(self, pipe: Pipe) -> bool:
        try:
            count = os.splice(pipe[0], self.sink.fileno(), self.pending, flags=_FLAGS)
        except BlockingIOError:
            self.can_write = False
            return False
        except OSError:
            self.broken = self.sink
            self._finish()
            return False
        self.pending -= count
        self.moved += count
        return True

    def _finish(self) -> None:
        """Nothing more comes, or nothing more is taken. Whoever reads at the other end is told."""
        self.done = True
        with contextlib.suppress(OSError):
            self.sink.shutdown(socket.SHUT_WR)


class Pair:
    SIDES = ("client", "host")
    __slots__ = ("client", "first", "host", "id", "quiet_since", "quiet_sum", "ways")

    def __init__(self, identifier: bytes, client: socket.socket, host: socket.socket) -> None:
        self.id, self.client, self.host = identifier, client, host
        self.ways = (Way(client, host), Way(host, client))
        self.first = b""  # why it ends, as soon as one way has
        self.quiet_since, self.quiet_sum = 0.0, 0

    def on_event(self, descriptor: int, events: int) -> None:
        for way in self.ways:
            if events & _READABLE and way.source.fileno() == descriptor:
                way.can_read = True
            if events & _WRITABLE and way.sink.fileno() == descriptor:
                way.can_write = True

    def move(self, pipes: Pipes) -> bool:
        """True if it is to have another turn."""
        up, down = self.ways
        again = False
        for way, other, closed in ((up, down, CLIENT_CLOSED), (down, up, HOST_CLOSED)):
            if way.done:
                continue
            again |= way.move(pipes)
            if not way.done:
                continue
            if not self.first:
                gone = CLIENT_GONE if way.broken is self.client else HOST_GONE
                self.first = gone if way.broken else closed
            if way.broken is way.source:
                other.done = True  # it has nobody to write to
            elif way.broken:
                other.can_read = again = True  # what had come before it broke is still to be read
        return again

    @property
    def is_over(self) -> bool:
        return self.ways[0].done and self.ways[1].done


class Mover:
    """All pairs of this process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        control.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._pairs: dict[bytes, Pair] = {}
        self._by_descriptor: dict[int, Pair] = {}
        self._ready: collections.deque[Pair] = collections.deque()  # those that have more to move than one turn
        self._starved: list[Pair] = []  # tried again a little later
        self._half: dict[bytes, Pair] = {}  # those of which one way is done
        self._lingering: collections.deque[tuple[float, socket.socket]] = collections.deque()  # to be closed then
        self._outgoing: collections.deque[bytes] = collections.deque()  # messages for the parent
        self._busy = False  # something may have moved since it was counted
        self._pipes = Pipes()
        self._moved = [0, 0]  # bytes of pairs that have ended
        self._told = (0, 0)
        self._counted = 0.0

    def run(self) -> None:
        """Until the parent closes its end."""
        while True:
            for descriptor, events in self._epoll.poll(self._patience()):
                if descriptor == self._control.fileno():
                    if not self._obey(events):
                        return
                elif pair := self._by_descriptor.get(descriptor):
                    pair.on_event(descriptor, events)
                    self._move(pair)
            for _ in range(len(self._ready)):
                self._move(self._ready.popleft())
            self._tidy()

    def close(self) -> None:
        """All that it holds; for one that is no process of its own."""
        for pair in list(self._pairs.values()):
            self._drop(pair, TOLD)
        for _, each in self._lingering:
            each.close()
        self._pipes.close()
        self._epoll.close()

    def _patience(self) -> float | None:
        if self._ready:
            return 0
        return COUNT_S if self._busy or self._half or self._lingering or self._starved else None

    def _move(self, pair: Pair) -> None:
        if self._pairs.get(pair.id) is not pair:
            return
        self._busy = True
        if pair.move(self._pipes) and not pair.is_over:
            self._ready.append(pair)
        if pair.is_over:
            self._drop(pair, pair.first)
        elif pair.first:
            self._half.setdefault(pair.id, pair)
        if any(way.starved for way in pair.ways):
            self._starved.append(pair)
            for way in pair.ways:
                way.starved = False

    def _obey(self, events: int) -> bool:
        if events & select.EPOLLOUT:
            self._send()
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._control, 64, 2)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not message:
                return False
            identifier = bytes(message[1 : 1 + ID])
            if message[:1] == OPEN and len(descriptors) == len(Pair.SIDES):
                self._open(identifier, *(socket.socket(fileno=each) for each in descriptors))
            elif message[:1] == OPEN:  # the system kept them from a process that has as many as it may
                for each in descriptors:
                    os.close(each)
                self._outgoing.append(REPORT.pack(DONE, identifier, LOST, 0, 0))
                self._send()
            elif message[:1] == END and (pair := self._pairs.get(identifier)):
                self._abort(pair)
                self._drop(pair, TOLD)

    def _open(self, identifier: bytes, client: socket.socket, host: socket.socket) -> None:
        pair = Pair(identifier, client, host)
        self._pairs[identifier] = pair
        for each in (client, host):
            each.setblocking(False)
            self._by_descriptor[each.fileno()] = pair
            self._epoll.register(each.fileno(), _EVENTS)
        self._ready.append(pair)

    def _abort(self, pair: Pair) -> None:
        """Nothing that was not delivered yet reaches the host any more."""
        pair.host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _drop(self, pair: Pair, why: bytes) -> None:
        up, down = pair.ways
        del self._pairs[pair.id]
        self._half.pop(pair.id, None)
        for way in pair.ways:
            if way.pipe is not None:
                self._pipes.throw_away(way.pipe)
                way.pipe = None
        broken = any(way.broken for way in pair.ways)
        for each in (pair.client, pair.host):
            del self._by_descriptor[each.fileno()]
            self._epoll.unregister(each.fileno())
            if broken and why != TOLD:
                self._lingering.append((time.monotonic() + LINGER_S, each))
            else:
                each.close()
        self._moved[0] += up.moved
        self._moved[1] += down.moved
        self._outgoing.append(REPORT.pack(DONE, pair.id, why, up.moved, down.moved))
        self._send()

    def _send(self) -> None:
        try:
            while self._outgoing:
                self._control.send(self._outgoing[0])
                self._outgoing.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()  # the parent has gone; reading tells so
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._outgoing else 0)
        self._epoll.modify(self._control.fileno(), wanted)

    def _tidy(self) -> None:
        now = time.monotonic()
        while self._lingering and self._lingering[0][0] <= now:
            self._lingering.popleft()[1].close()
        if now - self._counted < COUNT_S:
            return
        self._counted = now
        self._ready.extend(self._starved)
        self._starved.clear()
        for pair in list(self._half.values()):
            moved = pair.ways[0].moved + pair.ways[1].moved
            if moved != pair.quiet_sum or not pair.quiet_since:
                pair.quiet_sum, pair.quiet_since = moved, now
            elif now - pair.quiet_since > HALF_CLOSED_S:
                self._drop(pair, HALF_CLOSED)
        if not self._busy:
            return
        up, down = (self._moved[at] + sum(each.ways[at].moved for each in self._pairs.values()) for at in (0, 1))
        total = (up, down)
        self._busy = total != self._told
        if self._busy:
            self._outgoing.append(COUNT.pack(TOTAL, total[0] - self._told[0], total[1] - self._told[1]))
            self._told = total
            self._send()


def main(descriptor: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    with contextlib.suppress(KeyboardInterrupt):  # a terminal's Ctrl-C is for the parent, which then closes its end
        Mover(socket.socket(fileno=descriptor)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
