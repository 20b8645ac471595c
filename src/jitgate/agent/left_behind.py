"""What somebody may come back by after their grant has ended: files that changed while they were in.

By the time of the last change of each file's inode, which its owner cannot set back. Reading only, by `lstat`, and no
link that leads out of a home is followed: whoever lays one does not learn what root can see.

Homes are arranged by those who are looked after: what cannot be looked at is passed over, names are escaped, and of
each kind a few are named, what only root could change first. So nothing there stops this or hides another thing.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from pwd import struct_passwd
from typing import Final

from jitgate.core.clock import SECOND, Micros

_ENTRIES_MAX: Final = 2000  # looked at below one folder, folders among them
_DEPTH_MAX: Final = 4
_NAMED_MAX: Final = 4  # of one kind; of the others how many they are
_OF_HOME: Final = (
    ("key", ".ssh/authorized_keys"),
    ("key", ".ssh/authorized_keys2"),
    ("key", ".ssh/rc"),
    ("key", ".ssh/environment"),
    ("user unit", ".config/systemd/user"),
    ("autostart", ".config/autostart"),
    ("environment", ".pam_environment"),
)
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
    found = [(kind, each) for kind, name in _SYSTEM for each in _files(root / name.lstrip("/"), second)]
    named = [
        *(("key", path) for path in key_files),
        ("crontab", root / "var/spool/cron/crontabs" / account.pw_name),
        ("crontab", root / "var/spool/cron" / account.pw_name),
        ("lingering services", root / "var/lib/systemd/linger" / account.pw_name),
    ]
    found += [(kind, path) for kind, path in named if _is_changed(_look(path), second)]
    jobs = _files(root / "var/spool/cron/atjobs", second)
    found += [("at job", path) for path in jobs if (at := _look(path)) and at.st_uid == account.pw_uid]
    found += _of_home(Path(account.pw_dir), second)
    kinds: dict[str, list[Path]] = {}
    for kind, path in dict.fromkeys(found):
        kinds.setdefault(kind, []).append(path)
    return [each for kind, paths in kinds.items() for each in _named(kind, paths)]


def _named(kind: str, paths: list[Path]) -> Iterator[tuple[str, str]]:
    for path in paths[:_NAMED_MAX]:
        yield kind, "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in str(path))
    if len(paths) > _NAMED_MAX:
        yield kind, f"and {len(paths) - _NAMED_MAX} more"


def _of_home(home: Path, since: float) -> Iterator[tuple[str, Path]]:
    real = Path(os.path.realpath(home))
    for kind, name in _OF_HOME:
        path = home / name
        links = [each for each in (path, *path.parents) if home in each.parents and _is_link(each)]
        leads_to = Path(os.path.realpath(path))
        if not links or real in leads_to.parents:
            yield from ((kind, each) for each in _files(leads_to if links else path, since))
            yield from ((kind, each) for each in links if _is_changed(_look(each), since))
        else:
            yield f"{kind}: a link that leads elsewhere", links[-1]


def _files(path: Path, since: float) -> list[Path]:
    """The file, or the files below the folder, that changed; of a folder with very many of them some."""
    there = _look(path)
    if there is None or not stat.S_ISDIR(there.st_mode):
        return [path] if _is_changed(there, since) else []
    found: list[Path] = []
    folders, count = [(path, 1)], 0
    while folders:
        folder, depth = folders.pop(0)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    count += 1
                    if count > _ENTRIES_MAX:
                        return sorted(found)
                    if not entry.is_dir(follow_symlinks=False):
                        found += [Path(entry.path)] if _is_changed(_look(Path(entry.path)), since) else []
                    elif depth < _DEPTH_MAX:
                        folders.append((Path(entry.path), depth + 1))
        except OSError:
            continue
    return sorted(found)


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _is_link(path: Path) -> bool:
    there = _look(path)
    return there is not None and stat.S_ISLNK(there.st_mode)


def _is_changed(there: os.stat_result | None, since: float) -> bool:
    return there is not None and not stat.S_ISDIR(there.st_mode) and there.st_ctime >= since
