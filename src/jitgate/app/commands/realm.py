"""jitgate realm: trust domains, each with CA keys, ceilings and hosts of its own."""

import time
from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.control import Json
from jitgate.app.key_files import first_file, make_realm, tables_of
from jitgate.app.operate import operate
from jitgate.app.settings import Settings
from jitgate.ca.realms import CaKind
from jitgate.cli.out import table
from jitgate.core.errors import Error

PATIENCE_S = 15.0  # until the signer has seen files and rules twice
_WITHOUT_KEYS = "realm_without_keys"


@click.command(epilog=examples("jitgate realm add eu\njitgate realm add eu --print"))
@click.argument("name")
@config_option
@output_option
@click.option("--print", "print_", is_flag=True, help="Only print the tables for signer.toml, and name the key files.")
def add(name: str, config: Path, output: str, *, print_: bool) -> None:
    """Add a realm: a user CA, a host CA and an interception CA of its own, ceilings of its own, hosts of its own.

    Makes three keys in the folder of CA keys and adds three tables to signer.toml, which the running signer reads by
    itself. Where it holds keys for the realm already (brought by hand, in an HSM), these are used.
    """
    settings = settings_of(config)
    if print_:
        click.echo(tables_of(name), nl=False)
        files = ", ".join(first_file(name, kind) for kind in (CaKind.USER, CaKind.HOST, CaKind.INTERCEPTION))
        click.echo(f"jitgate: the keys belong into {settings.keys_folder}: {files} (0600)", err=True)
        return
    done = _add(settings, name)
    show(output, done["realm"], [name])
    click.echo(f"jitgate: hosts of it: jitgate host add NAME --realm {name}; roles for it: realm: {name}", err=True)


def _add(settings: Settings, name: str) -> Json:
    try:
        return operate(settings, "realm add", {"name": name})
    except Error as error:
        if error.code != _WITHOUT_KEYS:
            raise
    make_realm(settings, name)
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return operate(settings, "realm add", {"name": name})
        except Error as error:
            if error.code != _WITHOUT_KEYS or time.monotonic() > until:
                raise
        time.sleep(0.3)


@click.command(epilog=examples("jitgate realm ls\njitgate realm ls -o json"))
@config_option
@output_option
def list_realms(config: Path, output: str) -> None:
    """List the realms."""
    realms = operate(settings_of(config), "realm ls", {})["realms"]
    rows = [(r["name"], str(r["hosts"]), r["host_pattern"], " ".join(_signing(r))) for r in realms]
    show(output, realms, table(("NAME", "HOSTS", "HOST NAMES", "SIGNS"), rows))


@click.command("show", epilog=examples("jitgate realm show eu\njitgate realm show eu -o json"))
@click.argument("name")
@config_option
@output_option
def show_realm(name: str, config: Path, output: str) -> None:
    """Show a realm: its CA keys, how its hosts are named, who has left it."""
    realm = operate(settings_of(config), "realm show", {"name": name})["realm"]
    lines = [
        f"realm       {realm['name']}, since {realm['added_at']}",
        f"hosts       {realm['hosts']}, as {realm['host_pattern']}",
        f"left by     {' '.join(realm['left']) or 'nobody'}",
        "",
        *table(("KIND", "PHASE", "FINGERPRINT"), [(k["kind"], k["phase"], k["fingerprint"]) for k in realm["keys"]]),
    ]
    show(output, realm, lines)


def _signing(realm: Json) -> list[str]:
    active = {key["kind"] for key in realm["keys"] if key["phase"] == "active"}
    return [kind for kind in ("user", "host", "interception") if kind in active]


@click.command(epilog=examples("jitgate user leave alice --realm eu --reason 'moved to us'"))
@click.argument("name")
@config_option
@click.option("--realm", required=True, help="What they have in this realm ends.")
@click.option("--reason", default="", metavar="TEXT", help="For the log.")
def leave(name: str, config: Path, realm: str, reason: str) -> None:
    """Take away, at once, all that a user has in one realm. What they have in others goes on."""
    operate(settings_of(config), "user leave", {"name": name, "realm": realm, "reason": reason})
    back = f"jitgate user return {name} --realm {realm}"
    click.echo(f"jitgate: {name} has nothing in {realm} any more; back: {back}", err=True)


@click.command("return", epilog=examples("jitgate user return alice --realm eu"))
@click.argument("name")
@config_option
@click.option("--realm", required=True, help="What its roles give them is given again.")
@click.option("--reason", default="", metavar="TEXT", help="For the log.")
def come_back(name: str, config: Path, realm: str, reason: str) -> None:
    """Let a user back into a realm that they had left. Grants that ended stay ended."""
    operate(settings_of(config), "user return", {"name": name, "realm": realm, "reason": reason})
    click.echo(f"jitgate: roles of {realm} speak of {name} again", err=True)
