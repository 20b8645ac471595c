"""The file of the signer's list: appended to and synced, never rewritten (`ca.signed` has the lines)."""

import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final

from jitgate.adapters.signers.files import check_folder, sync_folder
from jitgate.ca.signed import MARK, Summary, parse_line, summarize
from jitgate.core.errors import BadInput, Conflict, Unsafe

NAME: Final = "signed.list"
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SPAN: Final = 1 << 18  # bytes to begin with


class Ledger:
    """One signer's list, held with a lock. After an `OSError` from `append` it must not be used again."""

    def __init__(self, folder: Path, *, patience_s: float = 0) -> None:
        """Opens or begins the list; closes a torn last line. Raises `Unsafe`, `Conflict` when another signer has it.

        One whose service was killed ends by itself; it is waited for, up to `patience_s`.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = check_folder(folder)
        self._fd = os.open(real / NAME, _FLAGS, 0o600)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise Unsafe(f"{folder / NAME} is not a file of the signer's own, mode 0600", "chmod 0600 it")
        until = time.monotonic() + patience_s
        while not self._locked():
            if time.monotonic() >= until:
                raise Conflict(f"another signer has {folder / NAME}", "one signer for one list")
            time.sleep(0.05)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._write(b"\n")
        os.fsync(self._fd)
        sync_folder(real)

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def append(self, lines: list[bytes]) -> None:
        """All lines, durable when this returns: one write, one sync."""
        self._write(b"".join(lines))
        os.fdatasync(self._fd)

    def summary(self) -> Summary:
        """What the list amounts to: reads back to the last mark."""
        span = _SPAN
        while True:
            start = max(0, self._size - span)
            tail = os.pread(self._fd, self._size - start, start)
            if (at := _last_mark(tail)) is not None or start == 0:
                return summarize(tail[at:].splitlines())
            span *= 4

    def page(self, offset: int, limit: int) -> tuple[bytes, int]:
        """Whole lines from `offset` on, and the offset after them. `BadInput` when it is not the start of a line."""
        if offset and os.pread(self._fd, 1, offset - 1) != b"\n":
            raise BadInput(f"{offset} is not the start of a line of the list")
        found = os.pread(self._fd, limit, offset)
        lines = found[: found.rfind(b"\n") + 1]
        if not lines and len(found) == limit:
            raise BadInput(f"the list has an endless line at {offset}")
        return lines, offset + len(lines)

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        while data:
            written = os.write(self._fd, data)
            self._size += written
            data = data[written:]


def _last_mark(tail: bytes) -> int | None:
    """Where the last mark in `tail` begins that can be read: a torn one is passed over."""
    at = len(tail)
    while (at := tail.rfind(b"\n" + MARK, 0, at)) >= 0:
        if isinstance(parse_line(tail[at + 1 : tail.find(b"\n", at + 1)]), Summary):
            return at + 1
    return None
