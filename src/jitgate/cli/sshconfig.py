"""Our own ssh config: a file a profile, one that includes them all, and one line in the person's own.

Sources: ssh_config(5). What the service sends is never trusted to be a name, an address or a key: `answers` checked it.
The person's config is theirs: one line is put on top of it once; if they take it out, it stays out.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path

import click

from jitgate.ca.names import host_pattern
from jitgate.cli import ssh_proxy
from jitgate.cli.answers import About, Gateway, Host, Realm, twice
from jitgate.cli.certificate import link, ticket_file
from jitgate.cli.command import Options
from jitgate.cli.files import config_home, for_ssh, home, state_home, write_private
from jitgate.cli.out import say
from jitgate.cli.profile import Profile, profiles

_TOP = "# Written by jitctl; changes are lost.\n"
_HOSTS, _INCLUDES = (
    re.compile(rf"^[ \t]*{word}(?:[ \t]*=[ \t]*|[ \t]+)(.*)$", re.IGNORECASE | re.MULTILINE)
    for word in ("host", "include")
)
_NOW = Path("/proc/self")  # a file whose time is that of the look at it
_LOOK_S = 300  # how long a host that is new, or gone, may be missing from our config, or stay in it
_FILES_MAX = 100  # of the person's own that are looked into


def config_file(profile: Profile) -> Path:
    return profile.folder / "ssh_config"


def master_file() -> Path:
    return config_home() / "ssh_config"


def write(profile: Profile, hosts: Sequence[Host], known: About, options: Options) -> None:
    """All files of a profile for the hosts that may be reached; the first time, the line in the person's own config."""
    first = not master_file().exists()
    write_files(profile, hosts, known)
    if first:
        include(options)


def write_files(profile: Profile, hosts: Sequence[Host], known: About) -> list[str]:
    """All files of a profile for the hosts that may be reached; what they are called there."""
    write_known_hosts(profile, known)
    reached = [host for host in hosts if host.permitted]
    # a name that stands in two realms is neither's alone
    taken = names_taken(profile) | {host.name for host in reached if twice(host, reached)}
    blocks = (_block(profile, host, known.gateway, taken) for host in reached)
    _write_if_new(config_file(profile), _TOP + "\n".join(blocks))
    os.utime(config_file(profile))
    write_master()
    return [names(host, taken)[0] for host in reached]


def write_known_hosts(profile: Profile, known: About) -> None:
    """Whom ssh takes for a host of ours."""
    _write_if_new(profile.folder / "known_hosts", known_hosts(known.realms))
    if not (profile.folder / "revoked_host_keys").exists():  # where it is missing, ssh refuses every host
        write_private(profile.folder / "revoked_host_keys", b"")


def is_current(profile: Profile, host: Host, gateway: Gateway | None) -> bool:
    """Whether our config says of this host what there is to say, and was looked at as a whole a short while ago."""
    file = config_file(profile)
    if abs(time.time() - file.stat().st_mtime) > _LOOK_S:
        return False
    text = _text(file)
    return any(_block(profile, host, gateway, taken) in text for taken in (frozenset[str](), frozenset((host.name,))))


def write_master() -> None:
    """The file that the person's config includes: all services' files."""
    master_file().parent.mkdir(0o700, parents=True, exist_ok=True)
    _write_if_new(master_file(), _TOP + "".join(f'Include "{for_ssh(file)}"\n' for file in _files()))


def forget() -> None:
    """No service's hosts are known to plain ssh any more. The file that says so keeps the line from coming back."""
    for file in _files():
        file.unlink()
    if master_file().exists():
        write_master()


def tunnelled(profile: Profile) -> bool:
    """Whether our config leads to this service's hosts through its gateway."""
    return "\n  ProxyCommand " in _text(config_file(profile))


