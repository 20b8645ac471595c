"""What is printed: formats, widths, times. Nothing in it ever steers a terminal."""

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jitgate.cli import out, times
from jitgate.cli.command import Options
from jitgate.core.clock import DAY, HOUR, MINUTE, SECOND
from jitgate.core.errors import BadInput, UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DOCUMENTS = st.recursive(
    TEXT | st.booleans() | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NOON = 1_800_000_000 * SECOND


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(DOCUMENTS)
def test_yaml_reads_back_as_what_it_was(document: object):
    lines = out.yaml_lines(document)
    assert yaml.safe_load("\n".join(lines)) == document
    assert all(line.isprintable() for line in lines)


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=4))
def test_a_table_is_one_printable_line_a_row(rows: list[tuple[str, str]]):
    lines = out.table(("A", "B"), rows)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)


def test_columns_count_what_a_terminal_shows():
    assert out.table(("A", "B"), [("日本", "x"), ("e\u0301", "y"), ("abc", "")]) == [
        "A     B",
        "日本  x",
        "e\u0301     y",
        "abc   -",
    ]


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on stdout is a terminal of 20 columns, without colours."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_last_column_is_cut_at_the_edge_of_a_terminal(monkeypatch: pytest.MonkeyPatch):
    narrow(monkeypatch)
    assert out.table(("ID", "WHY"), [("web1", "because it is so long")]) == ["ID    WHY", "web1  because it is…"]


def test_a_table_too_wide_for_the_terminal_is_a_block_a_row(monkeypatch: pytest.MonkeyPatch):
    narrow(monkeypatch)
    rows = [("*", "01J8Z0K3V4WQ2M5N6P7R8S9TAA", "3 s ago", "laptop"), (" ", "01J8Z0K3V4WQ2M5N6P7R8S9TBB", "", "")]
    assert out.table((" ", "ID", "ADDED", "COMMENT"), rows) == [
        "ID       * 01J8Z0K3V4WQ2M5N6P7R8S9TAA",
        "ADDED    3 s ago",
        "COMMENT  laptop",
        "",
        "ID       01J8Z0K3V4WQ2M5N6P7R8S9TBB",
    ]


@pytest.mark.parametrize(
    ("document", "lines"),
    [
        ([{"name": "web1", "ports": [1, 2]}, {}], ['- "name": "web1"', '  "ports":', "    - 1", "    - 2", "- {}"]),
        ([["a"], []], ['- - "a"', "- []"]),
        ({"a": [{"b": {"c": None}}]}, ['"a":', '  - "b":', '      "c": null']),
    ],
)
def test_yaml_as_people_write_it(document: object, lines: list[str]):
    assert out.yaml_lines(document) == lines


def test_json_is_plain_ascii(capsys: pytest.CaptureFixture[str]):
    out.data(Options(output="json"), {"name": "é\x7f\u202e\U0001f600"}, ())
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert json.loads(shown) == {"name": "é\x7f\u202e\U0001f600"}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0, "0 s ago"),
        (89 * SECOND, "in 89 s"),
        (15 * MINUTE - SECOND, "in 15 min"),
        (-3 * HOUR - 10 * MINUTE, "3 h ago"),
        (47 * HOUR, "in 47 h"),
        (20 * DAY, "in 20 days"),
    ],
)
def test_relative_times(after: int, words: str):
    assert times.relative(NOON + after, NOON) == words


def test_a_time_on_another_day_has_its_date():
    assert times.until(NOON + 10 * MINUTE, NOON) == "08:10 (in 10 min)"
    assert times.until(NOON + 10 * SECOND, NOON) == "08:00:10 (in 10 s)"
    assert times.until(NOON + 30 * HOUR, NOON) == "2027-01-16 14:00 (in 30 h)"


def test_times_that_people_type():
    assert times.since("30m", NOON) == NOON - 30 * MINUTE
    assert times.since("7d", NOON) == NOON - 7 * DAY
    assert times.since("2027-01-15T08:00:00Z", NOON) == NOON
    assert times.since("2027-01-15", NOON) == NOON - 8 * HOUR
    for wrong in ("", "m", "0m", "-5m", "1y", "9" * 9 + "d", "now", "99999-01-01"):
        with pytest.raises(UsageError):
            times.since(wrong, NOON)


@given(st.text(max_size=30))
def test_a_time_of_the_service_is_a_time_or_an_error(text: str):
    with contextlib.suppress(BadInput):
        assert isinstance(times.parse(text), int)
