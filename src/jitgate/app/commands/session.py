"""jitgate session: connections that gateways carry."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.cli.out import table
from jitgate.core.text import check_reason


@click.command(epilog=examples("jitgate session ls\njitgate session ls --all -o json"))
@config_option
@output_option
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
def list_sessions(config: Path, output: str, *, everything: bool) -> None:
    """List the sessions that are open, everybody's and on every node."""
    sessions = operate(settings_of(config), "session ls", {"all": everything})["sessions"]
    rows = [
        (s["id"], s["person"], f"{s['login']}@{s['host']}", s["source"], s["opened_at"], s["ends_at"], s["end_reason"])
        for s in sessions
    ]
    show(output, sessions, table(("ID", "PERSON", "TARGET", "FROM", "OPENED", "ENDS", "ENDED"), rows))
    if not sessions:
        click.echo("jitgate: no session is open", err=True)


@click.command(epilog=examples("jitgate session kill 01J8Z0K3V4WQ2M5N6P7R8S9TAB --reason 'stolen laptop'"))
@click.argument("id")
@config_option
@click.option("--reason", default="", help="Why, for the log.")
def kill(id: str, config: Path, reason: str) -> None:  # noqa: A002  # the argument's name in the help
    """End a session now. The grant goes on: to take the access away, disable the user or end the grant."""
    operate(settings_of(config), "session kill", {"id": id, "reason": check_reason(reason)})
    click.echo(f"jitgate: session {id} ends now", err=True)
