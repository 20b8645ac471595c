"""jitgate db new-epoch: what is done first after a database was put back from a copy."""

import asyncio
import os
from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, settings_of
from jitgate.app.installation import epoch_file
from jitgate.app.operate import only_writer
from jitgate.app.settings import Settings
from jitgate.app.tls import write_secret
from jitgate.core.errors import Unsafe

PATIENCE_S = 15.0


@click.command(
    epilog=examples("""
    systemctl stop jitgate; cp backup/jitgate.db /var/lib/jitgate/; jitgate db new-epoch; systemctl start jitgate
    """)
)
@config_option
@click.option("--at-least", type=click.IntRange(1, 65535), default=1, help="Where another node knows of a later epoch.")
@click.option("--reason", default="", help="For the log.")
def new_epoch(config: Path, at_least: int, reason: str) -> None:
    """After the database was put back from a copy, before anything is served: begin a new epoch.

    No serial, no bundle's version and no index of the log is used twice. What people hold is revoked, for nobody knows
    any more what was taken back since the copy was made; they ask again. Look through persons, keys and hosts: who was
    disabled or removed since then is back.
    """
    settings = settings_of(config)
    with only_writer(settings.state, patience_s=PATIENCE_S):
        epoch, lost = asyncio.run(_begin(settings, at_least, reason))
    click.echo(f"jitgate: epoch {epoch} has begun; {lost} entries of the log are lost, and say so", err=True)
    click.echo(
        "jitgate: look through jitgate user ls, jitctl hosts ls: who was taken out since the copy is back", err=True
    )


async def _begin(settings: Settings, at_least: int, reason: str) -> tuple[int, int]:
    from jitgate.app.control import operator  # noqa: PLC0415  # most commands need none of it
    from jitgate.app.wiring import open_outside  # noqa: PLC0415
    from jitgate.flow.restore import begin_epoch, highest_epoch  # noqa: PLC0415

    async with open_outside(settings) as outside:
        epoch = max(await highest_epoch(outside) + 1, _known(settings) + 1, at_least)
        write_secret(epoch_file(settings), f"{epoch}\n".encode())  # before: a copy that is put back twice
        return epoch, await begin_epoch(outside, operator(os.geteuid()), epoch, reason)


def _known(settings: Settings) -> int:
    """The last epoch that began here, as the state folder remembers it beside the database."""
    try:
        text = epoch_file(settings).read_text().strip()
    except FileNotFoundError:
        return 0
    if not text.isascii() or not text.isdigit():
        raise Unsafe(f"{epoch_file(settings)} is not the file that was written here", "put it back from its backup")
    return int(text)
