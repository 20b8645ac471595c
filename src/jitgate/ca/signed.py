"""The signer's own list: one JSON object a line, only ever appended to.

Three kinds of line: a certificate (`SignedEntry`), a checkpoint of the log, and a mark. A mark repeats what the lines
before them amount to (the highest serial of each CA key, what of its rate is used up, the latest checkpoint), so that a
start reads back to the last mark and not the whole list.

A line that a power cut tore stays as it is and is closed with a newline: it never parses, and what it would have
said was never signed, for a signature leaves only after its line is durable.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from jitgate.ca.model import LogHead, SignedEntry
from jitgate.core.clock import Micros
from jitgate.core.json_text import writer
from jitgate.ssh.cert import CertType

MARK: Final = b'{"mark":'
MARK_EVERY: Final = 10_000  # lines: reading them back takes a tenth of a second
_TYPES: Final = {"user": CertType.USER, "host": CertType.HOST}
_write: Final = writer()
_NAMES: Final = {number: name for name, number in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class Summary:
    """What the list amounts to: the highest serial by CA fingerprint, and the last checkpoint, if there was one.

    `rates`: until when each key's rate was used up at the mark; `times`: of what was signed since. By the wall's clock.
    """

    serials: Mapping[str, int]
    head: LogHead | None
    rates: Mapping[str, Micros] = field(default_factory=dict, compare=False)
    times: Mapping[str, Sequence[Micros]] = field(default_factory=dict, compare=False)


NOTHING: Final = Summary({}, None)


def entry_line(entry: SignedEntry) -> bytes:
    return _line(
        {
            "time": entry.time,
            "realm": entry.realm,
            "ca": entry.ca,
            "type": _NAMES[entry.type],
            "serial": str(entry.serial),  # as the API writes it: a number this long is not exact everywhere
            "key_id": entry.key_id,
            "key": entry.key,
            "principals": entry.principals,
            "valid_before": entry.valid_before,
            "tbs_sha256": entry.tbs_sha256,
        }
    )


def head_line(head: LogHead, time: Micros) -> bytes:
    return _line({"checkpoint": _put_head(head), "time": time})


def mark_line(summary: Summary, time: Micros) -> bytes:
    serials = {ca: str(serial) for ca, serial in sorted(summary.serials.items())}
    rates = {"rates": dict(summary.rates)} if summary.rates else {}
    return _line({"mark": {"serials": serials, "checkpoint": _put_head(summary.head)} | rates, "time": time})


def parse_line(line: bytes) -> SignedEntry | LogHead | Summary | None:
    """What a line says; None for one that is torn or no line of ours."""
    try:
        found = json.loads(line)
        if "mark" in found:
            serials = {_text(ca): int(_text(serial)) for ca, serial in found["mark"]["serials"].items()}
            rates = {_text(ca): _number(until) for ca, until in found["mark"].get("rates", {}).items()}
            return Summary(serials, _take_head(found["mark"]["checkpoint"]), rates)
        if "checkpoint" in found:
            return _take_head(found["checkpoint"])
        return SignedEntry(
            time=_number(found["time"]),
            realm=_text(found["realm"]),
            ca=_text(found["ca"]),
            type=_TYPES[_text(found["type"])],
            serial=int(_text(found["serial"])),
            key_id=_text(found["key_id"]),
            key=_text(found["key"]),
            principals=tuple(_text(each) for each in found["principals"]),
            valid_before=_number(found["valid_before"]),
            tbs_sha256=_text(found["tbs_sha256"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def summarize(lines: list[bytes], before: Summary = NOTHING) -> Summary:
    """What `lines` amount to on top of what stood before them."""
    serials, head, rates = dict(before.serials), before.head, dict(before.rates)
    times = {ca: list(found) for ca, found in before.times.items()}
    for line in lines:
        match parse_line(line):
            case SignedEntry() as entry:
                serials[entry.ca] = max(entry.serial, serials.get(entry.ca, 0))
                times.setdefault(entry.ca, []).append(entry.time)
            case LogHead() as found:
                head = _later(head, found)
            case Summary() as mark:
                serials |= {ca: max(serial, serials.get(ca, 0)) for ca, serial in mark.serials.items()}
                head, rates, times = _later(head, mark.head), dict(mark.rates), {}
    return Summary(serials, head, rates, times)


def _later(one: LogHead | None, other: LogHead | None) -> LogHead | None:
    if one is None or other is None:
        return one or other
    return other if other.size > one.size else one


def _line(value: dict[str, object]) -> bytes:
    return _write(value).encode() + b"\n"


def _put_head(head: LogHead | None) -> dict[str, object] | None:
    return None if head is None else {"size": head.size, "root": head.root}


def _take_head(found: object) -> LogHead | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise TypeError
    return LogHead(_number(found["size"]), _text(found["root"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value
