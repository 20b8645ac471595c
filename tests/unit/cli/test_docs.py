"""docs/jitctl.md tells every exit status and variable; its help pages are held to the code by tools/docs.py."""

import re
from pathlib import Path

import click
import pytest

from jitgate.cli.main import INTERRUPTED, root
from jitgate.core import errors
from jitgate.core.errors import Error

pytestmark = pytest.mark.drift

DOCUMENT = Path(__file__).parents[3] / "docs/jitctl.md"


def test_every_exit_status_stands_there():
    documented = set(map(int, re.findall(r"^\| ([0-9]+) \|", DOCUMENT.read_text(), re.MULTILINE)))
    ours = {kind.exit_status for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Error)}
    assert documented == ours | {0, INTERRUPTED, 141}


def test_every_variable_stands_there():
    text = DOCUMENT.read_text()
    for parameter in root.params:
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
            assert f"`{parameter.envvar}`" in text
