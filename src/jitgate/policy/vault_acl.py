"""Path policies of the Vault surface: read strictly, asked at each request.

A policy is `path "PATTERN" { capabilities = [...] }`, any number of times, as HCL or as JSON. What it cannot keep is
refused when it is written, not dropped: parameter lists, templates, wrapping times, a name or capability that is not
known, so that nobody relies on a restriction that is not there.

A pattern is a path; `+` stands for one whole segment, `*` at the very end for any rest. For one request the policies of
its token are put together: one pattern's capabilities are united, `deny` among them takes all away; of the patterns
that match, the most specific one alone decides (Vault's own order of priority). Nothing matches: no.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

POLICY_MAX: Final = 32 * 1024  # characters of one policy
RULES_MAX: Final = 256  # paths of one policy
PATH_MAX: Final = 256
ROOT: Final = "root"
DEFAULT: Final = "default"
RESERVED: Final = frozenset({ROOT, DEFAULT})
CAPABILITIES: Final = frozenset({"create", "read", "update", "patch", "delete", "list", "sudo", "deny"})
# What every token may do with itself, as Vault's own `default` policy has it (as far as this surface goes).
DEFAULT_POLICY: Final = """\
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
"""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PATTERN: Final = re.compile(r"(?:[A-Za-z0-9._@-]+|\+)(?:/(?:[A-Za-z0-9._@-]+|\+))*/?\*?|\*")
_TOKEN: Final = re.compile(
    r"""(?P<skip>(?:\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)+)|(?P<string>"(?:[^"\\\n\x00-\x1f]|\\["\\])*")"""
    r"""|(?P<word>[A-Za-z_][A-Za-z0-9_-]*)|(?P<mark>[{}\[\]=,])""",
    re.DOTALL,
)
_ONLY: Final = "this surface keeps capabilities only; a restriction that it cannot keep is refused"
_HINT: Final = 'path "ssh/sign/NAME" { capabilities = ["update"] }'


@dataclass(frozen=True, slots=True)
class Rule:
    """What one pattern of a policy allows."""

    pattern: str
    capabilities: frozenset[str]


def check_policy_name(name: str) -> str:
    """`name` if it is one. Upper case is refused, not folded: no other spelling of a reserved name gets through."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadInput(f"not a policy name: {shown(name)}", "lower-case letters, digits and . _ -, at most 64")
    return name


def parse_policy(text: str) -> tuple[Rule, ...]:
    """The rules of a policy's text, HCL or JSON; `BadInput` says what is not taken."""
    if not text.strip():
        raise BadInput("'policy' parameter not supplied or empty", _HINT)
    if len(text) > POLICY_MAX:
        raise BadInput(f"failed to parse policy: it has {len(text)} characters", f"at most {POLICY_MAX}")
    try:
        found = _json(text) if text.lstrip().startswith("{") else _Reader(text).policy()
    except BadInput as error:
        raise BadInput(f"failed to parse policy: {error.what}", error.hint or _HINT) from None
    if not 1 <= len(found) <= RULES_MAX:
        raise BadInput(f"failed to parse policy: {len(found)} paths", f"from 1 to {RULES_MAX}")
    return tuple(_rule(pattern, body) for pattern, body in found)


def capabilities(policies: Iterable[Iterable[Rule]], path: str, *, listing: bool = False) -> frozenset[str]:
    """What these policies together allow on `path`: {"deny"} where nothing, or where one says so.

    `listing`: a list is of what is below a path, so patterns may have the slash behind it or not.
    """
    spellings = (path, f"{path}/") if listing else (path,)
    united: dict[str, frozenset[str]] = {}
    for rules in policies:
        for rule in rules:
            united[rule.pattern] = united.get(rule.pattern, frozenset()) | rule.capabilities
    matching = [pattern for pattern in united if any(_matches(pattern, each) for each in spellings)]
    if not matching:
        return frozenset({"deny"})
    best = max(matching, key=_priority)
    return frozenset({"deny"}) if "deny" in united[best] or not united[best] else united[best]


