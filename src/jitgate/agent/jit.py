"""Accounts that nothing but jitgate's certificates opens: a managed `Match User` in a drop-in of its own.

By default those of the host's logins that had no account when it joined: nobody came by a key or a password before, so
nobody loses anything. For others the owner says so. `exclusive.py` is the same for the whole host.
"""

import pwd
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from jitgate.agent import durable
from jitgate.agent.sshd import Sshd
from jitgate.core.errors import Conflict, NotFound, Unsafe
from jitgate.core.text import check_name, shown

NAME: Final = "11-jitgate-logins.conf"
_HEAD: Final = (
    "# Made by jitgate: static keys and passwords do not open these. Undo: jitgate agent logins --open LOGIN\n"
)
_MATCH: Final = re.compile(r"^Match User ([a-z0-9_,.-]+)$", re.MULTILINE)
_MAX: Final = 1 << 16


def drop_in(sshd: Sshd) -> Path:
    return sshd.drop_in.with_name(NAME)


def closed(sshd: Sshd) -> tuple[str, ...]:
    """The logins that stand there now. `Unsafe` for a file that is not as it was made."""
    data = durable.get(drop_in(sshd), _MAX)
    if data is None:
        return ()
    text = data.decode("ascii", "replace")
    found = _MATCH.search(text)
    if not text.startswith(_HEAD) or not found:
        raise Unsafe(f"{drop_in(sshd)} is not as jitgate made it", "look at it, and take it away")
    return tuple(found[1].split(","))


def without_account(logins: Iterable[str]) -> list[str]:
    return [login for login in logins if not _exists(login)]


def put(sshd: Sshd, logins: Iterable[str]) -> bool:
    """These and no others; whether that changed anything. `Unsafe`, and all is as before, where sshd says no."""
    wanted = tuple(sorted({check_name("login", login) for login in logins}))
    before = durable.get(drop_in(sshd), _MAX)
    if wanted == closed(sshd):
        return False
    if not sshd.drop_in.exists():
        raise NotFound("this host has not joined", "jitgate agent join")
    try:
        _write(sshd, wanted)
        _prove(sshd, wanted)
    except BaseException:
        _restore(sshd, before)
        raise
    sshd.do_reload()
    return True


def remove(sshd: Sshd) -> bool:
    """Takes the drop-in away; the caller reloads sshd."""
    there = drop_in(sshd).exists()
    if there:
        closed(sshd)  # ours, or it stays
        drop_in(sshd).unlink()
        durable.sync_folder(drop_in(sshd).parent)
    return there


def _write(sshd: Sshd, logins: tuple[str, ...]) -> None:
    if not logins:
        _restore(sshd, None)
        return
    body = "".join(f"  {line}\n" for line in _settings(sshd))
    text = f"{_HEAD}Match User {','.join(logins)}\n{body}"
    durable.put(drop_in(sshd), text.encode("ascii"), durable.PUBLIC)


def _restore(sshd: Sshd, before: bytes | None) -> None:
    if before is not None:
        durable.put(drop_in(sshd), before, durable.PUBLIC)
    elif drop_in(sshd).exists():
        drop_in(sshd).unlink()
        durable.sync_folder(drop_in(sshd).parent)


def _settings(sshd: Sshd) -> list[str]:
    general = sshd.effective()
    beside = (sshd.folder / "authorized_keys").is_dir()
    lines = [f"AuthorizedKeysFile {sshd.folder}/authorized_keys/%u" if beside else "AuthorizedKeysFile none"]
    lines += ["AuthorizedKeysCommand none"] if "authorizedkeyscommand" in general else []
    off = ("PasswordAuthentication", "KbdInteractiveAuthentication", "HostbasedAuthentication", "GSSAPIAuthentication")
    return lines + [f"{keyword} no" for keyword in off if keyword.lower() in general]


def _prove(sshd: Sshd, logins: tuple[str, ...]) -> None:
    if trouble := sshd.trouble():
        raise Unsafe(f"sshd does not accept it: {shown(trouble, 200)}")
    settings = _settings(sshd)
    for login in logins:
        said = sshd.effective(login)
        for line in settings:
            keyword, _, value = line.partition(" ")
            if value not in (now := said.get(keyword.lower(), ("none",))):
                what = f"not in force for {login}: {line}; it is {shown(' '.join(now))}"
                raise Conflict(what, "a Match in a file before ours: jitgate agent doctor")


def _exists(login: str) -> bool:
    try:
        pwd.getpwnam(login)
    except KeyError:
        return False
    return True
