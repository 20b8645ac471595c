"""What the commands share: where the settings are, and how a result is printed."""

import json
from collections.abc import Iterable
from pathlib import Path

import click

from jitgate.app.settings import CONFIG_PATHS, Settings, load_settings
from jitgate.ca.realms import DEFAULT_REALM

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=CONFIG_PATHS[0],
    show_default=True,
    envvar="JITGATE_CONFIG",
    help="The settings file.",
)
realm_option = click.option(
    "--realm", default=DEFAULT_REALM, show_default=True, metavar="NAME", help="Which realm: jitgate realm ls."
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How data is printed on stdout."
)


def settings_of(config: Path) -> Settings:
    return load_settings(config)


def show(output: str, document: object, lines: Iterable[str]) -> None:
    """The result on stdout: the document as JSON, or its lines for a person."""
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        for line in lines:
            click.echo(line)


def examples(text: str) -> str:
    """A help's last lines: commands that can be typed as they stand."""
    lines = "\n".join(f"  {line.strip()}" for line in text.strip().splitlines())
    return f"\b\nExamples:\n{lines}"
