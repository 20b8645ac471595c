"""`jitgate signer`: the process that holds the CA keys."""

from pathlib import Path

import click

from jitgate.app.commands.options import examples
from jitgate.app.signer import run, run_apart
from jitgate.core.errors import UsageError

_PATH = click.Path(path_type=Path)


@click.command(
    epilog=examples("""
    jitgate signer --listen /run/jitgate-signer/socket --for jitgate --folder /var/lib/jitgate-signer
    """)
)
@click.option("--fd", type=int, help="Descriptor of the connection to the service, which started it.")
@click.option("--listen", type=_PATH, metavar="SOCKET", help="Run apart, and answer at this socket.")
@click.option("--for", "users", multiple=True, metavar="USER", help="With --listen: who may ask, besides root.")
@click.option("--folder", type=_PATH, help="Where keys/, signer.toml and signed/ are, unless named one by one.")
@click.option("--keys", type=_PATH, help="Folder of key files; may be read-only.")
@click.option("--rules", type=_PATH, help="The signer's own file, signer.toml.")
@click.option("--state", type=_PATH, help="Folder of the list of what it signed.")
def signer(
    fd: int | None,
    listen: Path | None,
    users: tuple[str, ...],
    folder: Path | None,
    keys: Path | None,
    rules: Path | None,
    state: Path | None,
) -> int:
    """Hold the CA keys and sign within signer.toml.

    `jitgate serve` starts one as a child, which ends with it. Better is one apart, under a user of its own whose files
    the service's user cannot read: docs/custody.md.
    """
    if folder is not None:
        keys, rules, state = keys or folder / "keys", rules or folder / "signer.toml", state or folder / "signed"
    if keys is None or rules is None or state is None:
        raise UsageError("where are the keys?", "--folder FOLDER; or --keys, --rules and --state")
    if listen is not None and users and fd is None:
        return run_apart(listen, users, keys, rules, state)
    if fd is not None and listen is None and not users:
        return run(fd, keys, rules, state)
    raise UsageError("it is started by jitgate serve; or apart, with --listen SOCKET and --for USER", "docs/custody.md")
