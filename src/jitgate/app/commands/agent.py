"""jitgate agent: on a host, what keeps its sshd in step with the service."""

import json
import os
import re
import stat
import sys
from pathlib import Path

import click

from jitgate.agent import durable, pins
from jitgate.agent.place import Place
from jitgate.agent.sshd import ETC, Sshd
from jitgate.core.clock import DAY, HOUR, MINUTE, SECOND, Micros, rfc3339, system_clock
from jitgate.core.errors import BadInput, Conflict, NotFound, Unsafe, UsageError
from jitgate.core.text import shown


def examples(text: str) -> str:
    """A help's last lines; here too, because what serves the other commands needs more than the base install."""
    lines = "\n".join(f"  {line.strip()}" for line in text.strip().splitlines())
    return f"\b\nExamples:\n{lines}"


_TOKEN_MAX = 1 << 16  # bytes; an ID token may be long
_OPEN = 0o077

config_option = click.option("--config", type=click.Path(path_type=Path), help="The agent's settings.")
state_option = click.option("--state", type=click.Path(path_type=Path), help=f"Its state.  [default: {pins.STATE}]")
etc_option = click.option("--etc", metavar="DIR", help="Where sshd_config lies, if not in /etc/ssh; needs --reload.")
sshd_option = click.option("--sshd", metavar="PATH", help="Which sshd, if not the first along PATH.")
reload_option = click.option("--reload", metavar="COMMAND", help="How sshd is reloaded, if not by systemd or pid file.")
output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")


