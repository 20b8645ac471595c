"""A policy folder, read whole: every file counts, and one that would be passed over is an error, not silence.

A folder may carry `manifest.json` (`manifest`), written where the roles were reviewed. If it is there, the folder must
be exactly what it says: a half-copied folder could have lost a denial.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from jitgate.core.errors import BadInput, NotFound
from jitgate.core.text import shown
from jitgate.policy.bundle import FILES_MAX, PolicyBundle, load_files
from jitgate.policy.role_file import FILE_MAX

MANIFEST = "manifest.json"


def load_folder(path: Path) -> PolicyBundle:
    """The policy in a folder. Raises `NotFound` if there is none, `BadInput` for anything in it that is wrong."""
    contents = read_folder(path)
    unverified_manifest = contents.pop(MANIFEST, None)
    bundle = load_files(contents)
    if unverified_manifest is not None:
        _compare(unverified_manifest, bundle.files)
    return bundle


def read_folder(path: Path) -> dict[str, bytes]:
    """Every file's content by its name; README.md and names that begin with a dot are left out."""
    if not path.is_dir():
        raise NotFound(f"no folder {shown(str(path))}", "name a folder with role files")
    contents: dict[str, bytes] = {}
    try:
        for entry in sorted(path.iterdir()):
            if entry.name.startswith(".") or entry.name == "README.md":
                continue
            if not entry.is_file():
                raise BadInput(f"{shown(entry.name)} is no file", "keep the role files in one folder, without others")
            if len(contents) > FILES_MAX:
                raise BadInput(f"more than {FILES_MAX} files", "put several roles in one file")
            with entry.open("rb") as file:
                contents[entry.name] = file.read(FILE_MAX + 1)
    except OSError as error:
        raise BadInput(f"{shown(str(path))}: {error.strerror}", "make the role files readable") from None
    return contents


def manifest(bundle: PolicyBundle) -> str:
    """The text of `manifest.json` for the bundle's files."""
    return json.dumps({"version": 1, "digest": bundle.digest, "files": dict(bundle.files)}, indent=1) + "\n"


_ANEW = "when the files were reviewed: jitctl policy manifest DIR > DIR/manifest.json"


def _compare(unverified_manifest: bytes, files: Mapping[str, str]) -> None:
    try:
        value = json.loads(unverified_manifest)
        version, wanted = value["version"], dict(value["files"])
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{MANIFEST} is not readable", _ANEW) from None
    if version != 1:
        raise BadInput(f"{MANIFEST} has an unknown form", _ANEW)
    for name in sorted(wanted.keys() | files.keys()):
        if wanted.get(name) != files.get(name):
            how = "is missing" if name not in files else "is not listed" if name not in wanted else "has changed"
            raise BadInput(f"{shown(name)} {how}, by {MANIFEST}", f"copy the folder again, or {_ANEW}")
