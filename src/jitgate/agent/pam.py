"""The lines in sshd's PAM file by which the agent is told who logs in: put there and taken out again, byte for byte.

pam_exec runs a program as root with PAM's variables as its environment, where LD_PRELOAD makes it anybody's. So none of
the user's may be among them by then (the environment that sshd gives a session is no part of PAM's):
- ours is for `open_session` alone: when a session closes, pam_env may have read a file of the user's;
- it stands first, before all others that open the session; only pam_loginuid, which makes the audit session by which a
  login's processes are found, is before it, so that a login is never told without one (a second time it does nothing);
- it is a comment where a file of the user's is read before any session (pam_env with user_readenv in the auth stack).

A line of an older form, or that is not first any more, is mended at the agent's start and at its next look. It is
optional and quiet: a hook that fails or is gone refuses nobody.
"""

import re
import sys
from pathlib import Path
from typing import Final

from jitgate.agent import durable, login_hook
from jitgate.agent.sshd import Sshd
from jitgate.core.errors import Error, NotFound, Unsafe

FILE: Final = Path("/etc/pam.d/sshd")
FOLDER: Final = "pam"  # below the state folder; only root writes there
HOOK: Final = "login-hook.py"
_HEAD: Final = "# jitgate agent: who logs in, told by PAM. Undo: jitgate agent logins --off\n"
_START: Final = "session optional pam_exec.so quiet type=open_session "
_AUDIT: Final = "-session optional pam_loginuid.so\n"
_LINE: Final = rf"(?:# )?session optional pam_exec\.so quiet .*/{re.escape(HOOK)} .*"
_OURS: Final = re.compile(rf"^(?:{re.escape(_HEAD)}(?:{re.escape(_AUDIT)})?)?{_LINE}(?:\n|\Z)", re.MULTILINE)
_INCLUDE: Final = re.compile(r"@include\s+(\S+)|-?auth\s+(?:include|substack)\s+(\S+)", re.IGNORECASE)
_READS: Final = re.compile(r"-?auth\s.*\bpam_env\.so\b.*user_readenv=(?!0+\b)", re.IGNORECASE)
_FOLDERS: Final = (Path("/etc/pam.d"), Path("/usr/lib/pam.d"))
_FILE_MAX: Final = 1 << 16


def install(sshd: Sshd, state: Path, file: Path = FILE) -> bool:
    """Puts the hook and the line there; False when they are there already. `Unsafe` where sshd does not use PAM, or
    lets a user choose PAM's variables before a session begins."""
    if "yes" not in sshd.effective().get("usepam", ()):
        raise Unsafe("this sshd does not use PAM", "UsePAM yes in sshd_config, or let the agent read the journal")
    if found := _read_by_auth(file):
        hint = "take user_readenv=1 out, or let the agent read the journal"
        raise Unsafe(f"{found} reads variables of the user's", hint)
    return _put(state, file)


def mend(state: Path, file: Path = FILE) -> str:
    """The line as it has to be, where one of this agent's stands in another form or place. What is wrong now."""
    try:
        text = _read(file)
    except NotFound:
        return ""
    if not any(f" {state / HOOK} " in found[0] for found in _OURS.finditer(text)):
        return ""
    _put(state, file)
    return trouble(file)


def remove(file: Path = FILE) -> bool:
    """Takes our lines out; False when there are none."""
    try:
        text = _read(file)
    except NotFound:
        return False
    left = _without(text)
    if left == text:
        return False
    durable.put(file, left.encode("utf-8", "surrogateescape"), _mode(file))
    return True


def is_installed(state: Path, file: Path = FILE) -> bool:
    try:
        return _read(file).startswith(_lines(state, live=True))
    except NotFound:
        return False


def trouble(file: Path = FILE) -> str:
    """What is wrong with our line, whoever looks; empty where there is none or nothing is."""
    try:
        text = _read(file)
    except Error as error:
        return "" if isinstance(error, NotFound) else error.what
    if not _OURS.search(text):
        return ""
    if found := _read_by_auth(file):
        return f"{found} reads variables of the user's: PAM cannot tell the agent of logins"
    if not text.startswith(_HEAD + _AUDIT + _START):
        return f"our line in {file} is of an older form or not the first: a user may become root by it"
    return ""


def _put(state: Path, file: Path) -> bool:
    text = _read(file)
    lines = _lines(state, live=not _read_by_auth(file))
    durable.make_folder(state)
    durable.make_folder(state / FOLDER)
    hook = state / HOOK
    code = Path(login_hook.__file__).read_bytes()
    if durable.get(hook, _FILE_MAX) != code:
        durable.put(hook, code, durable.PRIVATE)
    wanted = lines + _without(text)
    if text == wanted:
        return False
    durable.put(file, wanted.encode("utf-8", "surrogateescape"), _mode(file))
    return True


def _lines(state: Path, *, live: bool) -> str:
    command = (str(Path(sys.executable).resolve()), "-I", "-S", str(state / HOOK), str(state / FOLDER))
    if any(set(word) & set(" []\\\n") for word in command):
        raise Unsafe("a path with a space or a bracket cannot stand in a PAM file", "choose another --state")
    return f"{_HEAD}{_AUDIT}{'' if live else '# '}{_START}{' '.join(command)}\n"


def _without(text: str) -> str:
    left = _OURS.sub("", text)
    if any(f"/{HOOK}" in line.partition("#")[0] for line in left.splitlines()):
        raise Unsafe("our line is not as jitgate made it", f"look for {HOOK} in the PAM file")
    return left


def _read_by_auth(file: Path) -> str:
    """The file with a line of the auth stack that lays a user's own variables into PAM's; empty without one. sshd has
    the whole stack set its credentials before it opens a session, also for who came by a key."""
    left, seen = [file], {file}
    while left:
        path = left.pop()
        try:
            text = path.read_text("utf-8", "surrogateescape").replace("\\\n", " ")
        except OSError:
            continue
        for line in (each.partition("#")[0].strip() for each in text.splitlines()):
            if _READS.match(line):
                return str(path)
            if found := _INCLUDE.match(line):
                also = {folder / (found[1] or found[2]) for folder in (file.parent, *_FOLDERS)}
                left += also - seen
                seen |= also
    return ""


def _read(file: Path) -> str:
    data = durable.get(file, _FILE_MAX)
    if data is None:
        raise NotFound(f"there is no {file}", "is sshd built with PAM here?")
    return data.decode("utf-8", "surrogateescape")


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o777
