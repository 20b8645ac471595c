"""Files of the Vault surface's audit devices: one line a request, appended, below one folder that the settings name."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jitgate.core.errors import BadInput

FILE_MAX: Final = 1 << 30  # bytes; a file that is moved away begins anew
SPARE: Final = 16 << 20  # bytes that a disk keeps: whatever else is on it has to go on
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def audit_files(folder: Path) -> Callable[[str, bytes], None]:
    """Appends a line to a file of that name in the folder, 0600. Raises `OSError`, also for a file that is as large as
    it may get and a disk without room; `BadInput` for a path. An empty line: only whether one could be appended."""

    def append(name: str, line: bytes) -> None:
        if Path(name).name != name or name in ("", ".", ".."):
            raise BadInput(f"not a file's name: {name!r}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / name, _FLAGS, 0o600)
        try:
            if os.fstat(descriptor).st_size >= FILE_MAX:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            disk = os.fstatvfs(descriptor)
            if disk.f_bavail * disk.f_frsize < SPARE or os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    return append
