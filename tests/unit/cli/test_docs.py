"""docs/jitctl.md says what the program says. After a change of a help text: python -m tests.unit.cli.test_docs"""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.unit.cli.test_main import ALL

from jitgate.cli.main import INTERRUPTED, root
from jitgate.core import errors
from jitgate.core.errors import Error

pytestmark = pytest.mark.drift

DOCUMENT = Path(__file__).parents[3] / "docs/jitctl.md"
START = "## Commands\n\nAll take the options of the first one, before or after their name.\n"


def commands() -> str:
    """The help of every command, as it has to stand in the document."""
    parts = [START]
    for path in ALL:
        shown = CliRunner().invoke(root, [*path, "--help"], prog_name="jitctl", terminal_width=100).output
        if path:  # what all commands take stands once, at the first
            shown = re.sub(r" {2}(?:-o, )?--output \[table.*?confirmation is asked\.\n", "", shown, flags=re.DOTALL)
        parts.append(f"### {' '.join(('jitctl', *path))}\n\n```\n{shown}```\n")
    return "\n".join(parts)


def test_every_help_stands_there():
    assert DOCUMENT.read_text().partition(START)[2] == commands().removeprefix(START)


def test_every_exit_status_stands_there():
    documented = set(map(int, re.findall(r"^\| ([0-9]+) \|", DOCUMENT.read_text(), re.MULTILINE)))
    ours = {kind.exit_status for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Error)}
    assert documented == ours | {0, INTERRUPTED, 141}


def test_every_variable_stands_there():
    text = DOCUMENT.read_text()
    for parameter in root.params:
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
            assert f"`{parameter.envvar}`" in text


if __name__ == "__main__":
    DOCUMENT.write_text(DOCUMENT.read_text().partition(START)[0] + commands())