def _matches(pattern: str, path: str) -> bool:
    prefix = pattern.endswith("*")
    wanted, found = pattern.removesuffix("*").split("/"), path.split("/")
    if len(found) < len(wanted) or (not prefix and len(found) != len(wanted)):
        return False
    last = len(wanted) - 1
    for at, (want, have) in enumerate(zip(wanted, found, strict=False)):
        if prefix and at == last:
            return have.startswith(want) and want != "+"
        if want not in ("+", have) or (want == "+" and not have):
            return False
    return True


def _priority(pattern: str) -> tuple[object, ...]:
    """Greater is more specific (Vault's documentation, "priority matching")."""
    wild = [at for at, letter in enumerate(pattern) if letter in "+*"]
    exact = not wild
    return exact, wild[0] if wild else 0, not pattern.endswith("*"), -pattern.count("+"), len(pattern), pattern


def _rule(pattern: str, body: Mapping[str, object]) -> Rule:
    where = f"path {shown(pattern)}"
    bare = pattern.removeprefix("/")
    if len(bare) > PATH_MAX or not _PATTERN.fullmatch(bare) or any(part in (".", "..") for part in bare.split("/")):
        hint = "plain segments, + for a whole one, * at the very end; templates are not taken"
        raise BadInput(f"failed to parse policy: {where}: not a path", hint)
    if unknown := sorted(body.keys() - {"capabilities"}):
        raise BadInput(f"failed to parse policy: {where}: {shown(unknown[0])} is not taken", _ONLY)
    named = body.get("capabilities")
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise BadInput(f"failed to parse policy: {where}: capabilities are missing", _HINT)
    if unknown := sorted(set(named) - CAPABILITIES):
        raise BadInput(f"failed to parse policy: {where}: invalid capability {shown(unknown[0])}", _HINT)
    return Rule(bare, frozenset(named))


def _json(text: str) -> list[tuple[str, Mapping[str, object]]]:
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadInput("it begins like JSON and is none") from None
    paths = found.get("path") if isinstance(found, dict) and found.keys() == {"path"} else None
    if not isinstance(paths, dict) or not all(isinstance(body, dict) for body in paths.values()):
        raise BadInput("JSON without path as its only name", '{"path": {"ssh/sign/NAME": {"capabilities": [...]}}}')
    return list(paths.items())


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadInput("a name stands there twice")
    return dict(pairs)


class _Reader:
    """The part of HCL that policies are written in: blocks `path "..." { name = [...] }` and comments."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def policy(self) -> list[tuple[str, Mapping[str, object]]]:
        found: list[tuple[str, Mapping[str, object]]] = []
        while self._at < len(self._tokens):
            self._take("word", "path")
            pattern = _unquoted(self._take("string"))
            self._take("mark", "{")
            found.append((pattern, self._body()))
        return found

    def _body(self) -> dict[str, object]:
        body: dict[str, object] = {}
        while self._peek() != "}":
            name = self._take("word")
            self._take("mark", "=")
            if name in body:
                raise BadInput(f"{shown(name)} stands there twice")
            if self._peek() == "{":
                raise BadInput(f"{shown(name)} is not taken", _ONLY)
            body[name] = self._list() if self._peek() == "[" else _unquoted(self._take("string"))
        self._take("mark", "}")
        return body

    def _list(self) -> list[str]:
        self._take("mark", "[")
        values: list[str] = []
        while self._peek() != "]":
            values.append(_unquoted(self._take("string")))
            if self._peek() != "]":
                self._take("mark", ",")
        self._take("mark", "]")
        return values

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self, kind: str, value: str = "") -> str:
        found = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")
        if found[0] != kind or (value and found[1] != value):
            raise BadInput(f"{shown(found[1]) if found[1] else 'the end'} where {shown(value or kind)} was due")
        self._at += 1
        return found[1]


def _tokens(text: str) -> Iterable[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadInput(f"nothing that is known at {shown(text[at : at + 20])}")
        at = match.end()
        if match.lastgroup and match.lastgroup != "skip":
            yield match.lastgroup, match[0]


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
