"""The signer's two keys that hosts obey, as `signer.toml` names them: `[root]` and `[online]`; both, or no agents."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.text import shown

TABLES: Final = ("root", "online")
_KEY_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_RATE_MAX: Final = 6_000_000
_TEXT: Final = """
# What hosts obey: the root key signs which CA keys they trust (only such as this file means), the online key signs what
# was taken away. So many bundles at once, then so many a minute.
[root]
key = "{root}"

[online]
key = "{online}"
burst = 100000
rate_per_minute = 60000
"""


@dataclass(frozen=True, slots=True)
class AgentKeys:
    """Files of the root key, which signs lists of trust, and the online key, which signs bundles; so many of these."""

    root: str
    online: str
    rate_per_minute: int
    burst: int


def read_agent_keys(content: Mapping[str, object]) -> AgentKeys | None:
    """What the tables in a `signer.toml` say; `BadInput` for one without the other, and for a line too few or many."""
    if not any(name in content for name in TABLES):
        return None
    root, online = (_table(content.get(name), name) for name in TABLES)
    for name, found, wanted in (("root", root, {"key"}), ("online", online, {"key", "rate_per_minute", "burst"})):
        if found.keys() != wanted:
            raise BadInput(
                f"signer.toml: [{name}] has other lines than it should", f"known: {', '.join(sorted(wanted))}"
            )
    return AgentKeys(
        _file(root["key"]), _file(online["key"]), _number(online["rate_per_minute"]), _number(online["burst"])
    )


def agents_text(root: str, online: str) -> str:
    return _TEXT.format(root=root, online=online)


def _table(found: object, name: str) -> dict[str, object]:
    if not isinstance(found, dict):
        raise BadInput(f"signer.toml: no table [{name}]", "[root] and [online] belong together")
    return found


def _file(value: object) -> str:
    if not isinstance(value, str) or not _KEY_FILE.fullmatch(value):
        raise BadInput(f"signer.toml: [root] or [online]: not a file's name: {shown(str(value))}")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _RATE_MAX:
        raise BadInput(f"signer.toml: [online]: not a number from 1 to {_RATE_MAX}")
    return value
