"""What somebody may come back by after their grant has ended: files that changed while they were in.

By the time of the last change of each file's inode, which its owner cannot set back. Reading only, by `lstat`, and no
link that leads out of a home is followed: whoever lays one does not learn what root can see.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from pwd import struct_passwd
from typing import Final

from jitgate.core.clock import SECOND, Micros

_FILES_MAX: Final = 500  # looked at in one folder
_OF_HOME: Final = (
    ("key", ".ssh"),
    ("user unit", ".config/systemd/user"),
    ("autostart", ".config/autostart"),
    ("environment", ".pam_environment"),
)
_KEY_FILES: Final = frozenset({"authorized_keys", "authorized_keys2", "rc", "environment"})
_SYSTEM: Final = (
    ("cron", "/etc/cron.d"),
    ("cron", "/etc/crontab"),
    ("sudo", "/etc/sudoers.d"),
    ("sudo", "/etc/sudoers"),
    ("account", "/etc/passwd"),
    ("account", "/etc/shadow"),
    ("sshd", "/etc/ssh/sshd_config"),
    ("sshd", "/etc/ssh/sshd_config.d"),
    ("unit", "/etc/systemd/system"),
)
"""For root alone to change; said because a session may have become root."""


def changed(
    account: struct_passwd, since: Micros, key_files: Iterable[Path] = (), *, root: Path = Path("/")
) -> list[tuple[str, str]]:
    """Kind and path of each; `since`: when the first session began. `root`: in the place of `/`, for tests."""
    second = since / SECOND - 0.1  # a file system's clock ticks more coarsely
    found = list(_of_home(Path(account.pw_dir), second))
    named = [
        *(("key", path) for path in key_files),
        ("crontab", root / "var/spool/cron/crontabs" / account.pw_name),
        ("crontab", root / "var/spool/cron" / account.pw_name),
        ("lingering services", root / "var/lib/systemd/linger" / account.pw_name),
    ]
    found += [(kind, str(path)) for kind, path in named if path.is_file() and _since(path, second)]
    found += [("at job", str(path)) for path in _owned(root / "var/spool/cron/atjobs", account.pw_uid, second)]
    for kind, name in _SYSTEM:
        path = root / name.lstrip("/")
        found += [(kind, str(each)) for each in ([path] if path.is_file() else _below(path)) if _since(each, second)]
    return list(dict.fromkeys(found))


def _of_home(home: Path, since: float) -> Iterator[tuple[str, str]]:
    for kind, name in _OF_HOME:
        path = home / name
        if Path(os.path.realpath(path)) != Path(os.path.realpath(home)) / name:
            if path.is_symlink() or path.exists():
                yield f"{kind}: a link that leads elsewhere", str(path)
            continue
        files = [path] if path.is_file() else _below(path)
        for each in files:
            if (kind != "key" or each.name in _KEY_FILES) and _since(each, since):
                yield kind, str(each)


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                found += _below(path) if entry.is_dir(follow_symlinks=False) and len(found) < _FILES_MAX else [path]
                if len(found) >= _FILES_MAX:
                    break
    except OSError:
        return found
    return sorted(found)


def _owned(folder: Path, uid: int, since: float) -> list[Path]:
    return [path for path in _below(folder) if _since(path, since) and path.lstat().st_uid == uid]


def _since(path: Path, since: float) -> bool:
    try:
        return path.lstat().st_ctime >= since
    except OSError:
        return False
