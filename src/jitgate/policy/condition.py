"""Conditions in CEL, over a closed set of names. The only user of `cel`.

The library checks names when a condition runs; an unknown one must not wait until then. So the text is
read first by condition_text.py, which knows less than CEL, and the library's own list of the names that it found is
compared with that: the two cannot read one text differently.

Rules at load:
1. At most `LENGTH_MAX` characters and `DEPTH_MAX` brackets deep; plain strings with the escapes \\\\ \\' \\" only; no
   comments, maps, floats, raw or triple-quoted strings.
2. Names: `user.{name,groups,issuer}`, `auth.{factors,age_s}`, `host.{name,labels,realm}`,
   `request.{login,minutes,reason,ticket}`, `source.ip`, `now`. Labels as `host.labels.KEY` or `host.labels["KEY"]`.
3. Functions: those of `METHODS` and `FUNCTIONS`. `exists`, `all` and `exists_one` never inside one another.
4. A pattern of `matches` is a literal with `^` and `$` around all of it: a pattern that matches somewhere is a hole.
5. A trial run on a sample must give true or false; only a missing label may make it fail.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from jitgate.core.errors import BadInput
from jitgate.core.outcome import Check, crashed, failed, passed
from jitgate.core.text import shown
from jitgate.policy.cel_library import cel
from jitgate.policy.condition_text import FUNCTIONS, METHODS, Reading

ENTRIES_MAX = 256  # of a list or map handed to a condition: it may be walked

_OPERATORS = frozenset({
    "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_&&_", "_||_", "!_", "-_", "_+_", "_-_", "_*_", "_/_", "_%_",
    "_?_:_", "@in", "_[_]", "@not_strictly_false",
})  # fmt: skip

Context = cel.Context
"""The closed names with their values; costly to make, cheap to use again."""
Value = dict[str, str | int | list[str] | dict[str, str]] | datetime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that loaded. `roots`: which of the closed names it looks at."""

    text: str
    roots: frozenset[str]
    _program: cel.Program

    def run(self, context: Context) -> object:
        """What the condition gives; raises whatever the library does."""
        return self._program.execute(context)


def compile_condition(text: str) -> Condition:
    """The condition, by the rules above; else `BadInput`."""
    read = Reading(text)
    try:
        program = _guarded(lambda: cel.compile(text))
    except _BrokenError as error:
        raise BadInput(f"not a condition: {error}", "see docs/policy.md") from None
    names, functions = set(program.variables()), set(program.functions())
    if not names <= read.roots | read.bound or not functions <= METHODS | FUNCTIONS | _OPERATORS:
        raise BadInput("a condition that reads in two ways", "write it more plainly")
    condition = Condition(text, frozenset(read.roots), program)
    try:
        if not isinstance(_guarded(lambda: condition.run(_SAMPLE)), bool):
            raise BadInput("the condition gives no true or false", "end in a comparison")
    except _NoLabelError:
        pass
    except _BrokenError as error:
        raise BadInput(f"the condition cannot run: {error}", "compare values of one type") from None
    return condition


def evaluate(condition: Condition, values: Callable[[], Context]) -> Check:
    """Passed only if the condition gives true. Anything but true and false is a crash; nothing is raised."""
    try:
        result = _guarded(lambda: condition.run(values()))
    except _NoLabelError as error:
        return crashed("condition", str(error), "label the host, or guard the label with has()")
    except _BrokenError as error:
        return crashed("condition", f"the condition broke: {error.kind}: {condition.text}")
    if result is True:
        return passed("condition", f"true: {condition.text}")
    if result is False:
        return failed("condition", f"false: {condition.text}", f"make this true: {condition.text}")
    return crashed("condition", "the condition gave no true or false")


def context(values: Mapping[str, Value]) -> Context:
    """The closed names with their values. Raises `BadInput` if a list is longer than a condition may walk."""
    for value in values.values():
        for inner in value.values() if isinstance(value, dict) else ():
            if isinstance(inner, list | dict) and len(inner) > ENTRIES_MAX:
                raise BadInput("more groups or labels than a condition may walk", f"at most {ENTRIES_MAX}")
    return Context(dict(values))


_SAMPLE = context(
    {
        "user": {"name": "alice", "groups": ["ops"], "issuer": "local"},
        "auth": {"factors": ["password", "totp"], "age_s": 60},
        "host": {"name": "web1", "labels": {"env": "prod"}, "realm": "default"},
        "request": {"login": "ubuntu", "minutes": 60, "reason": "a reason", "ticket": "T-1"},
        "source": {"ip": "192.0.2.1"},
        "now": datetime(2027, 1, 15, 8, tzinfo=UTC),
    }
)


class _BrokenError(Exception):
    """The library could not; with its words, which may quote what it was given. `kind` quotes nothing."""

    def __init__(self, words: str, kind: str) -> None:
        super().__init__(words)
        self.kind = kind


class _NoLabelError(_BrokenError):
    """A label that the host lacks; fields of a closed name cannot be missing."""


def _guarded(action: Callable[[], T]) -> T:
    try:
        return action()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except KeyError as error:
        raise _NoLabelError(f"the host has no label {shown(str(error.args[0]))}", "KeyError") from None
    except BaseException as error:  # noqa: BLE001  # a panic in the library is no `Exception`
        lines = [line.partition("<input>:")[2] or line for line in str(error).replace("'", '"').splitlines()]
        kind = type(error).__name__
        raise _BrokenError(shown(next(filter(None, lines), kind), 160), kind) from None
