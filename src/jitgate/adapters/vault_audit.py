"""Files of the Vault surface's audit devices: one line a request, appended, below one folder that the settings name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jitgate.core.errors import BadInput

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def audit_files(folder: Path) -> Callable[[str, bytes], None]:
    """Appends a line to a file of that name in the folder, 0600. Raises `OSError`; `BadInput` for a path."""

    def append(name: str, line: bytes) -> None:
        if Path(name).name != name or name in ("", ".", ".."):
            raise BadInput(f"not a file's name: {name!r}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / name, _FLAGS, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    return append
