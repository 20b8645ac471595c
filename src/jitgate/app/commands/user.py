"""jitgate user: local users."""

import io
import sys
from pathlib import Path

import click
import segno

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.cli.out import table
from jitgate.core.errors import BadInput
from jitgate.core.text import check_name

PASSWORD_MAX = 4096  # bytes read from a password file


@click.command(
    epilog=examples("""
    jitgate user add alice --group engineers
    jitgate user add bob --group engineers --group dba --admin
    printf %s "$PASSWORD" | jitgate user add carol --password-file -
    jitgate user add dave --no-password
    """)
)
@click.argument("name")
@config_option
@output_option
@click.option("--group", "groups", multiple=True, help="A group that roles may name.")
@click.option("--admin", is_flag=True, help="May read the whole log and end anybody's grant.")
@click.option("--password-file", metavar="FILE", help="Read the password from FILE (- is stdin) instead of making one.")
@click.option("--no-password", is_flag=True, help="They sign in by an identity provider only: jitgate user link.")
def add(
    name: str,
    *,
    config: Path,
    output: str,
    groups: tuple[str, ...],
    admin: bool,
    password_file: str | None,
    no_password: bool,
) -> None:
    """Add a user. Shows, once, the password if it was made here, and the one-time code's secret as a QR code."""

    if no_password and password_file is not None:
        raise click.UsageError("--no-password and --password-file exclude each other")
    for group in groups:
        check_name("group", group)
    if no_password:
        told = {"name": name, "groups": list(groups), "admin": admin, "no_password": True}
        show(output, operate(settings_of(config), "user add", told), [f"user      {name}"])
        hint = f"jitgate user link {name} --provider PROVIDER --subject SUBJECT"
        click.echo(f"jitgate: {name} has no password: {hint}", err=True)
        return
    password = None if password_file is None else _password(password_file)
    told = {"name": name, "groups": list(groups), "admin": admin, "password": password}
    done = operate(settings_of(config), "user add", told)
    if password is not None:
        del done["password"]
    lines = [f"user      {name}"]
    if password is None:
        lines.append(f"password  {done['password']}")
    lines += [f"secret    {done['totp_secret']}", "", *_qr(done["totp_uri"])]
    show(output, done, lines)
    click.echo("jitgate: shown once: scan the code with an authenticator app, hand over both in person", err=True)


@click.command(epilog=examples("jitgate user ls\njitgate user ls -o json"))
@config_option
@output_option
def list_users(config: Path, output: str) -> None:
    """List the users with their groups."""

    users = operate(settings_of(config), "user ls", {})["users"]
    rows = [
        (
            u["name"],
            " ".join(u["groups"]),
            "admin" if u["admin"] else "",
            f"disabled {u['disabled_at']}" if u["disabled_at"] else "enabled",
        )
        for u in users
    ]
    show(output, users, table(("NAME", "GROUPS", "RIGHTS", "STATE"), rows))
    if not users:
        click.echo("jitgate: there is no user yet; jitgate user add NAME", err=True)


@click.command(epilog=examples("jitgate user disable alice"))
@click.argument("name")
@config_option
def disable(name: str, config: Path) -> None:
    """Take a user's access away at once: sign-ins and grants end, nothing new is issued.

    A certificate that is out already opens its host until it ends by itself, minutes later.
    """

    operate(settings_of(config), "user disable", {"name": name})
    click.echo(f"jitgate: {name} is disabled; sign-ins and grants have ended", err=True)


@click.command(epilog=examples("jitgate user enable alice"))
@click.argument("name")
@config_option
def enable(name: str, config: Path) -> None:
    """Let a disabled user sign in again."""

    operate(settings_of(config), "user enable", {"name": name})
    click.echo(f"jitgate: {name} may sign in again", err=True)


def _password(source: str) -> str:

    data = sys.stdin.buffer.read(PASSWORD_MAX + 1) if source == "-" else Path(source).read_bytes()[: PASSWORD_MAX + 1]
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise BadInput("the password is not UTF-8 text") from None


def _qr(uri: str) -> list[str]:
    """The code as half blocks: two rows a line, so that it fits a terminal of 80 columns."""

    out = io.StringIO()
    segno.make(uri, error="l", micro=False).terminal(out, compact=True, border=2)
    return out.getvalue().rstrip("\n").splitlines()
