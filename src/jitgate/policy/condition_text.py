"""Reading a condition's text before the CEL library sees it, to refuse at load what would break when it runs.

A small lexer that knows less than CEL: what it does not know is refused. The rules are condition.py's 1 to 4.
"""

import re

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

LENGTH_MAX = 1000  # characters; a screenful
DEPTH_MAX = 16  # brackets inside brackets

FIELDS: dict[str, frozenset[str]] = {
    "user": frozenset({"name", "groups", "issuer"}),
    "auth": frozenset({"factors", "age_s"}),
    "host": frozenset({"name", "labels", "realm"}),
    "request": frozenset({"login", "minutes", "reason", "ticket"}),
    "source": frozenset({"ip"}),
    "now": frozenset(),
}
COMPREHENSIONS = frozenset({"exists", "all", "exists_one"})
METHODS = COMPREHENSIONS | {
    "startsWith", "endsWith", "contains", "matches", "size",
    "getFullYear", "getMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes", "getSeconds",
}  # fmt: skip
FUNCTIONS = frozenset({"size", "has", "timestamp", "duration"})

_WORDS = frozenset({"true", "false", "in"})
_BEFORE_A_LIST = frozenset({"in", "(", "[", ",", "==", "!=", "+", "&&", "||", "?", ":", "!"})
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]{1,18})
      | (?P<string>"(?:[^"\\\r\n]|\\[\\'"])*"|'(?:[^'\\\r\n]|\\[\\'"])*')
      | (?P<sign>&&|\|\||==|!=|<=|>=|[<>!?:.,()\[\]+*/%-])""",
    re.VERBOSE,
)
_PATTERN_FLAW = re.compile(r"\(\?(?!:)|\{[0-9,]{3,}")  # inline flags; counts of three digits: their automaton is huge
_KNOWN = "known: " + ", ".join(
    f"{root}.{{{','.join(sorted(fields))}}}" if fields else root for root, fields in FIELDS.items()
)


class Reading:
    """One pass over the text. Afterwards `roots` are the closed names used, `bound` those that comprehensions bind."""

    def __init__(self, text: str) -> None:
        """Raises `BadInput` for what is not in the language."""
        if len(text) > LENGTH_MAX:
            raise BadInput(f"a condition of {len(text)} characters", f"at most {LENGTH_MAX}")
        self.roots: set[str] = set()
        self.bound: set[str] = set()
        self._tokens = _tokens(text)
        self._at = 0
        self._open: list[str] = []  # for each open bracket the variable that its comprehension binds, or ""
        while self._at < len(self._tokens):
            self._step()
            if len(self._open) > DEPTH_MAX:
                raise BadInput("a condition too deeply nested", f"at most {DEPTH_MAX} brackets inside one another")

    def _kind(self, ahead: int = 0) -> str:
        return self._tokens[self._at + ahead][0] if self._at + ahead < len(self._tokens) else ""

    def _word(self, ahead: int = 0) -> str:
        return self._tokens[self._at + ahead][1] if self._at + ahead < len(self._tokens) else ""

    def _step(self) -> None:
        word = self._word()
        if word == ".":
            self._method()
        elif self._kind() == "name" and word not in _WORDS:
            self._name()
        else:
            if word == "[" and self._at and self._word(-1) not in _BEFORE_A_LIST:
                raise BadInput("an index in the condition", "only host.labels['KEY'] takes one; use `in` or exists()")
            if word in {"(", "["}:
                self._open.append("")
            elif word in {")", "]"} and self._open:
                self._open.pop()
            self._at += 1

    def _name(self) -> None:
        name = self._word()
        if name in FIELDS:
            self.roots.add(name)
            self._path()
        elif name in self._open or (name in FUNCTIONS and self._word(1) == "("):
            self._at += 1
        else:
            raise BadInput(f"unknown name in the condition: {shown(name)}", _KNOWN)

    def _path(self) -> None:
        """`root.field`, and a label's key."""
        root, field = self._word(), self._word(2)
        if not FIELDS[root]:
            self._at += 1
            return
        if self._word(1) != "." or field not in FIELDS[root]:
            raise BadInput(f"unknown name in the condition: {shown(f'{root}.{field}')}", _KNOWN)
        self._at += 3
        if field != "labels":
            return
        if self._word() == "[":
            if self._kind(1) != "string" or self._word(2) != "]":
                raise BadInput("a label's key that is no plain string", "write host.labels['KEY']")
            self._at += 3
        elif self._word() == "." and self._word(2) != "(":
            self._at += 2

    def _method(self) -> None:
        name = self._word(1)
        if self._kind(1) != "name" or self._word(2) != "(" or name not in METHODS:
            raise BadInput(f"unknown function or field in the condition: {shown('.' + name)}", _KNOWN)
        if name == "matches":
            if self._kind(3) != "string" or self._word(4) != ")":
                raise BadInput("matches() takes one pattern in quotes", "write matches('^...$')")
            _check_pattern(re.sub(r"\\(.)", r"\1", self._word(3)[1:-1]))
        if name in COMPREHENSIONS:
            if any(self._open):
                raise BadInput(f"{name}() inside another walk over a list", "write two roles")
            self._open.append(self._bind())
            self._at += 5
        else:
            self._open.append("")
            self._at += 3

    def _bind(self) -> str:
        name = self._word(3)
        if self._kind(3) != "name" or self._word(4) != ",":
            raise BadInput("a walk over a list without its variable", "write user.groups.exists(g, g == 'ops')")
        if name in _WORDS | FUNCTIONS | METHODS or name in FIELDS:
            raise BadInput(f"{shown(name)} is taken", "call the variable something else")
        self.bound.add(name)
        return name


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    glued = False  # the character before belongs to a word, number or string
    while at < len(text):
        match = _TOKEN.match(text, at)
        kind = match.lastgroup if match else None
        # glued: r'..', '''..''', 3u
        if not match or not kind or text.startswith("//", at) or (glued and kind in {"name", "number", "string"}):
            raise BadInput(f"not in the language of conditions: {shown(text[at : at + 20])}", "see docs/policy.md")
        glued = kind in {"name", "number", "string"}
        if kind != "space":
            tokens.append((kind, match[0]))
        at = match.end()
    return tokens


def _check_pattern(pattern: str) -> None:
    hint = "begin with ^, end with $, put alternatives in ( )"
    if not pattern.startswith("^") or not pattern.endswith("$") or pattern.endswith("\\$"):
        raise BadInput(f"a pattern that is not anchored: {shown(pattern)}", hint)
    if _PATTERN_FLAW.search(pattern):
        raise BadInput(f"flags or a large count in the pattern {shown(pattern)}", "leave out (?...) and counts over 99")
    depth = 0
    for character in re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", pattern):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            raise BadInput(f"alternatives that are not anchored: {shown(pattern)}", hint)