@click.command(
    epilog=examples("""
    jitgate agent join https://jitgate.example.com --token-file /run/join-token
    ssh web1 sudo jitgate agent join < join-token
    jitgate agent join https://jitgate.example.com --token-file t --exclusive --undo-after 10m
    """)
)
@click.argument("url", required=False)
@click.option("--token-file", metavar="FILE", default="-", help="The join token's file, or - for stdin.  [default: -]")
@click.option("--name", metavar="NAME", help="Without a token: the name by which the service knows this host's key.")
@click.option("--realm", default="default", metavar="REALM", help="With --name.", show_default=True)
@click.option("--root", metavar="SHA256:...", help="With --name: the root key's fingerprint, from an owner.")
@click.option("--provider", metavar="NAME", help="The identity provider whose token of this machine is shown.")
@click.option("--id-token-file", metavar="FILE", help="With --provider: the machine's own ID token.")
@click.option(
    "--wait", default="0s", metavar="TIME", help="How long to wait for an owner's approval, if one is needed."
)
@click.option("--exclusive", "only", is_flag=True, help="Then let nothing but jitgate open this host (asks first).")
@click.option("--undo-after", default="10m", metavar="TIME", help="When --exclusive is undone unless you confirm it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@state_option
@etc_option
@sshd_option
@reload_option
def join(
    url: str | None,
    token_file: str,
    name: str | None,
    realm: str,
    root: str | None,
    provider: str | None,
    id_token_file: str | None,
    wait: str,
    *,
    only: bool,
    undo_after: str,
    yes: bool,
    config: Path | None,
    state: Path | None,
    etc: str | None,
    sshd: str | None,
    reload: str | None,
) -> None:
    """Join this host to a service: its sshd takes the realm's certificates from then on (as root).

    The one-time token comes from `jitctl hosts add NAME`, in a file or on stdin, never on the command line. It says
    where the service is, so URL may be left out; when it is given it has to agree. What sshd does now is read first;
    another CA, principals file or revocation list goes on beside ours, or nothing is changed. Whoever can log in today
    still can. A second run goes on where the first was cut off, and changes nothing where nothing is to do.

    Without a token, a host that the service knows by its key joins with --name, and an owner has to agree: URL with its
    #sha256=HEX and --root are then to be given. A machine that an identity provider vouches for shows its own ID token
    with --provider and --id-token-file; the join token then holds no secret and only says where to go.
    """
    from jitgate.agent import join as room  # noqa: PLC0415  # loaded when called
    from jitgate.hosts.joining import read_token  # noqa: PLC0415  # as above

    place = _place(config, state, etc, sshd, reload)
    if name is not None:
        origin, pin = _address(url)
        token = room.by_key(place, origin, pin, realm, name, _fingerprint(root))
    else:
        if (provider is None) != (id_token_file is None):
            raise UsageError("--provider and --id-token-file belong together", "jitgate agent join --help")
        id_token = _read_token(id_token_file) if id_token_file else ""
        token = room.by_token(read_token(_read_token(token_file)), provider or "", id_token)
        if url and url.rstrip("/") != token.url.rstrip("/"):
            raise BadInput(f"the token is for {token.url}, not for {url}", "is it the right token?")
    room.join(place, token, (), system_clock, _say, wait=_span(wait) / SECOND)
    if only:
        _exclusive(place, undo_after, yes=yes)
    click.echo("jitgate: now keep it in step: systemctl enable --now jitgate-agent (docs/agent.md)", err=True)


@click.command(epilog=examples("jitgate agent leave"))
@config_option
@state_option
@etc_option
@sshd_option
@reload_option
def leave(config: Path | None, state: Path | None, etc: str | None, sshd: str | None, reload: str | None) -> None:
    """Undo it, byte for byte: sshd is as it was before this host joined (as root)."""
    from jitgate.agent.leave import leave as act  # noqa: PLC0415  # loaded when called

    act(_place(config, state, etc, sshd, reload), _say)


@click.command(epilog=examples("jitgate agent run\njitgate agent run --state ~/agent"))
@config_option
@state_option
def run(config: Path | None, state: Path | None) -> int:
    """Keep this host in step with the service: what is revoked, whom to trust, its own certificate.

    Meant for systemd (deploy/systemd/jitgate-agent.service). It dials the gateways and listens to nothing.
    """
    from jitgate.agent.run import run as act  # noqa: PLC0415  # loaded when called

    return act(_place(config, state, None, None, None))


@click.command(epilog=examples("jitgate agent status\njitgate agent status -o json"))
@config_option
@state_option
@output_option
def status(config: Path | None, state: Path | None, output: str) -> int:
    """Show what this host holds to, what is in force, and what is wrong. The exit status is 1 when something is."""
    place = _place(config, state, None, None, None)
    told = pins.read(place.config)
    data = durable.get(place.state / "status.json", 1 << 16)
    said = json.loads(data) if data else {}
    alive = bool(said) and Path(f"/proc/{said['pid']}").exists()
    problems = said.get("problems", []) if alive else [{"code": "not_running", "detail": "the agent does not run"}]
    document = {
        "host": told.host,
        "realm": told.realm,
        "service": told.url,
        "logins": list(told.logins),
        "running": alive,
        **{name: said.get(name) for name in _SHOWN},
        "connected": said.get("connected", []) if alive else [],
        "problems": problems,
    }
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        for name, value in document.items():
            text = " ".join(map(str, value)) if isinstance(value, list) and name != "problems" else value
            if name != "problems":
                click.echo(f"{name:20} {'' if text is None else text}".rstrip())
        for each in problems:
            click.echo(f"{'problem':20} {each['code']}: {each['detail']}")
    return 1 if problems else 0


_SHOWN = ("trust", "bundle", "applied_at", "bundle_expires_at", "certificate_ends_at", "clock_offset_s")


@click.command(epilog=examples("jitgate agent doctor\njitgate agent doctor --login ubuntu --login root"))
@click.option("--login", "logins", multiple=True, help="A login to look at, where this host has not joined.")
@config_option
@state_option
@etc_option
@sshd_option
@reload_option
@output_option
def doctor(
    logins: tuple[str, ...],
    config: Path | None,
    state: Path | None,
    etc: str | None,
    sshd: str | None,
    reload: str | None,
    output: str,
) -> int:
    """Say what sshd really does with our settings, and what else lets people in. It changes nothing.

    It asks sshd itself (-t, -T, -T -C for each login) and reads its files. The exit status is 1 for a problem.
    """
    from jitgate.agent.doctor import Level, examine  # noqa: PLC0415  # loaded when called

    place = _place(config, state, etc, sshd, reload or ("true" if etc else None))
    gateways: list[str] = []
    which = place.sshd
    try:
        told = pins.read(place.config)
        logins, gateways = logins or told.logins, [each.address for each in told.gateways]
        which = told.sshd if not etc else which
    except NotFound:
        pass
    found = examine(which, logins, system_clock(), gateways=gateways)
    if output == "json":
        rows = [{"level": each.level, "code": each.code, "what": each.what, "hint": each.hint} for each in found]
        click.echo(json.dumps(rows, indent=2))
    else:
        for each in found:
            click.echo(f"{each.level:8} {each.what}")
            if each.hint:
                click.echo(f"{'':8}   {each.hint}")
    return 1 if any(each.level in (Level.STOP, Level.PROBLEM) for each in found) else 0


@click.command(
    epilog=examples("""
    jitgate agent exclusive --undo-after 10m
    jitgate agent exclusive --keep
    jitgate agent exclusive --undo
    """)
)
@click.option("--undo-after", default="10m", metavar="TIME", help="When it is undone unless you confirm it.")
@click.option("--keep", is_flag=True, help="Confirm it: you got in by jitgate, and it stays.")
@click.option("--undo", is_flag=True, help="Undo it now.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@state_option
def exclusive(undo_after: str, *, keep: bool, undo: bool, yes: bool, config: Path | None, state: Path | None) -> None:
    """Let nothing but jitgate open this host: lists what would stop working, and asks.

    It is undone by itself after --undo-after, whatever becomes of this process, unless you come in by jitgate and
    confirm it with --keep. Keep a session open meanwhile.
    """
    from jitgate.agent import exclusive as room  # noqa: PLC0415  # loaded when called

    place = _place(config, state, None, None, None)
    told = pins.read(place.config)
    if keep and undo:
        raise UsageError("--keep and --undo exclude each other", "jitgate agent exclusive --help")
    if keep:
        room.confirm(place.state, told.sshd)
        _say("kept", "only jitgate opens this host")
    elif undo:
        _say("undone" if room.undo(told.sshd, place.state) else "nothing", "what opened this host before does again")
    else:
        _exclusive(place, undo_after, yes=yes)


def _exclusive(place: Place, undo_after: str, *, yes: bool) -> None:
    from jitgate.agent import exclusive as room  # noqa: PLC0415  # loaded when called

    told = pins.read(place.config)
    losses = room.preview(told.sshd)
    for each in losses:
        _say("stops", f"{each.login or 'everybody'}: {each.what}")
    if not losses:
        _say("stops", "nothing: jitgate is all that opens this host today")
    if not yes:
        which = "These will not open this host any more." if losses else "Nothing else will open this host from now on."
        try:
            agreed = click.confirm(f"{which} Go on?", err=True)
        except click.Abort:  # nobody is there
            agreed = False
        if not agreed:
            raise Conflict("nothing was changed", "--yes where nobody can answer")
    until = system_clock() + _span(undo_after)
    proved = room.begin(told.sshd, place.state, until)
    _say("proved", f"in force for {' '.join(proved)}")
    _say("undone", f"at {rfc3339(until)}, unless you come in by jitgate and say: jitgate agent exclusive --keep")


def _place(config: Path | None, state: Path | None, etc: str | None, sshd: str | None, reload: str | None) -> Place:
    """With --state but no --config, the settings lie beside the state: an agent of an ordinary user."""
    folder = (state or pins.STATE).absolute()
    file = config or (folder / "agent.toml" if state else pins.CONFIG)
    return Place(file.absolute(), folder, Sshd(Path(etc) if etc else ETC, sshd or "", reload or ""))


def _address(url: str | None) -> tuple[str, str]:
    """Origin and TLS pin of `https://HOST#sha256=HEX`."""
    origin, _, pin = (url or "").partition("#")
    if not re.fullmatch(r"https://[!-~]{1,300}", origin) or not re.fullmatch(r"(sha256=[0-9a-f]{64})?", pin):
        raise UsageError("--name needs the service's URL", "https://HOST#sha256=HEX, as jitgate init printed it")
    return origin.rstrip("/"), pin


def _fingerprint(root: str | None) -> str:
    if root is None or not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", root):
        raise UsageError("--name needs --root SHA256:...", "the root key's fingerprint, from an owner (docs/agent.md)")
    return root


def _read_token(file: str) -> str:
    """One line of a file that nobody else can read, or of stdin."""
    if file == "-":
        if sys.stdin.isatty():
            click.echo("jitgate: paste the join token, then Enter", err=True)
        return sys.stdin.buffer.readline(_TOKEN_MAX).decode("ascii", "replace").strip()
    try:
        with Path(file).open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & _OPEN:
                raise Unsafe(f"others can read {file}", f"chmod 600 {file}, or ask for a new token")
            return stream.readline(_TOKEN_MAX).decode("ascii", "replace").strip()
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}", "an owner makes one: jitctl hosts add NAME") from error


def _say(word: str, text: str) -> None:
    click.echo(f"{word:8} {text}")


def _span(text: str) -> Micros:
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", text)
    if found is None:
        raise UsageError(f"not a length of time: {shown(text)}", "like 30s, 10m, 2h")
    return int(found[1]) * {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}[found[2]]
