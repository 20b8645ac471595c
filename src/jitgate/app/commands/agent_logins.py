"""jitgate agent logins: by what an agent learns who logs in, and who is in."""

import json
from pathlib import Path

import click

from jitgate.agent import pins
from jitgate.app.commands.agent import _place, config_option, examples, output_option, state_option
from jitgate.core.clock import rfc3339
from jitgate.core.errors import UsageError


@click.command(
    epilog=examples("""
    jitgate agent logins
    jitgate agent logins --pam
    jitgate agent logins --only deploy
    """)
)
@click.option("--pam", "on", is_flag=True, help="Let PAM tell the agent of each login: one line in /etc/pam.d/sshd.")
@click.option("--off", is_flag=True, help="Take that line out again, byte for byte.")
@click.option("--only", metavar="LOGIN", multiple=True, help="Nothing but jitgate opens this login from now on.")
@click.option("--open", "opened", metavar="LOGIN", multiple=True, help="Its keys and passwords open it again.")
@config_option
@state_option
@output_option
def logins(
    *,
    on: bool,
    off: bool,
    only: tuple[str, ...],
    opened: tuple[str, ...],
    config: Path | None,
    state: Path | None,
    output: str,
) -> None:
    """Show who is in on this host and by what, as the agent knows it.

    It learns of logins from the journal where there is one. On other hosts, and to know each certificate's key as well,
    --pam adds a line to sshd's PAM file. A plain log file is not believed: who is on the host may be able to write it.

    Logins that had no account when this host joined are opened by jitgate alone; --only and --open change that.
    """
    from jitgate.agent import jit, pam  # noqa: PLC0415  # loaded when called
    from jitgate.agent.logins import FILE  # noqa: PLC0415
    from jitgate.agent.watch import journal_program  # noqa: PLC0415

    if on and off:
        raise UsageError("--pam and --off exclude each other", "jitgate agent logins --help")
    place = _place(config, state, None, None, None)
    told = pins.read(place.config)
    if on:
        click.echo("PAM tells the agent now" if pam.install(told.sshd, place.state) else "PAM tells the agent already")
        return
    if off:
        click.echo("PAM's line is out" if pam.remove() else "there was no line of ours")
        return
    if only or opened:
        jit.put(told.sshd, (set(jit.closed(told.sshd)) | set(only)) - set(opened))
    sources = [
        name for name, is_on in (("pam", pam.is_installed(place.state)), ("journal", journal_program())) if is_on
    ]
    path = place.state / FILE
    seen = json.loads(path.read_text())["seen"] if path.is_file() else []
    rows = [each["login"] | {"began_at": rfc3339(each["login"]["at"])} for each in seen]
    if output == "json":
        said = {"sources": sources, "only_by_jitgate": jit.closed(told.sshd), "logins": rows}
        click.echo(json.dumps(said, indent=2))
        return
    click.echo(f"sources  {' '.join(sources) or 'none: jitgate agent logins --pam'}")
    click.echo(f"only     {' '.join(jit.closed(told.sshd)) or 'no login is opened by jitgate alone'}")
    for row in rows:
        by = f"{row['how']} {row['serial']} {row['key_id']}" if row["serial"] else row["how"]
        click.echo(f"login    {row['login']} from {row['source']} port {row['port']} since {row['began_at']}: {by}")
