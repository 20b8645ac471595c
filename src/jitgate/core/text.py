"""Allow-lists for every name that ends up in a certificate, an sshd file, a log or a terminal.

Names are rejected, never repaired: what was typed is what is kept. ASCII only: no look-alikes, no direction marks.
"""

import re
import unicodedata
from functools import lru_cache

from jitgate.core.errors import BadInput

_GRAMMARS = {
    # a person or group as a directory knows it; no space, so that a key id splits at spaces
    "person": (re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}"), "lower-case letters, digits and . _ @ + -, at most 64"),
    "group": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:/-]{0,127}"), "letters, digits and . _ @ + : / -, at most 128"),
    # useradd(8)'s default grammar
    "login": (re.compile(r"[a-z_][a-z0-9_-]{0,31}"), "lower-case letters, digits, _ and -, at most 32"),
    # one word: a host's name here, not a DNS name; dots are allowed inside
    "host": (re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?"), "lower-case letters, digits, - and ., at most 63"),
    "role": (re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"), "lower-case letters, digits and -, at most 63"),
    "realm": (re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"), "lower-case letters, digits and -, at most 32"),
    "label key": (re.compile(r"[a-z][a-z0-9._-]{0,62}"), "a lower-case letter, then letters, digits and . _ -"),
    # what a tracker calls a ticket; it stands in the log for ever, so no sentence fits
    "ticket": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}"), "letters, digits and . _ : / -, at most 64"),
    "label value": (re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"), "letters, digits and . _ -"),
}
_RESERVED = {"host": {"localhost"}}

_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})  # Unicode general categories
REASON_MAX = 500  # characters; a sentence or two and a ticket, not a document


@lru_cache(maxsize=4096)  # a pure function, asked about the same names again and again; a refusal is not kept
def check_name(kind: str, value: str) -> str:
    """`value` if it is a well-formed name of that kind (`person`, `login`, `host`, ...); else `BadInput`."""
    grammar, words = _GRAMMARS[kind]
    if not grammar.fullmatch(value) or ".." in value or value in _RESERVED.get(kind, ()):
        raise BadInput(f"not a {kind} name: {shown(value)}", f"a {kind} name has {words}")
    return value


def check_reason(value: str) -> str:
    """A person's free text: any language, one line, no control or invisible characters; else `BadInput`."""
    if len(value) > REASON_MAX:
        raise BadInput(f"the reason has {len(value)} characters", f"at most {REASON_MAX}")
    if bad := next((c for c in value if unicodedata.category(c) in _INVISIBLE), None):
        raise BadInput(
            f"the reason has a control or invisible character U+{ord(bad):04X}", "use plain text on one line"
        )
    return value.strip()


def shown(value: str, limit: int = 80) -> str:
    """Text from outside as it may stand in an error or a terminal: quoted, escaped, cut."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    return "'" + "".join(c if c.isprintable() and c != "'" else f"\\u{ord(c):04x}" for c in cut) + "'"
