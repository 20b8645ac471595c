"""JSON between programs, read strictly: each name once, each value of its type and in its bounds, and none besides."""

import json
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeVar

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

NUMBER_MAX: Final = (1 << 63) - 1
T = TypeVar("T")


def canonical(value: object) -> bytes:
    """One spelling for each value, so that it can be signed: ASCII, names sorted, no space."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("ascii")


def read_json(unverified: bytes, what: str) -> object:
    """The value. `BadInput` for what is no JSON, for a name that stands twice and for numbers that are not whole.

    The caller bounds the size before.
    """
    try:
        found: object = json.loads(
            unverified, object_pairs_hook=_each_once, parse_float=_not_whole, parse_constant=_not_whole
        )
    except (ValueError, RecursionError):  # no UTF-8 either, or nested too deep
        raise BadInput(f"{what} is not the JSON that is taken", code="malformed") from None
    return found


class Fields:
    """An object's fields, each read once; `end` refuses what was not read."""

    __slots__ = ("_left", "_what")

    def __init__(self, unverified: object, what: str) -> None:
        if not isinstance(unverified, dict):
            raise BadInput(f"{what} is not an object", code="malformed")
        self._left: dict[str, object] = dict(unverified)
        self._what = what

    def has(self, name: str) -> bool:
        """Whether it is there and not null."""
        return self._left.get(name) is not None

    def skip(self, *names: str) -> None:
        for name in names:
            self._left.pop(name, None)

    def take(self, name: str) -> object:
        """The value, unchecked; None when it is not there."""
        return self._left.pop(name, None)

    def rest(self) -> Mapping[str, object]:
        """All that was not read, unchecked."""
        left, self._left = self._left, {}
        return left

    def text(self, name: str, most: int = 256) -> str:
        value = self._left.pop(name, None)
        if not isinstance(value, str) or len(value) > most:
            raise self.wrong(name)
        return value

    def number(self, name: str, least: int = 0, most: int = NUMBER_MAX) -> int:
        value = self._left.pop(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(name)
        return value

    def numbers(self, name: str, count: int) -> tuple[int, ...]:
        """Exactly `count` numbers, none below 0."""
        value = self._left.pop(name, None)
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(name)
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= NUMBER_MAX:
                raise self.wrong(name)
        return tuple(value)

    def fields(self, name: str) -> "Fields":
        return Fields(self._left.pop(name, None), f"{self._what}: {name}")

    def each(self, name: str, most: int, read: Callable[[object], T], *, least: int = 0) -> list[T]:
        """A list, each item read by `read`, which raises `BadInput`."""
        value = self._left.pop(name, None)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.wrong(name)
        return [read(item) for item in value]

    def end(self) -> None:
        if self._left:
            raise BadInput(f"{self._what} has an unknown field {shown(min(self._left))}", code="malformed")

    def wrong(self, name: str) -> BadInput:
        return BadInput(f"{self._what}: {name} is missing or is not what it has to be", code="malformed")


def text_item(most: int, what: str) -> Callable[[object], str]:
    """For `Fields.each`: a text of at most so many characters."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise BadInput(f"{what} is not a text of at most {most} characters", code="malformed")
        return value

    return read


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _not_whole(_: str) -> NoReturn:
    raise ValueError
