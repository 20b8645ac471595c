"""Moving a CA key to another keeper: what an operator's own command does, never the service.

A key that its keeper lets out is copied, shown to be the same, and named in `signer.toml` by where it lies now; hosts
and people notice nothing. For one that is not let out a new key is made there, and a rotation begins.
"""

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jitgate.adapters.custody.folder import Folder
from jitgate.adapters.custody.keyring import open_custody
from jitgate.adapters.custody.port import Custody, Guarded
from jitgate.adapters.custody.sealed import is_sealed
from jitgate.adapters.signers.files import load_text
from jitgate.app.installation import rules_file
from jitgate.app.key_files import as_owner, replace_rules
from jitgate.app.settings import Settings
from jitgate.ca.mounts import MountCeiling
from jitgate.ca.places import is_place
from jitgate.ca.realms import CaKind
from jitgate.ca.rules import ANY, FILE_MAX, FolderCeiling, Rules, kind_of, read_rules
from jitgate.core.errors import BadInput, Conflict, NotFound, Unsafe
from jitgate.core.text import shown
from jitgate.ssh.pubkey import Algorithm, PublicKey

KEEPERS: Final = ("file", "sealed", "agent", "pkcs11", "transit")
LEFT: Final = "~"  # at the end of a name: no table means such a file
_PROBE: Final = b"jitgate-custody-probe-v1\n"  # no certificate, no checkpoint, no list of trust begins so
_KEYS: Final = re.compile(r"(?ms)^keys = \[(.*?)\]")
_NUMBERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Moved:
    """`name`: what `signer.toml` calls the key now. `left`: a file that still holds it. `is_new`: another key."""

    name: str
    key: PublicKey
    realm: str
    kind: CaKind
    left: Path | None = None
    is_new: bool = False


def move_key(settings: Settings, name: str, keeper: str, label: str = "", algorithm: Algorithm | None = None) -> Moved:
    """Copy a key there, or make a new one where it is not let out. What was there before is still there.

    Raises `NotFound`, `BadInput`, `Conflict`, and what either keeper raises; nothing has changed then, but for a copy
    that nobody uses.
    """
    path = rules_file(settings)
    with as_owner(settings.keys_folder):
        rules = read_rules(load_text(path, FILE_MAX))
        ceiling = _ceiling(rules, name)
        with closing(_open(settings, rules, name.partition(":")[0] if is_place(name) else "file")) as source:
            if isinstance(source, Folder):
                return _copied(settings, rules, ceiling, name, keeper, label, source)
            standing = source.key(name.partition(":")[2]).public
        return _made(settings, rules, ceiling, name, keeper, label, algorithm or standing.algorithm)


def leave_behind(moved: Moved) -> Path | None:
    """Give the file that a copied key was in a name that no table means; that name. The signer must hold the copy."""
    if moved.left is None:
        return None
    with as_owner(moved.left.parent):
        new = moved.left.with_name(moved.left.name + LEFT)
        moved.left.rename(new)
        return new


def _copied(
    settings: Settings, rules: Rules, ceiling: FolderCeiling, name: str, keeper: str, label: str, source: Folder
) -> Moved:
    key = source.key(name)
    realm, kind = ceiling.realm, kind_of(ceiling)
    if keeper in {"file", "sealed"}:
        folder = Folder(settings.keys_folder, rules.places.sealed, sealing=keeper == "sealed")
        if is_sealed((settings.keys_folder / name).read_bytes()) == (keeper == "sealed"):
            raise Conflict(f"{name} is {'sealed' if keeper == 'sealed' else 'in a file'} already")
        folder.put_again(name, key)
        return Moved(name, key.public, realm, kind)
    with closing(_open(settings, rules, keeper)) as target:
        label = label or name
        target.put(label, key)
        place = f"agent:{key.public.fingerprint}" if keeper == "agent" else f"{keeper}:{label}"
        _prove(target, place, key.public)
    _name_it(rules_file(settings), ceiling, name, place, instead=True)
    return Moved(place, key.public, realm, kind, left=settings.keys_folder / name)


