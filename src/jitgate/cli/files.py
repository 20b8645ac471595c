"""Our own files: where they are, how they are written, which are refused.

Folders 0700, files 0600. In the state folder nothing is followed: a link, another owner or an open mode there is
somebody else's doing, and is refused rather than repaired.
"""

import os
import secrets
import stat
from pathlib import Path

from jitgate.core.errors import NotFound, Unsafe
from jitgate.core.text import shown

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_OPEN_TO_OTHERS = 0o077
_WRITABLE_BY_OTHERS = 0o022
LIMIT = 1 << 20  # bytes; the largest file of ours is the ssh config
_PLAIN = frozenset("/._@+:,=- ")


def home() -> Path:
    return Path.home()


def config_home() -> Path:
    return _xdg("XDG_CONFIG_HOME", ".config") / "jitctl"


def state_home() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state") / "jitctl"


def _xdg(variable: str, default: str) -> Path:
    """XDG Base Directory Specification: a path that is not absolute is ignored."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else home() / default


def private_folder(path: Path) -> Path:
    """The folder, made if it is missing. `Unsafe` if it is a link, not ours, or open to others."""
    path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        _check(path, os.lstat(path), folder=True)
    return path


def read_private(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of one of our files. `NotFound` if it is missing, `Unsafe` if it is a link, not ours or open."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"no such file: {shown(str(path), 200)}") from None
    except OSError as error:
        if path.is_symlink():
            raise _unsafe(path, "is a link", f"look where it leads, then: rm {path}") from None
        raise error from None
    with os.fdopen(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor), folder=False)
        return _bounded(path, file.read(limit + 1), limit)


def read_own(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a file that steers us but holds no secret: links are followed, writing by others is refused."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _unsafe(path, "is not a file", "")
        if status.st_uid not in (os.geteuid(), 0):
            raise _unsafe(path, "belongs to another user", f"ls -l {path}")
        if status.st_mode & _WRITABLE_BY_OTHERS:
            raise _unsafe(path, "can be written by others", f"chmod go-w {path}")
        return _bounded(path, file.read(limit + 1), limit)


def write_private(path: Path, content: bytes, mode: int = FILE_MODE, *, time: int | None = None) -> None:
    """Whole or not at all: a new file beside it, then renamed over it. `time`: the file's, in seconds since 1970."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if time is not None:
            os.utime(temporary, (time, time))
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def for_ssh(path: Path) -> str:
    """The path as it may stand in an ssh config, where `%`, `$`, `~` and quotes mean something; else `Unsafe`."""
    text = str(path)
    if not all(c.isalnum() or c in _PLAIN for c in text):
        raise Unsafe(
            f"a path that ssh would read as something else: {shown(text, 200)}",
            "set XDG_STATE_HOME and XDG_CONFIG_HOME to paths of letters, digits and . _ - @ + : , =",
        )
    return text


def _check(path: Path, status: os.stat_result, *, folder: bool) -> None:
    right_kind = stat.S_ISDIR(status.st_mode) if folder else stat.S_ISREG(status.st_mode)
    if not right_kind:
        what = "is a link" if stat.S_ISLNK(status.st_mode) else "is not a folder" if folder else "is not a file"
        raise _unsafe(path, what, f"look at it, then move it away: {path}")
    if status.st_uid != os.geteuid():
        raise _unsafe(path, "belongs to another user", "run jitctl as the user whose folder this is")
    if status.st_mode & _OPEN_TO_OTHERS:
        raise _unsafe(path, f"is open to others (mode {status.st_mode & 0o777:04o})", f"chmod go-rwx {path}")


def _bounded(path: Path, content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        raise _unsafe(path, f"is larger than {limit} bytes", "")
    return content


def _unsafe(path: Path, what: str, hint: str) -> Unsafe:
    return Unsafe(f"{shown(str(path), 200)} {what}", hint)
