"""What a host's sshd really does with our settings, and what else lets people in. It reads, and changes nothing.

Each finding is a sentence with the place, and what to do. `stop`: joining would stop there. `problem`: something is not
as it should be. `note`: nothing is wrong, but the owner should know.
"""

import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from jitgate.agent import hostkey, pam, revoked
from jitgate.agent.sshd import Effective, Setting, Sshd
from jitgate.core.clock import DAY, SECOND, Micros, rfc3339
from jitgate.core.errors import Error
from jitgate.core.text import shown
from jitgate.ssh.cert import parse_certificate_line

_CERT_SETTINGS: Final = ("trustedusercakeys", "authorizedprincipalsfile", "authorizedprincipalscommand")
_SHADOWS: Final = (*_CERT_SETTINGS, "revokedkeys", "pubkeyauthentication", "casignaturealgorithms")
_QUIET: Final = ("QUIET", "FATAL", "ERROR")
_PENALTIES: Final = (9, 8)  # the OpenSSH that brought PerSourcePenalties and its exempt list
_COMMA: Final = (10, 3)  # the first without CVE-2026-35414
_OLDEST: Final = (8, 2)
_FILE_MAX: Final = 1 << 20
_WRITABLE: Final = 0o022
_CERTIFICATE: Final = "ssh-ed25519-cert-v01@openssh.com"


class Level(StrEnum):
    STOP = "stop"
    PROBLEM = "problem"
    NOTE = "note"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    code: str
    what: str
    hint: str = ""


def examine(sshd: Sshd, logins: Sequence[str], now: Micros, *, gateways: Sequence[str] = ()) -> list[Finding]:
    """All findings. `logins`: those that are to be opened, or are; `gateways`: addresses that people come from."""
    if trouble := sshd.trouble():
        return [
            Finding(
                Level.STOP, "config", f"sshd does not accept its configuration: {shown(trouble, 200)}", "see: sshd -t"
            )
        ]
    try:
        general, settings = sshd.effective(), sshd.settings()
    except Error as error:
        return [Finding(Level.STOP, "config", error.what, error.hint)]
    found = [*_version(sshd), *_included(sshd, settings), *_others(sshd, general, settings)]
    found += _host_key(sshd, general)
    if wrong := pam.trouble():
        found.append(Finding(Level.PROBLEM, "pam", wrong, "jitgate agent run mends it; or: jitgate agent logins --off"))
    if sshd.drop_in.exists():
        found += [*_ours(sshd, general, logins), *_files(sshd, now)]
    found += _shadows(settings, beside="authorizedkeysfile" in _drop_in(sshd))
    for login in logins:
        found += _login(sshd, login)
    return found + list(_sources(sshd, general, settings, gateways))


def _version(sshd: Sshd) -> Iterator[Finding]:
    major, minor = sshd.version
    if (major, minor) == (0, 0):
        yield Finding(Level.NOTE, "version", "sshd does not say which version it is")
    elif (major, minor) < _OLDEST:
        yield Finding(
            Level.STOP, "version", f"OpenSSH {major}.{minor} has no Include", "OpenSSH 8.2 or newer is needed"
        )
    else:
        yield Finding(Level.OK, "version", f"OpenSSH {major}.{minor} ({sshd.path})")


def _included(sshd: Sshd, settings: Sequence[Setting]) -> Iterator[Finding]:
    folder = str(sshd.drop_in.parent)
    for each in settings:
        if each.keyword == "include" and not each.match and folder in each.value:
            yield Finding(Level.OK, "include", f"{folder} is included: {each.place}")
            return
    line = f"Include {folder}/*.conf"
    yield Finding(
        Level.STOP, "include", f"{sshd.config} does not include {folder}", f"make this its first line: {line}"
    )


def _others(sshd: Sshd, general: Effective, settings: Sequence[Setting]) -> Iterator[Finding]:
    """Other certificate set-ups and lists: named, with how ours stands beside them."""
    for each in settings:
        if each.keyword in _CERT_SETTINGS:
            yield Finding(
                Level.NOTE, "other_ca", f"{each.keyword} {each.value} at {each.place}", "ours goes in beside it"
            )
        if each.keyword == "revokedkeys":
            yield Finding(Level.NOTE, "other_krl", f"revokedkeys {each.value} at {each.place}", "merged into ours")
    try:
        for path in revoked.other_lists(settings):
            revoked.read_other(path)
    except Error as error:
        yield Finding(Level.STOP, "other_krl", error.what, error.hint)
    if any(value not in ("none", "") for value in general.get("authorizedkeyscommand", ())):
        yield Finding(Level.NOTE, "keys_command", f"keys also come from {general['authorizedkeyscommand'][0]}")
    if sshd.version < _COMMA and any(each.keyword in _CERT_SETTINGS for each in settings):
        yield Finding(
            Level.NOTE,
            "comma",
            'before OpenSSH 10.3 a principal with a comma in it can pass principals="..." (CVE-2026-35414)',
            "jitgate signs none; does the other CA?",
        )


