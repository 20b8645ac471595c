"""A table of `jitgate.toml` as a frozen dataclass: names and types are the dataclass's own, all else is refused.

A field is text, a whole number, a truth, a list of texts, another such dataclass (`[name]`) or a list of them
(`[[name]]`). What the values mean is checked by the dataclass, which raises `BadInput` itself.
"""

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

T = TypeVar("T")

_WORDS = {str: 'text: NAME = "..."', int: "a whole number", bool: "true or false"}


def read_section(kind: type[T], where: str, table: object) -> T:
    """`table` as TOML gave it. Raises `BadInput` that names `where` for an unknown, missing or mistyped name."""
    if not isinstance(table, dict):
        raise BadInput(f"{where} is not a table")
    types = get_type_hints(kind)
    known = fields(kind)  # type: ignore[arg-type]  # T is a dataclass: `_is_section` asks for it
    if unknown := sorted(table.keys() - types.keys()):
        raise BadInput(f"{where}: unknown setting {shown(unknown[0])}", f"known are {', '.join(sorted(types))}")
    for field in known:
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise BadInput(f"{where}: {field.name} is missing")
    values = {name: _value(types[name], f"{where}: {name}", value) for name, value in table.items()}
    try:
        return kind(**values)
    except BadInput as error:
        raise BadInput(f"{where}: {error.what}", error.hint) from None


def _value(kind: Any, where: str, value: object) -> object:  # noqa: ANN401  # a type hint, whatever it is
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list):
            raise BadInput(f"{where} is not a list")
        return tuple(_value(item, f"{where} {number}", each) for number, each in enumerate(value, 1))
    if is_dataclass(kind):
        return read_section(kind, where, value)  # type: ignore[arg-type]  # a dataclass's type, as was asked
    if kind is Path and isinstance(value, str):
        if not Path(value).is_absolute():
            raise BadInput(f"{where} is not an absolute path")
        return Path(value)
    if type(value) is not kind:
        raise BadInput(f"{where} is not {_WORDS.get(kind, 'text')}")
    return value
