"""jitctl identities: by whom else a person is known, so that several ways to sign in lead to one person."""

import click

from jitgate.cli import terminal
from jitgate.cli.answers import check_id, rows, text
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, table
from jitgate.cli.profile import current
from jitgate.cli.providers import as_ways, choose
from jitgate.cli.service import signed_in
from jitgate.cli.signin import token_for
from jitgate.cli.times import parse, relative
from jitgate.core.clock import system_clock
from jitgate.core.errors import NotFound


@click.command("ls", cls=Command, examples="jitctl identities ls\njitctl identities ls -o json")
@click.pass_obj
def ls(options: Options) -> None:
    """List who you are at identity providers: each of them signs in as you."""
    with signed_in(current(options), options) as service:
        found = rows(service.get("/v1/identities"), "identities")
    now = system_clock()
    lines = [
        (
            text(row, "id"),
            text(row, "provider", ""),
            text(row, "subject"),
            relative(parse(text(row, "linked_at")), now),
        )
        for row in found
    ]
    data(options, found, table(("ID", "PROVIDER", "SUBJECT", "LINKED"), lines))


@click.command("link", cls=Command, examples="jitctl identities link\njitctl identities link dex")
@click.argument("provider", required=False)
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening a browser.")
@click.pass_obj
def link(options: Options, provider: str | None, no_browser: bool) -> None:  # noqa: FBT001  # click gives it by name
    """Sign in at another identity provider, and have it lead to you from now on.

    PROVIDER is its name at the service, needed if there are several.
    """
    with signed_in(current(options), options) as service:
        ways = as_ways(service.get("/.well-known/jitgate"))
        if not ways.providers:
            raise NotFound("the service has no identity provider", "its owner adds one to jitgate.toml")
        only = ways.providers[0].name if len(ways.providers) == 1 else None
        there = choose(options, ways, provider or only, local=False, used="")
        if there is None:
            raise NotFound("a password is no identity of a provider", "jitctl identities link PROVIDER")
        with token_for(there, service.profile.url, service.signer, options, browser=not no_browser) as told:
            answer = service.post("/v1/identities", told | {"key": service.signer.public.line()})
    say(options, f"{there.name} now leads to you")
    data(options, answer, ())


@click.command("unlink", cls=Command, examples="jitctl identities unlink 01J8Z0K3V4WQ2M5N6P7R8S9TAB")
@click.argument("id")
@click.pass_obj
def unlink(options: Options, id: str) -> None:  # noqa: A002  # the argument's name in the help
    """Remove one. Sign-ins that it began go on until they end."""
    check_id(id, "jitctl identities ls")
    with signed_in(current(options), options) as service:
        terminal.confirm(options, f"unlink identity {id}")
        service.delete(f"/v1/identities/{id}")
    say(options, f"unlinked identity {id}")
