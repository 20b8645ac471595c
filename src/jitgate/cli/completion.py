"""jitctl completion and version."""

import platform
import sys

import click
from click.shell_completion import get_completion_class

from jitgate import __version__
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data

_EXAMPLES = """
    jitctl completion bash > ~/.local/share/bash-completion/completions/jitctl
    jitctl completion zsh > ~/.zfunc/_jitctl
    jitctl completion fish > ~/.config/fish/completions/jitctl.fish
"""


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  # click knows these three
    script = found(ctx.find_root().command, {}, "jitctl", "_JITCTL_COMPLETE")
    sys.stdout.write(script.source_template % script.source_vars() + "\n")


@click.command(cls=Command, examples="jitctl version\njitctl version -o json")
@click.pass_obj
def version(options: Options) -> None:
    """Print the version."""
    data(options, {"jitctl": __version__, "python": platform.python_version()}, [f"jitctl {__version__}"])
