"""Reading one role file: YAML (one or several documents) or JSON, each a role or a list of roles.

Less than YAML on purpose: no anchors, aliases, tags or merge keys (what is written is what holds, and a small file
stays small), no key twice, nothing left empty, bounded size and depth. Errors name the file, the role and the field.
"""

import json
from collections.abc import Iterator
from typing import NoReturn

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jitgate.core.errors import BadInput
from jitgate.core.text import shown
from jitgate.policy.role import Role

FILE_MAX = 256 * 1024  # bytes
ROLES_MAX = 1000  # in one file
DEPTH_MAX = 12  # a role is five deep
YAML_SUFFIXES = (".yaml", ".yml")
SUFFIXES = (*YAML_SUFFIXES, ".json")

_HINTS = {
    "extra_forbidden": ("unknown field", "see docs/policy.md for the fields"),
    "missing": ("missing", "say it"),
    "string_type": ("not text", "put it in quotes"),
}


def read_roles(name: str, content: bytes) -> tuple[Role, ...]:
    """The roles of the file `name`, in their order. Raises `BadInput` at the first thing that is wrong."""
    if len(content) > FILE_MAX:
        raise BadInput(f"{name}: {len(content)} bytes", f"at most {FILE_MAX}; spread the roles over files")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{name}: not UTF-8 text", "save it as UTF-8") from None
    items = _json(name, text) if name.endswith(".json") else _yaml(name, text)
    if not items:
        raise BadInput(f"{name}: no role in it", "write one, or remove the file")
    if len(items) > ROLES_MAX:
        raise BadInput(f"{name}: {len(items)} roles", f"at most {ROLES_MAX} a file")
    return tuple(_role(name, index, item) for index, item in enumerate(items, 1))


def _role(name: str, index: int, item: object) -> Role:
    if not isinstance(item, dict):
        raise BadInput(f"{name}: entry {index} is no role", "a role is a mapping that begins with role: NAME")
    title = item.get("role")
    where = f"{name}: role {shown(title) if isinstance(title, str) else index}"
    if field := _empty(item):
        raise BadInput(f"{where}: {field} is empty", "say something, or leave the line out")
    try:
        return Role.model_validate_json(json.dumps(item, allow_nan=False))
    except ValidationError as error:
        raise _explained(where, error.errors(include_url=False, include_input=False)[0]) from None
    except (TypeError, ValueError):  # a date, a set, bytes: YAML guessed a type
        raise BadInput(f"{where}: a value that is neither text, number nor list", "put dates in quotes") from None


def _empty(item: dict[object, object]) -> str:
    """The first field without a value, or "". Left empty, a line that was to restrict would restrict nothing."""
    for key, value in item.items():
        if value is None or value in ("", [], {}):
            return shown(str(key))[1:-1]
        if isinstance(value, dict) and (inner := _empty(value)):
            return f"{shown(str(key))[1:-1]}.{inner}"
    return ""


def _explained(where: str, error: ErrorDetails) -> BadInput:
    field = ".".join(str(part) for part in error["loc"] if part != "[key]")
    what, hint = _HINTS.get(error["type"], ("", ""))
    if not what:
        what, _, hint = error["msg"].removeprefix("Value error, ").rpartition("; ")
        what, hint = (what, hint) if what else (hint[:1].lower() + hint[1:], "see docs/policy.md")
    return BadInput(f"{where}: {shown(field)[1:-1]}: {what}" if field else f"{where}: {what}", hint)


def _json(name: str, text: str) -> list[object]:
    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in items:
            if key in found:
                raise BadInput(f"{name}: {shown(key)} stands there twice", "keep one")
            found[key] = value
        return found

    def no_constant(word: str) -> NoReturn:
        raise BadInput(f"{name}: {word} is no JSON", "write a number or text")

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name}: not JSON: {shown(str(error))}", "see docs/policy.md") from None
    return value if isinstance(value, list) else [value]


class _Loader(yaml.CSafeLoader):
    """The safe loader without double keys and merge keys. `_check_events` has looked at the rest."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002  # the base's signature
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a merge key", node.start_mark)
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value) or not all(isinstance(key, str) for key in mapping):
            raise yaml.constructor.ConstructorError(None, None, "a key twice, or one that is no text", node.start_mark)
        return mapping


def _yaml(name: str, text: str) -> list[object]:
    items: list[object] = []
    try:
        _check_events(name, yaml.parse(text, Loader=yaml.CSafeLoader))
        for document in yaml.load_all(text, Loader=_Loader):  # the safe loader, narrowed
            items += document if isinstance(document, list) else [] if document is None else [document]
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadInput(f"{name}: {line}{shown(error.problem or 'not YAML')[1:-1]}", "see docs/policy.md") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{name}: not YAML: {shown(str(error))}", "see docs/policy.md") from None
    return items


def _check_events(name: str, events: Iterator[yaml.Event]) -> None:
    depth = 0
    for event in events:
        where = f"{name}: line {event.start_mark.line + 1 if event.start_mark else '?'}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadInput(f"{where}: an anchor or alias", "write the value where it is meant")
        if getattr(event, "tag", None):
            raise BadInput(f"{where}: a tag", "leave out the !tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise BadInput(f"{where}: too deeply nested", "a role is five deep")
