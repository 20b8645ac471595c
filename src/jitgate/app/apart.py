"""What a signer that runs apart is worth: nothing, where the service's user can read its keys all the same."""

import os
from pathlib import Path

from jitgate.app.installation import rules_file
from jitgate.app.settings import Settings

_SHOWN = 5


def within_reach(settings: Settings) -> list[str]:
    """Keys that this process could read, and rules that it could write, though the signer runs apart.

    Copies that stayed in the state folder count. Root can read everything, and is not asked.
    """
    if not settings.signer or os.geteuid() == 0:
        return []
    folders = {settings.keys_folder, settings.state / "keys", settings.signers_folder / "keys"}
    found: list[str] = []
    rules = rules_file(settings)
    if os.access(rules, os.W_OK) or (rules.exists() and os.access(rules.parent, os.W_OK)):
        found.append(str(rules))
    found += [str(path) for folder in sorted(folders) for path in _files(folder) if os.access(path, os.R_OK)]
    return found[:_SHOWN]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.endswith(".pub"))
    except OSError:
        return []
