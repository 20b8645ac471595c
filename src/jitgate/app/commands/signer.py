"""`jitgate signer`: the process that holds the CA keys."""

from pathlib import Path

import click

from jitgate.app.signer import run


@click.command()
@click.option("--fd", type=int, required=True, help="Descriptor of the connection to the service.")
@click.option("--keys", type=click.Path(path_type=Path), required=True, help="Folder of key files; may be read-only.")
@click.option("--rules", type=click.Path(path_type=Path), required=True, help="The signer's own file, signer.toml.")
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Folder of the list of what it signed.")
def signer(fd: int, keys: Path, rules: Path, state: Path) -> int:
    """Hold the CA keys and sign within signer.toml. Started by `jitgate serve`; ends with it."""
    return run(fd, keys, rules, state)
