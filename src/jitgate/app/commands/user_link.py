"""jitgate user show, link, unlink: who a user is at the identity providers."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.cli.out import table

provider_option = click.option("--provider", required=True, metavar="PROVIDER", help="Its name in the settings.")


@click.command(epilog=examples("jitgate user show alice\njitgate user show alice -o json"))
@click.argument("name")
@config_option
@output_option
def show_user(name: str, config: Path, output: str) -> None:
    """Show a user: groups, state, and the identities that are linked to them."""
    done = operate(settings_of(config), "user show", {"name": name})
    person = done["person"]
    lines = [
        f"user      {person['name']}",
        f"groups    {' '.join(person['groups'])}",
        f"state     {'disabled ' + person['disabled_at'] if person['disabled_at'] else 'enabled'}",
        "",
    ]
    rows = [(each["provider"] or each["issuer"], each["subject"], each["linked_at"]) for each in done["identities"]]
    show(output, done, [*lines, *table(("PROVIDER", "SUBJECT", "LINKED"), rows)])


@click.command(epilog=examples("jitgate user link alice --provider corp --subject 248289761001"))
@click.argument("name")
@provider_option
@click.option("--subject", required=True, metavar="SUBJECT", help="The `sub` of its ID tokens, as it stands there.")
@config_option
def link(name: str, provider: str, subject: str, config: Path) -> None:
    """Link an identity of a provider to a user: who signs in as SUBJECT there is NAME here from now on.

    Somebody who tries to sign in and is not linked yet is told their SUBJECT. Persons with a password link identities
    themselves: jitctl identities link PROVIDER.
    """
    operate(settings_of(config), "user link", {"name": name, "provider": provider, "subject": subject})
    click.echo(f"jitgate: {name} may sign in by {provider}", err=True)


@click.command(epilog=examples("jitgate user unlink alice --provider corp"))
@click.argument("name")
@provider_option
@click.option("--subject", default="", metavar="SUBJECT", help="Which, if there are several.")
@config_option
def unlink(name: str, provider: str, subject: str, config: Path) -> None:
    """Take the link of an identity away. Sign-ins by it end at once, with the grants that they opened."""
    operate(settings_of(config), "user unlink", {"name": name, "provider": provider, "subject": subject})
    click.echo(f"jitgate: {name} may not sign in by that identity any more; its sign-ins have ended", err=True)