def _host_key(sshd: Sshd, general: Effective) -> Iterator[Finding]:
    try:
        path, key = hostkey.choose(sshd, general)
    except Error as error:
        yield Finding(Level.STOP, "host_key", error.what, error.hint)
    else:
        yield Finding(Level.OK, "host_key", f"{path} {key.public.fingerprint}")


def _ours(sshd: Sshd, general: Effective, logins: Sequence[str]) -> Iterator[Finding]:
    """Whether sshd does what the drop-in says, in general and for each login."""
    for whom in ("", *logins):
        said = sshd.effective(whom) if whom else general
        for keyword, value in _drop_in(sshd).items():
            if value not in said.get(keyword, ()):
                where = f"for {whom}" if whom else "in general"
                now = ", ".join(said.get(keyword, ("none",)))
                yield Finding(
                    Level.PROBLEM,
                    "not_in_force",
                    f"not in force {where}: {keyword} {value}; it is {shown(now, 120)}",
                    "something comes before 10-jitgate.conf, or a Match sets it",
                )


def _drop_in(sshd: Sshd) -> dict[str, str]:
    try:
        lines = sshd.drop_in.read_text().splitlines()
    except OSError:
        return {}
    words = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return {parts[0].lower(): parts[1] for parts in words if len(parts) == 2}  # noqa: PLR2004  # keyword and value


def _files(sshd: Sshd, now: Micros) -> Iterator[Finding]:
    if revoked.installed(sshd) is None:
        yield Finding(
            Level.PROBLEM,
            "krl",
            f"{sshd.folder / 'krl'} is missing or unsound: sshd refuses every key",
            "the agent mends it; without one: rm the drop-in, reload sshd",
        )
    for path in (sshd.folder, *sorted(sshd.folder.rglob("*"))):
        found = path.lstat()
        if found.st_mode & _WRITABLE or found.st_uid not in (0, os.geteuid()):
            yield Finding(
                Level.PROBLEM, "mode", f"others than root can write {path}", f"chown root {path}; chmod go-w {path}"
            )
    try:
        certificate = parse_certificate_line((sshd.folder / "host-cert.pub").read_text().strip())
    except (OSError, Error):
        yield Finding(Level.PROBLEM, "host_certificate", "there is no sound host certificate", "jitgate agent run")
        return
    ends = certificate.body.valid_before * SECOND
    if ends < now:
        yield Finding(
            Level.PROBLEM,
            "host_certificate",
            f"the host certificate has ended: {rfc3339(ends)}",
            "is the agent running?",
        )
    elif ends < now + 7 * DAY:
        yield Finding(Level.NOTE, "host_certificate", f"the host certificate ends {rfc3339(ends)}")
    else:
        yield Finding(Level.OK, "host_certificate", f"good until {rfc3339(ends)}")


def _shadows(settings: Sequence[Setting], *, beside: bool) -> Iterator[Finding]:
    """Match blocks that set what ours rests on: there ours is not in force, whoever the criteria mean."""
    watched = (
        ("revokedkeys", "pubkeyauthentication", "casignaturealgorithms", "authorizedkeysfile") if beside else _SHADOWS
    )
    for each in settings:
        if each.match and each.keyword in watched:
            yield Finding(
                Level.PROBLEM,
                "shadow",
                f"Match {each.match}: {each.keyword} {each.value} at {each.place}",
                "for these connections ours is not what sshd does",
            )


def _login(sshd: Sshd, login: str) -> Iterator[Finding]:
    said = sshd.effective(login)
    account = _account(login)
    if account is None:
        yield Finding(Level.NOTE, "no_login", f"{login}: no such login on this host yet")
    if "yes" not in said.get("pubkeyauthentication", ()):
        yield Finding(
            Level.STOP,
            "pubkey",
            f"{login}: PubkeyAuthentication is off",
            "a certificate is a kind of key: switch it on",
        )
    taken = ",".join(said.get("pubkeyacceptedalgorithms", said.get("pubkeyacceptedkeytypes", ())))
    if taken and _CERTIFICATE not in taken:
        yield Finding(Level.PROBLEM, "algorithms", f"{login}: PubkeyAcceptedAlgorithms lacks {_CERTIFICATE}", "add it")
    for keyword, usual, why in (
        ("forcecommand", "none", "outranks a certificate's own force-command"),
        ("authenticationmethods", "any", "a certificate alone is not enough"),
        ("chrootdirectory", "none", "sessions see only what is in it"),
    ):
        for value in said.get(keyword, ()):
            if value != usual:
                yield Finding(Level.NOTE, keyword, f"{login}: {keyword} {shown(value)}: {why}")
    for keyword in ("allowusers", "denyusers", "allowgroups", "denygroups"):
        for value in said.get(keyword, ()):
            yield Finding(Level.NOTE, keyword, f"{login}: {keyword} {shown(value)}")
    if login == "root" and "no" in said.get("permitrootlogin", ()):
        yield Finding(Level.PROBLEM, "root", "root: PermitRootLogin is no", "leave root out of the logins, or allow it")
    yield from _static(sshd, login, said, account)


