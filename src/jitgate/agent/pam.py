"""The line in sshd's PAM file by which the agent is told who logs in: put there and taken out again, byte for byte.

It stands first: modules of the session that come later may set variables from a file of the user's (pam_env). It is
optional and quiet: a hook that fails or is gone refuses nobody.
"""

import sys
from pathlib import Path
from typing import Final

from jitgate.agent import durable, login_hook
from jitgate.agent.sshd import Sshd
from jitgate.agent.watch import FOLDER
from jitgate.core.errors import NotFound, Unsafe

FILE: Final = Path("/etc/pam.d/sshd")
HOOK: Final = "login-hook.py"
_HEAD: Final = "# jitgate agent: who logs in, told by PAM. Undo: jitgate agent logins --off\n"
_FILE_MAX: Final = 1 << 16


def install(sshd: Sshd, state: Path, file: Path = FILE) -> bool:
    """Puts the hook and the line there; False when they are there already. `Unsafe` where sshd does not use PAM."""
    if "yes" not in sshd.effective().get("usepam", ()):
        raise Unsafe("this sshd does not use PAM", "UsePAM yes in sshd_config, or let the agent read the journal")
    text = _read(file)
    durable.make_folder(state)
    durable.make_folder(state / FOLDER)
    hook = state / HOOK
    code = Path(login_hook.__file__).read_bytes()
    if durable.get(hook, _FILE_MAX) != code:
        durable.put(hook, code, durable.PRIVATE)
    lines = _lines(state)
    if text.startswith(lines):
        return False
    durable.put(file, (lines + _without(text)).encode("utf-8", "surrogateescape"), _mode(file))
    return True


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
        return _read(file).startswith(_lines(state))
    except NotFound:
        return False


def _lines(state: Path) -> str:
    command = (str(Path(sys.executable).resolve()), "-I", "-S", str(state / HOOK), str(state / FOLDER))
    if any(set(word) & set(" []\\\n") for word in command):
        raise Unsafe("a path with a space or a bracket cannot stand in a PAM file", "choose another --state")
    return f"{_HEAD}session optional pam_exec.so quiet {' '.join(command)}\n"


def _without(text: str) -> str:
    if not text.startswith(_HEAD):
        return text
    ours, _, rest = text.removeprefix(_HEAD).partition("\n")
    if not ours.startswith("session optional pam_exec.so quiet "):
        raise Unsafe("the line after ours is not as jitgate made it", "look at the first lines of the PAM file")
    return rest


def _read(file: Path) -> str:
    data = durable.get(file, _FILE_MAX)
    if data is None:
        raise NotFound(f"there is no {file}", "is sshd built with PAM here?")
    return data.decode("utf-8", "surrogateescape")


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o777
