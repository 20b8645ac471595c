"""Tables of the settings: what a dataclass does not name, or names as another type, is refused with its place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jitgate.app.sections import read_section
from jitgate.core.errors import BadInput


@dataclass(frozen=True)
class Inner:
    name: str
    on: bool = False


@dataclass(frozen=True)
class Outer:
    count: int = 1
    words: tuple[str, ...] = ()
    file: Path = Path("/none")
    inner: Inner = Inner("default")
    many: tuple[Inner, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise BadInput("a count below zero", "count up")


def test_a_table_becomes_its_dataclass():
    found = read_section(
        Outer,
        "x.toml",
        {"count": 2, "words": ["a"], "file": "/a", "inner": {"name": "b", "on": True}, "many": [{"name": "c"}]},
    )
    assert found == Outer(2, ("a",), Path("/a"), Inner("b", on=True), (Inner("c"),))
    assert read_section(Outer, "x.toml", {}) == Outer()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "x.toml is not a table"),
        ({"other": 1}, "x.toml: unknown setting 'other'"),
        ({"count": "2"}, "x.toml: count is not a whole number"),
        ({"count": True}, "x.toml: count is not a whole number"),
        ({"count": -1}, "x.toml: a count below zero"),
        ({"words": "a"}, "x.toml: words is not a list"),
        ({"words": [1]}, "x.toml: words 1 is not text"),
        ({"file": "a"}, "x.toml: file is not an absolute path"),
        ({"inner": {"on": True}}, "x.toml: inner: name is missing"),
        ({"inner": {"name": "b", "on": "yes"}}, "x.toml: inner: on is not true or false"),
        ({"many": {"name": "b"}}, "x.toml: many is not a list"),
        ({"many": [{"name": "b"}, {"nam": "c"}]}, "x.toml: many 2: unknown setting 'nam'"),
    ],
)
def test_anything_else_is_refused_with_its_place(table: Any, words: str):
    with pytest.raises(BadInput) as refused:
        read_section(Outer, "x.toml", table)
    assert refused.value.what.startswith(words)
