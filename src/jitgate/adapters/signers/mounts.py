"""Keys of Vault mounts: made by the signer, kept 0600 in its own folder beside its list, let out never.

One file a key, `REALM.NUMBER`. Without a `[[mount]]` table in `signer.toml` none is made, and those that are there sign
nothing. A key is durable before anybody hears of it.
"""

from pathlib import Path
from typing import Final

from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.files import load_key, write_key
from jitgate.ca.model import RefusedFile
from jitgate.ca.mounts import FOLDER, realm_of_file
from jitgate.core.errors import Error
from jitgate.ssh.private import SoftwareKey

NAME: Final = "mounts"
FILES_MAX: Final = 4096


class MountKeys:
    """The folder, and what of it the desk holds."""

    def __init__(self, state: Path) -> None:
        self._folder = state / NAME

    def hold_all(self, desk: Desk) -> None:
        """Hold every key that a table means; what is not taken is said to whoever asks what the desk holds."""
        if not self._folder.is_dir():
            return
        refused = []
        for name in sorted(path.name for path in self._folder.iterdir())[:FILES_MAX]:
            file = FOLDER + name
            if realm_of_file(file) is None or desk.holds(file):
                continue
            try:
                desk.hold(file, load_key(self._folder, name))
            except Error as error:
                refused.append(RefusedFile(file, error.what, error.hint))
        desk.mounts_refused = tuple(refused)

    def keep(self, file: str, key: SoftwareKey) -> bool:
        """Write a new key's file; False if there is one of that name. Raises `OSError`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_key(self._folder, file.removeprefix(FOLDER), key)
        except FileExistsError:
            return False
        return True
