"""The threat model names a test for what holds, and the tests that it names are there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.drift

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
INVARIANTS = range(1, 33)
CITED = re.compile(r"`([a-z_/]+\.py)::([a-z_0-9]+)`")


def rows() -> Iterator[list[str]]:
    """The cells of each row that begins with a number: invariant, words, today, tests, not yet."""
    for line in TEXT.splitlines():
        if re.match(r"\| \d+ \|", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@cache
def functions_of(path: Path) -> frozenset[str]:
    found = ast.walk(ast.parse(path.read_text()))
    return frozenset(node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_invariant_has_its_row():
    assert [int(cells[0]) for cells in rows()] == list(INVARIANTS)
    for number, words, today, tests, lacking in rows():
        assert words, number
        assert today in ("holds", "partly", "not yet"), number
        assert lacking or today == "holds", f"{number}: what is missing?"
        assert tests or today == "not yet", f"{number}: which test tries to break it?"


def test_every_test_that_is_named_exists():
    cited = CITED.findall(TEXT)
    assert len(cited) > len(INVARIANTS), "the search finds none any more"
    assert len(cited) == TEXT.count("::"), "a test is named in another form"
    for path, name in cited:
        file = ROOT / "tests" / path
        assert file.is_file(), path
        assert name in functions_of(file), f"{path}::{name}"
