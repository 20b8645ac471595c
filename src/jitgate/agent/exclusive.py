"""The owner's word that nothing but jitgate opens this host any more; undone by itself unless it is confirmed.

`preview` lists what would stop working. `begin` puts one more drop-in before ours, which switches keys in files,
passwords and other authorities off, proves by sshd that it is in force for everybody who has a login, and starts the
clock: unless `confirm` is called before it has run out, the drop-in goes away again. Three watch the clock, for the
session that began it may be the one that is locked out: a process of its own that outlives ours, `jitgate agent run`,
and, where there is one, the next start of either after a reboot.
"""

import contextlib
import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jitgate.agent import doctor, durable
from jitgate.agent.sshd import Effective, Sshd
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Conflict, NotFound, Unsafe
from jitgate.core.text import shown

NAME: Final = "09-jitgate-only.conf"  # sshd takes the first value: before ours, 10-jitgate.conf
_RECORD: Final = "exclusive.json"
_RECORD_MAX: Final = 4096
_NO_LOGIN: Final = ("nologin", "false", "sync", "halt", "shutdown")
_HEAD: Final = "# Made by jitgate: only its certificates open this host. Undo: jitgate agent exclusive --undo\n"
_OFF: Final = {
    "passwordauthentication": "PasswordAuthentication no",
    "kbdinteractiveauthentication": "KbdInteractiveAuthentication no",
    "hostbasedauthentication": "HostbasedAuthentication no",
    "gssapiauthentication": "GSSAPIAuthentication no",
    "kerberosauthentication": "KerberosAuthentication no",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """One way in that would stop working."""

    login: str
    what: str


def drop_in(sshd: Sshd) -> Path:
    return sshd.drop_in.with_name(NAME)


def preview(sshd: Sshd) -> list[Loss]:
    """Everything that opens a login today and would not any more, in general and for each login that has a shell."""
    general = sshd.effective()
    found = [
        Loss("", f"certificates of the CA keys in {value}")
        for value in general.get("trustedusercakeys", ())
        if value not in ("none", str(sshd.folder / "user_ca.pub"))
    ]
    for keyword in ("authorizedkeyscommand", "authorizedprincipalscommand"):
        found += [Loss("", f"{keyword} {value}") for value in general.get(keyword, ()) if value != "none"]
    for account in accounts():
        found += _losses(sshd, account)
    return found


def accounts() -> list[pwd.struct_passwd]:
    """Those who can have a session."""
    return [each for each in pwd.getpwall() if Path(each.pw_shell).name not in _NO_LOGIN]


def _losses(sshd: Sshd, account: pwd.struct_passwd) -> Iterator[Loss]:
    said = sshd.effective(account.pw_name)
    for path in doctor.key_files(sshd, said, account):
        if count := doctor.count_keys(path):
            yield Loss(account.pw_name, f"{count} key(s) in {path}")
    for keyword in _OFF:
        if "yes" in said.get(keyword, ()):
            yield Loss(account.pw_name, keyword)


def begin(sshd: Sshd, state: Path, until: Micros) -> list[str]:
    """In force until then, unless it is confirmed; the logins for which that was proved. `Unsafe`: nothing changed."""
    if not sshd.drop_in.exists():
        raise NotFound("this host has not joined", "jitgate agent join")
    if drop_in(sshd).exists():
        raise Conflict("only jitgate opens this host already", "jitgate agent exclusive --keep or --undo")
    general = sshd.effective()
    for whom in ("", *(each.pw_name for each in accounts())):
        for value in sshd.effective(whom).get("authenticationmethods", ()):
            if value != "any":
                what = f"AuthenticationMethods of {whom or 'everybody'} asks for {shown(value)}"
                raise Unsafe(f"{what}: with passwords off nobody could answer it", "take it out first")
    settings = _settings(sshd, general)
    durable.put(state / _RECORD, json.dumps({"until": until}).encode(), durable.PRIVATE)
    try:
        durable.put(drop_in(sshd), (_HEAD + "\n".join(settings) + "\n").encode(), durable.PUBLIC)
        proved = _prove(sshd, settings)
        _start_watch(sshd, state, until)
        sshd.do_reload()
    except BaseException:
        undo(sshd, state)
        raise
    return proved


def confirm(state: Path, sshd: Sshd) -> None:
    """It stays. `NotFound` when there is nothing to confirm."""
    if not drop_in(sshd).exists():
        raise NotFound("nothing is to be confirmed: it was undone, or never begun", "jitgate agent exclusive")
    (state / _RECORD).unlink(missing_ok=True)
    durable.sync_folder(state)


def undo(sshd: Sshd, state: Path) -> bool:
    """All that let people in before does again; whether there was something to undo. `Unsafe` when sshd says no."""
    there = drop_in(sshd).exists()
    if there:
        drop_in(sshd).unlink()
        durable.sync_folder(drop_in(sshd).parent)
        sshd.do_reload()
    (state / _RECORD).unlink(missing_ok=True)
    return there


def until(state: Path) -> Micros | None:
    """When it will be undone; None when it is not waiting for a word."""
    data = durable.get(state / _RECORD, _RECORD_MAX)
    if data is None:
        return None
    try:
        found = json.loads(data)["until"]
    except (ValueError, KeyError, TypeError):
        return 0  # torn: undone at once, which locks nobody out
    return found if isinstance(found, int) else 0


def undo_when_due(sshd: Sshd, state: Path, now: Micros) -> bool:
    ends = until(state)
    return ends is not None and now >= ends and undo(sshd, state)


def _settings(sshd: Sshd, general: Effective) -> list[str]:
    """What switches the rest off, in words that this sshd knows."""
    beside = (sshd.folder / "authorized_keys").is_dir()
    lines = [f"AuthorizedKeysFile {sshd.folder}/authorized_keys/%u" if beside else "AuthorizedKeysFile none"]
    if beside:
        lines += ["TrustedUserCAKeys none", "AuthorizedPrincipalsFile none"]
        lines += ["AuthorizedPrincipalsCommand none"] if "authorizedprincipalscommand" in general else []
    lines += ["AuthorizedKeysCommand none"] if "authorizedkeyscommand" in general else []
    return lines + [line for keyword, line in _OFF.items() if keyword in general]


def _prove(sshd: Sshd, settings: list[str]) -> list[str]:
    if trouble := sshd.trouble():
        raise Unsafe(f"sshd does not accept it: {shown(trouble, 200)}")
    logins = [each.pw_name for each in accounts()]
    for whom in ("", *logins):
        said = sshd.effective(whom)
        for line in settings:
            keyword, _, value = line.partition(" ")
            now = said.get(keyword.lower(), ("none",))
            if value not in now:
                where = f"for {whom}" if whom else "in general"
                raise Unsafe(
                    f"not in force {where}: {line}; it is {shown(' '.join(now))}", "a Match, or a file before it"
                )
    return logins


_WATCH: Final = """\
trap '' HUP INT TERM
while [ -e "$1" ]; do
  now=$(date +%s)
  if [ "$now" -ge "$2" ]; then
    rm -f "$3" && sh -c "$4" && rm -f "$1"
    [ -e "$1" ] || exit 0
  fi
  sleep 1
done
"""


def _start_watch(sshd: Sshd, state: Path, ends: Micros) -> None:
    """A process of its own session: it outlives ours, the terminal, and the login that began it.

    Plain sh: there is nothing that an upgrade or a lost Python could take from it.
    """
    record, second = str(state / _RECORD), str(-(-ends // SECOND))
    command = ["/bin/sh", "-c", _WATCH, "jitgate-undo", record, second, str(drop_in(sshd)), sshd.reload_command()]
    if Path("/run/systemd/system").is_dir() and os.geteuid() == 0:  # a session's own processes may end with it
        asked = ["systemd-run", "--quiet", "--collect", *command]
        with contextlib.suppress(OSError):
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:  # noqa: S603  # no text of others
                return
    quiet = subprocess.DEVNULL
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/", close_fds=True)  # noqa: S603  # as above
