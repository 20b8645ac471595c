"""All printing: stdout is data, stderr is talk. Nothing from outside reaches the terminal as a control character."""

import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import click

from jitgate.cli.command import Options
from jitgate.core.errors import Error

_WORDS_MAX = 2000  # characters of one line of talk; a service that says more is not listened to
_ADDRESS_MAX = 8192  # an address that is cut leads nowhere
_COLOURS = {"passed": "32", "permit": "32", "allowed": "32", "failed": "31", "crashed": "31", "deny": "31"}
_COLOURS |= {"refused": "31", "needs_approval": "33", "ask": "33", "warning": "33"}


def plain(text: str, limit: int = _WORDS_MAX) -> str:
    """Text as it may stand in a terminal: what is not printable is written as an escape; cut at `limit`."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def say(options: Options, line: str) -> None:
    if not options.quiet:
        _stderr(f"jitctl: {plain(line)}")


def tell(line: str) -> None:
    """What a person needs to go on, --quiet or not."""
    _stderr(plain(line, _ADDRESS_MAX))


def warn(line: str) -> None:
    _stderr(f"jitctl: warning: {plain(line)}")


def say_error(error: Exception) -> int:
    """Says what went wrong and what to do; the exit status that goes with it."""
    match error:
        case Error():
            what, hint, status = error.what, error.hint, error.exit_status
        case click.exceptions.NoArgsIsHelpError():
            sys.stderr.write(error.format_message() + "\n")
            return error.exit_code
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "jitctl"
            what, hint, status = _lower(error.format_message()), f"{command} --help", error.exit_code
        case click.ClickException():
            what, hint, status = _lower(error.format_message()), "", error.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            what, hint, status = f"{where}{_lower(error.strerror or str(error))}", "", 1
        case _:
            what = f"a mistake in jitctl: {type(error).__name__}: {error}"
            hint, status = "run it again with JITCTL_DEBUG=1 and report what it shows", 1
    _stderr(f"jitctl: error: {plain(what)}")
    for check in getattr(error, "checks", ()):
        if not check.passed and check.why != what:
            _stderr(f"jitctl: {check.outcome}: {plain(check.name)}: {plain(check.why)}")
    if hint:
        _stderr(f"jitctl: hint: {plain(hint)}")
    return status


def data(options: Options, document: object, lines: Iterable[str]) -> None:
    """The result of a command: the document as JSON or YAML, or its lines for a person."""
    match options.output:
        case "json":
            import json  # noqa: PLC0415  # a start does without

            sys.stdout.write(json.dumps(document, indent=2) + "\n")  # ASCII only: safe for any terminal
        case "yaml":
            sys.stdout.write("".join(line + "\n" for line in yaml_lines(document)))
        case _:
            sys.stdout.write("".join(line + "\n" for line in lines))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; on a terminal the last one is cut at its edge.

    Where the others alone do not fit, each row is a block of lines, NAME and value.
    """
    cells = [tuple(head), *(tuple(plain(cell) or "-" for cell in row) for row in rows)]
    if len(cells) == 1:
        return []
    widths = [max(_width(row[i]) for row in cells) for i in range(len(head))]
    import shutil  # noqa: PLC0415  # a start does without

    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    if edge and sum(widths[:-1]) + 2 * len(widths) > edge:
        return _blocks(cells)
    lines = []
    for number, row in enumerate(cells):
        *front, last = row
        start = "".join(cell + " " * (widths[i] - _width(cell) + 2) for i, cell in enumerate(front))
        line = start + (_cut(last, edge - _width(start)) if edge else last)
        lines.append(_paint(line.rstrip(), "1") if number == 0 else line.rstrip())
    return lines


def table_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A table of rows that all have the same names, which are its head."""
    return table(list(rows[0]), [list(row.values()) for row in rows]) if rows else []


def _blocks(cells: Sequence[Sequence[str]]) -> list[str]:
    """The rows below the head. A mark in a column without a name stands before what follows; an empty cell nowhere."""
    head, *rows = cells
    width = max(map(len, head))
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        mark = ""
        for name, cell in zip(head, row, strict=True):
            if not name.strip():
                mark = cell.strip()
            elif cell != "-":
                value = f"{mark} {cell}".strip()
                lines.append(f"{name.ljust(width)}  {value}")
                mark = ""
    return lines


def pairs(rows: Iterable[tuple[str, str]]) -> list[str]:
    """A name and a value a line."""
    kept = [(name, plain(value)) for name, value in rows if value]
    width = max((len(name) for name, _ in kept), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in kept]


def coloured(word: str) -> str:
    """An outcome in its colour, where there are colours."""
    return _paint(plain(word), _COLOURS[word]) if word in _COLOURS else plain(word)


def yaml_lines(document: object, indent: str = "") -> list[str]:
    """Block style with every text in double quotes, so that nothing is ever read as another type."""
    lines: list[str] = []
    if isinstance(document, dict) and document:
        for key, value in document.items():
            lines += _yaml_item(f"{indent}{_quoted(str(key))}:", value, indent)
    elif isinstance(document, list | tuple) and document:
        for value in document:
            lines += _yaml_item(f"{indent}-", value, indent)
    else:
        lines.append(indent + _yaml_scalar(document))
    return lines


def _yaml_item(lead: str, value: object, indent: str) -> list[str]:
    if isinstance(value, dict | list | tuple) and value:
        first, *rest = lines = yaml_lines(value, indent + "  ")
        return [f"{lead} {first.lstrip(' ')}", *rest] if lead.endswith("-") else [lead, *lines]
    return [f"{lead} {_yaml_scalar(value)}"]


def _yaml_scalar(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    import json  # noqa: PLC0415  # a start does without

    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _quoted(text: str) -> str:
    """YAML 1.2, 5.7: \\U for what lies beyond the first plane, where JSON would write two halves."""
    out = []
    for c in text:
        if c in '"\\':
            out.append("\\" + c)
        elif c.isprintable():
            out.append(c)
        else:
            out.append(f"\\u{ord(c):04x}" if ord(c) <= 0xFFFF else f"\\U{ord(c):08x}")  # noqa: PLR2004  # the first plane
    return '"' + "".join(out) + '"'


def _stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _lower(words: str) -> str:
    first, rest = words[:1], words[1:]
    return (first.lower() + rest).rstrip(".")


def _paint(text: str, code: str) -> str:
    rich = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and (os.environ.get("TERM") or "dumb") != "dumb"
    return f"\033[{code}m{text}\033[0m" if rich else text


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _cut(text: str, width: int) -> str:
    if width < 1 or _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"