def outdated(profile: Profile, gateway: Gateway | None) -> bool:
    """Whether what our config says of the way is of another time, or by a jitctl that is elsewhere now."""
    text = _text(config_file(profile))
    if gateway is None:
        return tunnelled(profile)
    return "\nHost " in text and f"\n  ProxyCommand {_proxy()}" not in text


def known_hosts(realms: Sequence[Realm]) -> str:
    """The host authorities, each only for the names of its realm."""
    return "".join(
        f"@cert-authority {host_pattern(realm.name)} {key.line()}\n" for realm in realms for key in realm.host_ca
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
    if not target.exists():
        write_private(_made_file(), b"")
    write_private(target, f"{include_line()}\n".encode() + old, mode)
    say(options, f"added one line to {path}, so that plain ssh finds your hosts: {include_line()}")


def exclude(options: Options) -> None:
    """Takes our line out again: what is left is byte for byte what stood there. A file that we made goes with it."""
    path = home() / ".ssh" / "config"
    if included():
        target = path.resolve()
        lines = target.read_bytes().splitlines(keepends=True)
        kept = b"".join(line for line in lines if line.strip() != include_line().encode())
        if kept or not _made_file().exists():
            write_private(target, kept, target.stat().st_mode & 0o777)
        else:
            target.unlink()
        say(options, f"took one line out of {path}: {include_line()}")
    _made_file().unlink(missing_ok=True)


def _made_file() -> Path:
    """It is there if ~/.ssh/config was not, before us."""
    return config_home() / ".made-ssh-config"


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


def _block(profile: Profile, host: Host, gateway: Gateway | None, taken: frozenset[str]) -> str:
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
        match = f"Match originalhost {','.join(called)} user {login}"
        certificate, ticket = (for_ssh(find(profile, host.alias, login)) for find in (link, ticket_file))
        files = (certificate, ticket) if gateway else (certificate,)
        lines.append(f'{match} exec "{_renewal(profile, host, login, *files)}"')
        lines.append(f'  CertificateFile "{certificate}"')
        if gateway:
            lines.append(f"  ProxyCommand {_proxy(ticket)}")
            lines += ["  ProxyUseFdpass yes"] * (not gateway.keep_tls)
    if gateway:  # for other logins: an answer at once, instead of an address that cannot be reached
        lines.append(f"Match originalhost {','.join(called)}")
        lines.append(f"  ProxyCommand {_proxy('--no-login', host.name, *logins)}")
    return "\n".join(lines) + "\n"


def _renewal(profile: Profile, host: Host, login: str, *files: str) -> str:
    """Run by ssh in the person's shell, before it reads the certificate: a millisecond unless it has to be renewed.

    Fixed words only: no token of ssh's is expanded, whatever somebody types as a login. Always succeeds, because ssh
    then goes on and shows its own error after ours.
    """
    config, state = for_ssh(config_home().parent), for_ssh(state_home().parent)
    jitctl = (
        f"/usr/bin/env 'XDG_CONFIG_HOME={config}' 'XDG_STATE_HOME={state}'"
        f" '{for_ssh(Path(sys.executable))}' -P -m jitgate.cli"
        f" --profile {profile.name} --quiet cert renew {host.alias} --login {login} --for-ssh"
    )
    fresh = _proxy("--fresh", *files)
    if _NOW.exists():
        fresh = "/usr/bin/test " + " -a ".join(f"'{file}' -nt {_NOW}" for file in files)
    return f"{fresh} || {jitctl} || /usr/bin/true"


def _proxy(*arguments: str) -> str:
    """`ssh_proxy` by the interpreter itself: through a version manager's script its start takes ten times as long."""
    python, folder = for_ssh(Path(os.path.realpath(sys.executable))), for_ssh(Path(ssh_proxy.__file__).parent)
    return f"'{python}' -I -S '{folder}' " + " ".join(f"'{argument}'" for argument in arguments)


def _write_if_new(path: Path, content: str) -> None:
    try:
        if path.read_text() == content:
            return
    except (OSError, UnicodeDecodeError):
        pass
    write_private(path, content.encode())
