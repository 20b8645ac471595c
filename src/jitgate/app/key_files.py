"""What an operator's own command writes for the signer: key files, and tables of `signer.toml`.

The service never does this: it could then give itself keys and ceilings. Files belong to whoever owns the folder, so
that a command run by root makes what the service's user can read; nothing that is there is written over.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jitgate.adapters.custody.sealed import is_sealed
from jitgate.adapters.signers.files import load_text, sync_folder, write_key
from jitgate.app.installation import HOST_KEY, INTERCEPTION_KEY, USER_KEY, rules_file
from jitgate.app.settings import Settings
from jitgate.ca.places import is_place
from jitgate.ca.realms import DEFAULT_REALM, CaKind
from jitgate.ca.rules import FILE_MAX, read_rules, realm_tables
from jitgate.core.errors import BadInput, Conflict
from jitgate.core.text import shown
from jitgate.ssh.private import SoftwareKey, generate_ed25519
from jitgate.ssh.pubkey import PublicKey

_NAMES: Final = {CaKind.USER: USER_KEY, CaKind.HOST: HOST_KEY, CaKind.INTERCEPTION: INTERCEPTION_KEY}
_REALM: Final = re.compile(r'(?m)^realm = "([^"]*)"\n')
_TRUSTED: Final = re.compile(r"(?m)^trusted = \[([^\]]*)\]\n")
_NUMBERS: Final = 1000


def first_file(realm: str, kind: CaKind) -> str:
    """The name of a realm's first key; others begin with it and a `-`. No realm's name has a dot or a `_`."""
    return _NAMES[kind] if realm == DEFAULT_REALM else f"{realm}.{_NAMES[kind]}"


def tables_of(realm: str) -> str:
    """What `signer.toml` says of a new realm."""
    return realm_tables(realm, {kind: first_file(realm, kind) for kind in _NAMES})


def make_realm(settings: Settings, realm: str) -> None:
    """Keys first, then the tables that mean them. Goes on where one that was interrupted has stopped."""
    with as_owner(settings.keys_folder):
        for kind in _NAMES:
            if not (settings.keys_folder / first_file(realm, kind)).exists():
                write_key(settings.keys_folder, first_file(realm, kind), generate_ed25519())
    path = rules_file(settings)
    text = _text(path)
    if any(each.realm == realm for each in read_rules(text).ceilings):
        raise Conflict(f"{path} has a table for the realm {realm}, and the signer no key", "jitgate ca ls says why")
    replace_rules(path, text + tables_of(realm))


def make_next_key(settings: Settings, realm: str, kind: CaKind, standing: str) -> str:
    """A new key beside the realm's others of that kind; the name of its file. `standing`: what the signer calls the one
    that signs now. `BadInput` where that one is kept better than in a plain file."""
    if is_place(standing) or is_sealed((settings.keys_folder / standing).read_bytes()):
        what = f"the key that signs is kept better than in a plain file: {shown(standing)}"
        raise BadInput(
            what, "make the next one where that is, and name it: --key; or jitgate ca move (docs/custody.md)"
        )
    first = first_file(realm, kind)
    names = (f"{first}-{number}" for number in range(2, _NUMBERS))
    name = next(name for name in names if not (settings.keys_folder / name).exists())
    rules = read_rules(_text(rules_file(settings)))
    ceiling = rules.ceiling_of(name)
    if ceiling is None or ceiling.realm != realm:
        what = f"no table of signer.toml means a file {name}"
        raise BadInput(what, f'keys = ["{first}", "{first}-*"]; or bring a key yourself: --key')
    bring_key(settings, name, generate_ed25519())
    return name


def bring_key(settings: Settings, name: str, key: SoftwareKey) -> None:
    """Into the signer's folder, as its owner's. `FileExistsError` for a name that is there."""
    with as_owner(settings.keys_folder):
        write_key(settings.keys_folder, name, key)


def trust_elsewhere(settings: Settings, realm: str, kind: CaKind, key: PublicKey) -> None:
    """Have the signer take lists of trust with this key, which it does not hold."""
    path = rules_file(settings)
    text = _text(path)
    blocks = re.split(r"(?m)^(?=\[)", text)
    for place, block in enumerate(blocks):
        found = _REALM.search(block)
        if block.startswith(f"[[{kind}]]") and found and found[1] == realm:
            blocks[place] = _with_key(block, found.end(), key.line())
            break
    else:
        raise BadInput(f"{path} has no [[{kind}]] table of the realm {realm} that could be edited", "add it by hand")
    replace_rules(path, "".join(blocks))


def _text(path: Path) -> str:
    with as_owner(path.parent):
        return load_text(path, FILE_MAX)


def _with_key(block: str, place: int, line: str) -> str:
    if standing := _TRUSTED.search(block):
        keys = standing[1].strip().rstrip(",")
        return block[: standing.start()] + f'trusted = [{keys}, "{line}"]\n' + block[standing.end() :]
    return block[:place] + f'trusted = ["{line}"]\n' + block[place:]


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Root acts as the signer's user there: what it makes is that user's, and what that user cannot do is not done."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def replace_rules(path: Path, text: str) -> None:
    """The rules with this text, whole or not at all; refused if the signer would refuse it."""
    read_rules(text)
    with as_owner(path.parent):
        _replace(path, text)


def _replace(path: Path, text: str) -> None:
    before = path.stat()
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, before.st_mode & 0o777)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    sync_folder(path.parent)