def _made(
    settings: Settings, rules: Rules, ceiling: FolderCeiling, name: str, keeper: str, label: str, algorithm: Algorithm
) -> Moved:
    with closing(_open(settings, rules, keeper)) as target:
        key, label = _make(target, label or _stem(name, ceiling), algorithm, numbered=not label)
        place = label if keeper in {"file", "sealed"} else f"{keeper}:{label}"
        _prove(target, place, key)
    if rules.ceiling_of(place) is None:
        _name_it(rules_file(settings), ceiling, name, place, instead=False)
    elif rules.ceiling_of(place) != ceiling:
        raise BadInput(f"another table of signer.toml means {place}", "choose another --name")
    return Moved(place, key, ceiling.realm, kind_of(ceiling), is_new=True)


def _make(target: Custody, stem: str, algorithm: Algorithm, *, numbered: bool) -> tuple[PublicKey, str]:
    """A new key under the first name that is free, and that name."""
    for number in range(1, _NUMBERS):
        label = f"{stem}-{number}" if number > 1 else stem
        try:
            return target.make(label, algorithm), label
        except Conflict:
            if not numbered:
                raise
    raise Conflict(f"every name from {stem} on is taken", "choose one with --name")


def _stem(name: str, ceiling: FolderCeiling) -> str:
    """What the new key is called by: the old one's label; its table, where that says nothing."""
    scheme, _, label = name.partition(":")
    return f"{ceiling.realm}-{kind_of(ceiling)}_ca" if scheme == "agent" else label.partition(":")[0]


def _open(settings: Settings, rules: Rules, keeper: str) -> Custody:
    if keeper in {"file", "sealed"}:
        return Folder(settings.keys_folder, rules.places.sealed, sealing=keeper == "sealed")
    return open_custody(rules.places, keeper)


def _prove(target: Custody, place: str, key: PublicKey) -> None:
    """It is there, it is this key, and it signs."""
    found = Guarded(target.key(place.partition(":")[2] if is_place(place) else place))
    if found.public != key:
        raise Unsafe(f"{place} shows another key than was put there", "take it away, and look who else writes there")
    found.sign(_PROBE)


def _ceiling(rules: Rules, name: str) -> FolderCeiling:
    if name in rules.other_files():
        raise BadInput(f"{shown(name)} is no CA key", "it is moved by hand while the service stands: docs/custody.md")
    ceiling = rules.ceiling_of(name)
    if ceiling is None:
        raise NotFound(f"no table of signer.toml means {shown(name)}", "jitgate ca ls shows the names, as FILE")
    if isinstance(ceiling, MountCeiling):
        raise BadInput("a mount's key stays in the signer's state folder", "docs/vault.md")
    return ceiling


def _name_it(path: Path, ceiling: FolderCeiling, name: str, place: str, *, instead: bool) -> None:
    """Have the table of this key name the place: instead of its name if it stands there whole, else before it."""
    standing = name if name in ceiling.keys else _beginning(name, ceiling.keys)
    text = load_text(path, FILE_MAX)
    lists = [found for found in _KEYS.finditer(text) if f'"{standing}"' in found[1]]
    if len(lists) != 1:
        what = f'{path} has no line keys = [... "{standing}" ...] that could be edited'
        raise BadInput(what, f'write "{place}" there, before or in place of it')
    start, end = lists[0].span()
    new = f'"{place}"' if instead and standing == name else f'"{place}", "{standing}"'
    edited = text[:start] + lists[0][0].replace(f'"{standing}"', new, 1) + text[end:]
    found = read_rules(edited).ceiling_of(place)
    if found is None or (found.realm, kind_of(found)) != (ceiling.realm, kind_of(ceiling)):
        raise BadInput(f"{path} is not edited: {place} would stand in another table", "write it there by hand")
    replace_rules(path, edited)


def _beginning(name: str, keys: tuple[str, ...]) -> str:
    return next(each for each in keys if each.endswith(ANY) and name.startswith(each[:-1]))
