"""An entry for reading: as a JSON object, and as one line for a terminal.

The line is made from the JSON object, which a client has from the network, so nothing in it is trusted: whatever it
holds, the line has no control, invisible or direction-changing character, and a text that is more than one plain word
stands in quotes. People's free text comes last, so that letters written from right to left reorder nothing else.
"""

import json
import re
from collections.abc import Mapping

from jitgate.audit.log import MALFORMED, Leaf, commitment
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.text import shown

ERASED = "(erased)"
ALTERED = "(altered)"
LINE_MAX = 1000  # characters
_WORD = re.compile(r"[!-&(-~]+")
_LABELS = ("serial", "grant", "source")
_TIMES = frozenset({"ends_at", "expires_at", "since", "valid_before"})
_TIME_MAX = 1 << 55  # microseconds: the year 3111
# By the first word of the type: what is for programs, or says again what the line has said. The JSON object has it.
_LEFT_OUT = {
    "certificate": frozenset({"ca", "digest", "fingerprint", "kind", "policy", "principals", "valid_after"}),
    "grant": frozenset({"policy"}),
    "key": frozenset({"key"}),
    "sign_in": frozenset({"sign_in"}),
}


def as_json(index: int, leaf: bytes, personal: str) -> dict[str, object]:
    """The entry for the API: texts with their commitments checked, times in RFC 3339 to the microsecond.

    A text that was taken out is `(erased)` and named in `erased`; one that is not the committed one is `(altered)`. A
    row that cannot be read is an object with the type `unreadable`: one bad row does not hide the others.
    """
    try:
        body: Leaf = json.loads(leaf)
        committed: dict[str, str] = body.get("personal", {})
        kept = {line.split(" ", 2)[1]: line for line in personal.split("\n")} if personal else {}
        texts = dict.fromkeys(committed, ERASED)
        for field, line in kept.items():
            texts[field] = line.split(" ", 2)[2] if commitment(line) == committed.get(field) else ALTERED
        return _object(index, body, texts) | {"erased": sorted(committed.keys() - kept.keys())}
    except MALFORMED:
        return {"index": index, "type": "unreadable"}


def _object(index: int, body: Leaf, texts: dict[str, str]) -> dict[str, object]:
    time = body["time"]
    words = texts.get("checks", "[]")
    whys = [] if words in {ERASED, ALTERED} else json.loads(words)
    checks = []
    for at, check in enumerate(body.get("checks", [])):
        name, _, outcome = check.rpartition(":")
        why, hint = whys[at] if whys else (words, "")
        checks.append({"name": name, "outcome": outcome, "why": why, "hint": hint})
    return {
        "index": index,
        "id": body["id"],
        "time": f"{rfc3339(time)[:-1]}.{time % SECOND:06d}Z",
        "type": body["type"],
        "outcome": body["outcome"],
        "realm": body["realm"],
        "actor": {"kind": body["actor"]["kind"], "id": body["actor"].get("person", ""), "name": texts.get("actor", "")},
        "subject": {"id": body.get("subject", ""), "name": texts.get("subject", "")},
        **{name: body.get(name, "") for name in ("target", "request", "grant", "session", "serial")},
        **{name: texts.get(name, "") for name in ("key_id", "source", "reason")},
        "checks": checks,
        "detail": body.get("detail", {}),
    }


def as_line(entry: Mapping[str, object]) -> str:
    """One line: when, which, what, who, on what, then what is for people as name=value; of a refusal, why."""
    parts = [_word(f"{str(entry.get('time', '-'))[:19]}Z"), f"#{_word(entry.get('index'))}"]
    parts += [_word(entry.get("type")), _who(entry.get("actor"))]
    if entry.get("target"):
        parts.append(_word(entry["target"]))
    if subject := _who(entry.get("subject")):
        parts.append(f"subject={subject}")
    parts += [f"{name}={_word(entry[name])}" for name in _LABELS if entry.get(name)]
    parts += [f"{_word(name)}={_detail(name, value)}" for name, value in _details(entry)]
    parts += [_why(check) for check in _list(entry.get("checks")) if isinstance(check, Mapping)]
    if entry.get("reason"):
        parts.append(f"reason={shown(str(entry['reason']), LINE_MAX)}")
    line = " ".join(part for part in parts if part)
    return _plain(line if len(line) <= LINE_MAX else line[: LINE_MAX - 1] + "…")


def _who(value: object) -> str:
    if not isinstance(value, Mapping):
        return ""
    name = value.get("name") or value.get("id")
    kind = str(value.get("kind", ""))
    if kind in {"person", ""}:
        return _word(name) if name else ""
    return f"{_word(kind)}:{_word(name)}" if name else _word(kind)


def _why(check: Mapping[object, object]) -> str:
    if check.get("outcome") == "passed":
        return ""
    return f"{_word(check.get('name'))}: {shown(str(check.get('why', '')), LINE_MAX)}"


def _details(entry: Mapping[str, object]) -> list[tuple[object, object]]:
    left_out = _LEFT_OUT.get(str(entry.get("type", "")).partition(".")[0], frozenset())
    value = entry.get("detail")
    return (
        sorted((item for item in value.items() if item[0] not in left_out), key=str)
        if isinstance(value, Mapping)
        else []
    )


def _detail(name: object, value: object) -> str:
    if name in _TIMES and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TIME_MAX:
        return rfc3339(value)
    return _word(value)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _word(value: object) -> str:
    """As it is if it is one plain word, else quoted and escaped."""
    text = str(value)
    return text if _WORD.fullmatch(text) and len(text) <= LINE_MAX else shown(text, LINE_MAX)


def _plain(line: str) -> str:
    """The promise of this module, kept whatever went before."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
