"""Key files and the signer's own file: read only when nobody else could have read or written them.

What is checked is what was opened, by its descriptor. The folder may be on a read-only mount. A link is followed only
to a place inside the folder (that is how Kubernetes mounts a secret), and nobody but its owner can write the folder.

Who can read a key is `adapters.secret_file`'s to say. A folder on a read-only mount cannot be written, whatever its
mode says: Kubernetes mounts a secret's as 1777.
"""

import os
import stat
from pathlib import Path
from typing import Final

from jitgate.adapters.custody.sealed import is_sealed, unseal
from jitgate.adapters.secret_file import is_ours_alone
from jitgate.ca.places import SealedPlace
from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.ssh.private import MAX_FILE, SoftwareKey, dump_private_key, load_private_key

Mark = tuple[int, ...] | None
"""Device and number of a file first, then mode, owner and group, then the rest."""
_OTHERS_WRITE: Final = 0o022
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not hold us up


def check_folder(folder: Path) -> Path:
    """The folder's real path; `Unsafe` when somebody else could put files into it."""
    real = Path(os.path.realpath(folder))
    try:
        found = real.stat()
    except OSError as error:
        raise NotFound(f"no folder {folder}: {error.strerror}", "make a new installation with: jitgate init") from None
    if not stat.S_ISDIR(found.st_mode):
        raise BadInput(f"{folder} is not a folder")
    _check_owner(found, folder)
    if found.st_mode & _OTHERS_WRITE and not os.statvfs(real).f_flag & os.ST_RDONLY:
        raise Unsafe(f"others can write the folder {folder}", f"chmod go-w {folder}")
    return real


def load_key(folder: Path, name: str, sealed: SealedPlace | None = None) -> SoftwareKey:
    """The private key `name` in the folder; `Unsafe` when group or others may read it. `sealed`: who opens its seal."""
    content = _read(folder, name, MAX_FILE, secret=True)
    try:
        if is_sealed(content):
            content = unseal(sealed, content).reveal()
        return load_private_key(content)
    except BadInput as error:
        raise BadInput(f"{folder / name}: {error.what}", error.hint) from None


def mark_of(path: Path) -> Mark:
    """What changes when the file does, links followed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    owner = (found.st_mode, found.st_uid, found.st_gid)
    return (found.st_dev, found.st_ino, *owner, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def load_text(path: Path, limit: int) -> str:
    """A file of rules: others may read it, not write it."""
    try:
        return _read(path.parent, path.name, limit, secret=False).decode()
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None


def write_new(path: Path, content: bytes) -> None:
    """A file that did not exist, 0600, durable when this returns; its folder is synced too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def write_key(folder: Path, name: str, key: SoftwareKey) -> None:
    write_new(folder / name, dump_private_key(key, name).reveal())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(folder: Path, name: str, limit: int, *, secret: bool) -> bytes:
    root = check_folder(folder)
    path = Path(os.path.realpath(root / name))
    if not path.is_relative_to(root):
        raise Unsafe(f"{folder / name} leads out of its folder", "put the file itself there")
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        raise NotFound(f"cannot open {folder / name}: {error.strerror}", "is it the signer's own, mode 0600?") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Unsafe(f"{folder / name} is not a file")
        _check_owner(found, folder / name)
        if not is_ours_alone(descriptor, found) if secret else found.st_mode & _OTHERS_WRITE:
            mode = stat.S_IMODE(found.st_mode)
            raise Unsafe(f"{folder / name} has mode {mode:04o}", f"chmod {0o600 if secret else 0o644:04o} it")
        if found.st_size > limit:
            raise BadInput(f"{folder / name} has {found.st_size} bytes", f"at most {limit}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def _check_owner(found: os.stat_result, path: Path) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise Unsafe(f"{path} belongs to uid {found.st_uid}", f"it must be uid {os.geteuid()}'s or root's")
