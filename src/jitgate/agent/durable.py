"""Files that are whole at every moment: written beside, synced, and moved into place."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from jitgate.core.errors import Error, Unsafe

PRIVATE = 0o600
PUBLIC = 0o644  # sshd reads some of them as the user who logs in
_SUFFIX = ".jitgate-new"


class NotWritten(Error):
    """A full, read-only or broken disk. What was there before is there still."""

    default_code = "not_written"


def put(
    path: Path, data: bytes, mode: int, *, new: Path | None = None, check: Callable[[Path], None] | None = None
) -> None:
    """Replaces `path` by the data, on the disk when this returns. `NotWritten`: nothing has changed.

    `new`: where it is written first, on the same disk; a kill may leave it there, and the next call writes over it.
    `check` looks at that file and raises what it likes: then nothing has changed either.
    """
    new = new or path.with_name(path.name + _SUFFIX)
    try:
        _write(new, data, mode)
        if check:
            check(new)
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise NotWritten(f"cannot write {path}: {error.strerror}", "is the disk full, or read-only?") from error
    except Error:
        new.unlink(missing_ok=True)
        raise


def _write(new: Path, data: bytes, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        new.unlink()  # what a killed call left, or a link that somebody put there: never written through
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(file, "wb") as stream:
        os.fchmod(file, mode)  # whatever the umask is
        stream.write(data)
        stream.flush()
        os.fsync(file)


def sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def get(path: Path, most: int) -> bytes | None:
    """The file's bytes, None when there is none. `Unsafe` for more than `most`, a link, or what is no file of ours."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unsafe(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(file)
        if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
            raise Unsafe(f"others than its owner can write {path}", f"chmod 600 {path}")
        data = stream.read(most + 1)
    if len(data) > most:
        raise Unsafe(f"{path} has more than {most} bytes")
    return data


def make_folder(path: Path) -> None:
    """A folder for us alone. `Unsafe` when others can write it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Unsafe(f"{path} is not a folder that only we can write", f"chmod 700 {path}")
