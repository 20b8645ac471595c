"""jitgate serve: the service."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, settings_of
from jitgate.app.logs import set_up_logs
from jitgate.app.serve import run


@click.command(
    epilog=examples("""
    jitgate serve
    jitgate serve --config ./jitgate.toml
    """)
)
@config_option
def serve(config: Path) -> None:
    """Run the service until SIGTERM or SIGINT; requests that run then are finished."""

    settings = settings_of(config)
    set_up_logs(settings.log_level)
    run(settings)
