"""jitctl doctor: what is wrong on this machine, and what to do."""

import os
import pwd
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from jitgate.cli import ssh_proxy, sshconfig
from jitgate.cli.access import fingerprints_of
from jitgate.cli.answers import Gateway, as_gateway, as_realms, text
from jitgate.cli.command import Command, Options
from jitgate.cli.files import home, read_private
from jitgate.cli.out import coloured, data, plain
from jitgate.cli.profile import Profile, current, load_session
from jitgate.cli.service import Service
from jitgate.cli.times import until
from jitgate.cli.trust import trusted
from jitgate.core.clock import system_clock
from jitgate.core.errors import Error, NotSignedIn, Unreachable
from jitgate.core.outcome import Check, failed, passed

_OLDEST_SSH = (8, 4)  # the oldest release that is tested
_SECONDS = 10


@click.command(cls=Command, examples="jitctl doctor\njitctl doctor -o json")
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look at everything that has to be right here: ssh, files, service, clock, sign-in, key, ssh config.

    Changes nothing. The exit status is 1 if something is wrong.
    """
    options: Options = ctx.obj
    checks = list(_ssh())
    try:
        profile = current(options)
    except Error as error:  # what else is looked at belongs to a service
        checks.append(failed("profile", error.what, error.hint))
    else:
        checks += [
            check for step in (_files, _service, _ssh_config, _tunnel) for check in _safely(step, profile, options)
        ]
    checks += _agent()
    rows = [{"name": c.name, "outcome": str(c.outcome), "why": c.why, "hint": c.hint} for c in checks]
    lines = []
    for check in checks:
        lines.append(f"{coloured(check.outcome)}  {plain(check.name)}: {plain(check.why)}")
        if check.hint:
            lines.append(f"        {plain(check.hint)}")
    data(options, rows, lines)
    ctx.exit(0 if all(check.passed for check in checks) else 1)


def _safely(step: Callable[[Profile, Options], Iterator[Check]], profile: Profile, options: Options) -> Iterator[Check]:
    """The step's checks; its own error is the last of them."""
    try:
        yield from step(profile, options)
    except NotSignedIn as error:
        yield failed("sign-in", error.what, error.hint)
    except Error as error:
        yield failed(step.__name__.strip("_").replace("_", " "), error.what, error.hint)
    except OSError as error:
        yield failed(step.__name__.strip("_").replace("_", " "), f"{error.filename}: {error.strerror}")


def _ssh() -> Iterator[Check]:
    for program in ("ssh", "ssh-keygen"):
        try:
            words = subprocess.run(
                [program, "-V"], capture_output=True, text=True, timeout=_SECONDS, check=False
            ).stderr
        except FileNotFoundError:
            yield failed(program, "not installed", "install the OpenSSH client")
            continue
        if program == "ssh":
            yield _version(words.strip())


def _version(words: str) -> Check:
    found = re.match(r"OpenSSH_([0-9]+)\.([0-9]+)", words)
    if found is None:
        return failed("ssh", f"not OpenSSH: {words}", "only OpenSSH's client is tested; others need `jitctl cert get`")
    if (int(found[1]), int(found[2])) < _OLDEST_SSH:
        return failed("ssh", f"{words} is old", "OpenSSH 8.4 is the oldest that is tested")
    return passed("ssh", words)


def _files(profile: Profile, options: Options) -> Iterator[Check]:
    del options
    yield passed("profile", f"{profile.name}: {profile.url}" + (", its own TLS authority" if profile.pinned else ""))
    folder = profile.folder
    present = [folder / name for name in ("id", "token", "tls-ca.pem") if os.path.lexists(folder / name)]
    for path in present:
        read_private(path)
    yield passed("files", f"{folder}: for you only")


def _service(profile: Profile, options: Options) -> Iterator[Check]:
    with Service(profile, options, trusted(profile)) as service:
        found = service.get("/.well-known/jitgate")
        as_realms(found)
        yield passed("service", f"{text(found, 'name')} answers, version {text(found, 'version')}; the clocks agree")
        service.session = load_session(profile, system_clock())
        service.get("/v1/me")
        yield passed("sign-in", f"{service.session.name}, until {until(service.session.expires_at, system_clock())}")
        own = service.signer.public.fingerprint
        if own in fingerprints_of(service):
            yield passed("key", f"{own} is registered")
        else:
            yield failed("key", f"{own} is not registered", f"jitctl login {profile.url}")


def _ssh_config(profile: Profile, options: Options) -> Iterator[Check]:
    del options
    file = sshconfig.config_file(profile)
    if not file.exists():
        yield passed("ssh config", "none yet; the first jitctl vm connect writes it")
        return
    command = ["ssh", "-G", "-F", str(file), "host.invalid"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        yield failed("ssh config", done.stderr.strip(), "jitctl vm connect writes it anew")
    else:
        yield passed("ssh config", str(file))
    own, by_user_list = home() / ".ssh/config", Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh/config"
    if own.resolve() != by_user_list.resolve():  # ssh does not look at HOME
        yield failed("plain ssh", f"HOME is {home()}, but ssh reads {by_user_list}", f"ssh -F {own} NAME")
    elif sshconfig.included():
        yield passed("plain ssh", "~/.ssh/config reads ours")
    else:
        line = sshconfig.include_line()
        yield failed("plain ssh", "~/.ssh/config does not read ours", f"put this line on top of it: {line}")


def _tunnel(profile: Profile, options: Options) -> Iterator[Check]:
    """TLS to the gateway as plain ssh would do it, up to where a ticket would be shown."""
    try:
        with Service(profile, options, trusted(profile)) as service:
            gateway = as_gateway(service.get("/.well-known/jitgate").get("gateway"))
    except Unreachable:
        return  # was said of the service
    if sshconfig.outdated(profile, gateway):
        yield failed(
            "tunnel", "the gateway or jitctl moved since our ssh config was written", "jitctl ssh-config install"
        )
    elif gateway is None:
        yield passed("tunnel", "none: hosts are dialled directly")
    else:
        yield _gateway(gateway, str(profile.folder / "tls-ca.pem") if profile.pinned else "")


def _gateway(gateway: Gateway, anchor: str) -> Check:
    where = f"{gateway.address} port {gateway.port}"
    try:
        ssh_proxy.open_gateway(gateway.address, gateway.port, gateway.server_name, anchor).close()
    except ssh_proxy.TunnelError as error:
        return failed("tunnel", error.what, error.hint.replace("jitctl doctor", "tell the service's owner"))
    return passed("tunnel", f"{where}" + (", where TLS stays on" if gateway.keep_tls else ""))


def _agent() -> Iterator[Check]:
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        yield passed("agent", "none, and none is needed")
    elif Path(path).exists():
        yield passed("agent", path)
    else:
        yield failed("agent", f"{path} is gone", "unset SSH_AUTH_SOCK, or start an agent")