def _static(sshd: Sshd, login: str, said: Effective, account: pwd.struct_passwd | None) -> Iterator[Finding]:
    """What else opens this login, without jitgate: keys in files, and passwords."""
    for path in key_files(sshd, said, account):
        count = count_keys(path)
        if count:
            yield Finding(Level.NOTE, "static_keys", f"{login}: {count} key(s) in {path} open it too")
    for keyword in (
        "passwordauthentication",
        "kbdinteractiveauthentication",
        "hostbasedauthentication",
        "gssapiauthentication",
    ):
        if "yes" in said.get(keyword, ()):
            yield Finding(Level.NOTE, "static_login", f"{login}: {keyword} is on")


def count_keys(path: Path) -> int:
    """Lines of a file of keys that are not comments; 0 for one that cannot be read, and for what is no file.

    Its user arranged what lies there, and root looks: a pipe has nobody at its other end, and to open a device may do
    something. So what a name or a link leads to is asked for first (O_PATH opens nothing), and then that very thing is
    opened. What the kernel makes up while it is read (/proc) has no size, and is left. Nothing of it is shown but this
    number.
    """
    try:
        there = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = os.fstat(there)
            if not stat.S_ISREG(found.st_mode) or not found.st_size:
                return 0
            file = os.open(f"/proc/self/fd/{there}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(there)
        with os.fdopen(file, "rb") as stream:
            lines = stream.read(_FILE_MAX).splitlines()
    except OSError:
        return 0
    return sum(1 for line in lines if line.strip() and not line.lstrip().startswith(b"#"))


def key_files(sshd: Sshd, said: Effective, account: pwd.struct_passwd | None) -> list[Path]:
    """The files of keys that sshd reads for a login (sshd_config(5), AuthorizedKeysFile), without ours."""
    if account is None:
        return []
    tokens = {"%h": account.pw_dir, "%u": account.pw_name, "%U": str(account.pw_uid), "%%": "%"}
    found = []
    for value in " ".join(said.get("authorizedkeysfile", ())).split():
        text, rest = "", value
        while rest:
            pair = rest[:2]
            text, rest = (text + tokens[pair], rest[2:]) if pair in tokens else (text + rest[0], rest[1:])
        path = Path(account.pw_dir) / text  # a relative one lies in the home
        if value != "none" and sshd.folder not in path.parents:
            found.append(path)
    return found


def _account(login: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(login)
    except KeyError:
        return None


def _sources(sshd: Sshd, general: Effective, settings: Sequence[Setting], gateways: Sequence[str]) -> Iterator[Finding]:
    """All who come through a gateway share its address, where sshd counts failures and connections by address."""
    exempt = " ".join(general.get("persourcepenaltyexemptlist", ()))
    penalties = " ".join(general.get("persourcepenalties", ()))
    missing = [each for each in gateways if each not in exempt.replace(",", " ").split()]
    if sshd.version >= _PENALTIES and "no" not in penalties.split() and (missing or not gateways):
        names = ",".join(missing) or "ADDRESS"
        yield Finding(
            Level.NOTE,
            "penalties",
            "this sshd shuts out an address after failures, and all who come through a gateway share its address",
            f"PerSourcePenaltyExemptList {names}",
        )
    if sshd.version < _PENALTIES and any(each.keyword.startswith("persourcepenalt") for each in settings):
        yield Finding(
            Level.NOTE, "penalties", "PerSourcePenalties is in the files, and this sshd knows it by a patch only"
        )
    if any(value not in ("none", "-1") for value in general.get("persourcemaxstartups", ())):
        value = general["persourcemaxstartups"][0]
        yield Finding(Level.NOTE, "startups", f"PerSourceMaxStartups {value} holds for a gateway as for one person")
    if any(value in _QUIET for value in general.get("loglevel", ())):
        yield Finding(Level.PROBLEM, "loglevel", "LogLevel hides who logged in", "LogLevel INFO or VERBOSE")
