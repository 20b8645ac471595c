"""jitctl keys: the public keys that the service knows as yours."""

from pathlib import Path

import click

from jitgate.cli import terminal
from jitgate.cli.answers import check_id, rows, text
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, table
from jitgate.cli.profile import current
from jitgate.cli.service import signed_in
from jitgate.cli.signing import comment_of, load_signer
from jitgate.cli.times import parse, relative
from jitgate.core.clock import system_clock


@click.command("ls", cls=Command, examples="jitctl keys ls\njitctl keys ls -o json")
@click.pass_obj
def ls(options: Options) -> None:
    """List your registered keys; * marks the one that is used here."""
    with signed_in(current(options), options) as service:
        found, own = rows(service.get("/v1/keys"), "keys"), service.signer.public.fingerprint
    now = system_clock()
    lines = [
        (
            "*" if text(row, "fingerprint") == own else " ",
            text(row, "id"),
            text(row, "fingerprint"),
            relative(parse(text(row, "added_at")), now),
            text(row, "comment", ""),
        )
        for row in found
    ]
    data(options, found, table((" ", "ID", "FINGERPRINT", "ADDED", "COMMENT"), lines))


@click.command(
    "add", cls=Command, examples="jitctl keys add ~/.ssh/id_ed25519\njitctl keys add ~/.ssh/id_ed25519_sk.pub"
)
@click.argument("file")
@click.pass_obj
def add(options: Options, file: str) -> None:
    """Register another key, so that certificates can be made for it.

    FILE is the private key, or the public one where an agent holds the other half: both the new key and the one used
    here sign for it.
    """
    path = Path(file).expanduser()
    with signed_in(current(options), options) as service:
        new = load_signer(path)
        answer = service.post("/v1/keys", {"key": new.public.line(comment_of(path))}, second=new)
    say(options, f"registered {new.public.fingerprint}")
    data(options, answer, ())


@click.command("rm", cls=Command, examples="jitctl keys rm 01J8Z0K3V4WQ2M5N6P7R8S9TAB")
@click.argument("id")
@click.pass_obj
def rm(options: Options, id: str) -> None:  # noqa: A002  # the argument's name in the help
    """Remove one of your keys. Certificates that are out for it stay valid until they end."""
    check_id(id, "jitctl keys ls")
    with signed_in(current(options), options) as service:
        terminal.confirm(options, f"remove key {id}")
        service.delete(f"/v1/keys/{id}")
    say(options, f"removed key {id}")
