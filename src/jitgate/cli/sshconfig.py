"""Our own ssh config: a file a profile, one that includes them all, and one line in the person's own.

Sources: ssh_config(5). What the service sends is never trusted to be a name, an address or a key: `answers` checked it.
The person's config is theirs: one line is put on top of it once; if they take it out, it stays out.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path

import click

from jitgate.cli.answers import Host, Realm
from jitgate.cli.certificate import link
from jitgate.cli.command import Options
from jitgate.cli.files import config_home, for_ssh, home, state_home, write_private
from jitgate.cli.out import say
from jitgate.cli.profile import Profile, profiles

_TOP = "# Written by jitctl; changes are lost.\n"
_HOSTS, _INCLUDES = (
    re.compile(rf"^[ \t]*{word}(?:[ \t]*=[ \t]*|[ \t]+)(.*)$", re.IGNORECASE | re.MULTILINE)
    for word in ("host", "include")
)
_FILES_MAX = 100  # of the person's own that are looked into


def config_file(profile: Profile) -> Path:
    return profile.folder / "ssh_config"


def master_file() -> Path:
    return config_home() / "ssh_config"


def write(profile: Profile, hosts: Sequence[Host], realms: Sequence[Realm], options: Options) -> None:
    """All files of a profile for the hosts that may be reached; the first time, the line in the person's own config."""
    folder = profile.folder
    _write_if_new(folder / "known_hosts", known_hosts(realms))
    if not (folder / "revoked_host_keys").exists():  # where it is missing, ssh refuses every host
        write_private(folder / "revoked_host_keys", b"")
    taken = names_taken(profile)
    reached = [host for host in hosts if host.permitted]
    _write_if_new(config_file(profile), _TOP + "\n".join(_block(profile, host, taken) for host in reached))
    first = not master_file().exists()
    master_file().parent.mkdir(0o700, parents=True, exist_ok=True)
    files = _files()
    _write_if_new(master_file(), _TOP + "".join(f'Include "{for_ssh(file)}"\n' for file in files))
    if first:
        include(options)


def known_hosts(realms: Sequence[Realm]) -> str:
    """The host authorities, each only for the names of its realm."""
    return "".join(
        f"@cert-authority *.{realm.name}.jitgate {key.line()}\n" for realm in realms for key in realm.host_ca
    )


def names(host: Host, taken: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What the host is called in our config. A short name is not taken from the person, another service or the DNS."""
    short = () if "." in host.name or host.name in taken else (host.name,)
    return (*short, host.alias)


def include_line() -> str:
    path = for_ssh(master_file())
    return f'Include "{path}"' if " " in path else f"Include {path}"


def included() -> bool:
    """Whether the person's own config reads ours."""
    return include_line() in (line.strip() for line in _own_config().splitlines())


def include(options: Options) -> None:
    """Puts our one line on top of ~/.ssh/config; what stands there stays byte for byte."""
    if included():
        return
    path = home() / ".ssh" / "config"
    path.parent.mkdir(0o700, exist_ok=True)
    target = path.resolve()
    old = target.read_bytes() if target.exists() else b""
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    write_private(target, f"{include_line()}\n".encode() + old, mode)
    say(options, f"added one line to {path}, so that plain ssh finds your hosts: {include_line()}")


def names_taken(profile: Profile) -> frozenset[str]:
    """The names that the person's own config, with what it includes, and other services give to hosts."""
    others = [file for file in _files() if file != config_file(profile)]
    texts = [*_own_configs(), *map(_text, others)]
    return frozenset(name.strip('"') for text in texts for found in _HOSTS.findall(text) for name in found.split())


def _files() -> list[Path]:
    """All profiles' files, in the order in which they were signed in to: for ssh the first that knows a name counts."""
    order = list(profiles())
    files = sorted(state_home().glob("*/ssh_config"))
    return sorted(files, key=lambda file: order.index(file.parent.name) if file.parent.name in order else len(order))


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The hosts of all profiles whose names begin so, for the shell: from our files, the service is not asked."""
    del ctx, param
    found: set[str] = set()
    for file in state_home().glob("*/ssh_config"):
        found |= {names.split()[0] for names in _HOSTS.findall(_text(file))}
    return sorted(name for name in found if name.startswith(incomplete))


def _own_config() -> str:
    return _text(home() / ".ssh" / "config")


def _own_configs() -> Iterator[str]:
    """The person's own config and the files that it includes; ours are left out."""
    folder = home() / ".ssh"
    seen, waiting = {master_file(), *_files()}, [folder / "config"]
    while waiting and len(seen) < _FILES_MAX:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        yield (text := _text(file))
        for words in _INCLUDES.findall(text):
            for word in words.replace('"', " ").split():
                with suppress(RuntimeError):  # ~ of nobody
                    waiting += map(Path, glob(str(folder / Path(word).expanduser())))  # noqa: PTH207  # ssh's own rules


def _text(file: Path) -> str:
    """What the file says; empty where there is none."""
    try:
        return file.read_text(errors="replace") if file.is_file() else ""
    except OSError:
        return ""


def _block(profile: Profile, host: Host, taken: frozenset[str]) -> str:
    called = names(host, taken)
    folder = for_ssh(profile.folder)
    logins = host.permitted
    lines = [
        f"Host {' '.join(called)}",
        f"  HostName {host.address}",
        f"  Port {host.port}",
        *([f"  User {logins[0]}"] if len(logins) == 1 else []),
        f"  HostKeyAlias {host.alias}",
        f'  UserKnownHostsFile "{folder}/known_hosts"',
        "  GlobalKnownHostsFile /dev/null",
        f'  RevokedHostKeys "{folder}/revoked_host_keys"',
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        f'  IdentityFile "{for_ssh(profile.key_file)}"',
        "  IdentitiesOnly yes",
        "  PreferredAuthentications publickey",
        "  ForwardAgent no",
    ]
    for login in logins:
        path = for_ssh(link(profile, host.alias, login))
        lines.append(
            f'Match originalhost {",".join(called)} user {login} exec "{_renewal(profile, host, login, path)}"'
        )
        lines.append(f'  CertificateFile "{path}"')
    return "\n".join(lines) + "\n"


def _renewal(profile: Profile, host: Host, login: str, path: str) -> str:
    """Run by ssh in the person's shell, before it reads the certificate: a millisecond unless it has to be renewed.

    Fixed words only: no token of ssh's is expanded, whatever somebody types as a login. Always succeeds, because ssh
    then goes on and shows its own error after ours.
    """
    config, state = for_ssh(config_home().parent), for_ssh(state_home().parent)
    jitctl = (
        f"/usr/bin/env 'XDG_CONFIG_HOME={config}' 'XDG_STATE_HOME={state}'"
        f" '{for_ssh(Path(sys.executable))}' -P -m jitgate.cli"
        f" --profile {profile.name} --quiet --no-input cert renew {host.alias} --login {login}"
    )
    fresh = f"/usr/bin/test '{path}' -nt /proc/self || " if Path("/proc/self").exists() else ""
    return f"{fresh}{jitctl} || /usr/bin/true"


def _write_if_new(path: Path, content: str) -> None:
    try:
        if path.read_text() == content:
            return
    except (OSError, UnicodeDecodeError):
        pass
    write_private(path, content.encode())
