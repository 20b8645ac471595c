"""Times as people read and write them; in JSON they stay RFC 3339."""

import re
import time
from datetime import UTC, datetime

from jitgate.core.clock import DAY, HOUR, MINUTE, SECOND, Micros
from jitgate.core.errors import BadInput, UsageError
from jitgate.core.text import shown

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def parse(text: str) -> Micros:
    """RFC 3339, as the service writes it; else `BadInput`."""
    try:
        moment = datetime.fromisoformat(text)
        seconds = int(moment.timestamp()) if moment.tzinfo else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None:
        raise BadInput(f"the service's answer has no time but {shown(text)}")
    return seconds * SECOND


def since(text: str, now: Micros) -> Micros:
    """`30m`, `2h`, `7d` ago, a date or an RFC 3339 time; without a zone it is this machine's time."""
    if span := _SPAN.fullmatch(text):
        return now - int(span[1]) * _UNITS[span[2]]
    try:
        return int(datetime.fromisoformat(text).timestamp()) * SECOND
    except (ValueError, OverflowError):
        raise UsageError(f"not a time: {shown(text)}", "like 30m, 2h, 7d, 2026-01-31 or 2026-01-31T08:00:00Z") from None


def relative(moment: Micros, now: Micros) -> str:
    """`in 15 min`, `3 h ago`; the largest unit of which there are at least two, rounded."""
    apart = abs(moment - now)
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if apart >= 2 * unit:
            words = f"{(apart + unit // 2) // unit} {name}"
            break
    else:
        words = f"{apart // SECOND} s"
    return f"in {words}" if moment > now else f"{words} ago"


def until(moment: Micros, now: Micros) -> str:
    """`15:04 (in 15 min)` by this machine's zone; with the date when that is another day."""
    there, here = _local(moment), _local(now)
    same_day = (there.tm_year, there.tm_yday) == (here.tm_year, here.tm_yday)
    clock = "%H:%M:%S" if abs(moment - now) < 2 * MINUTE else "%H:%M"
    return f"{time.strftime(clock if same_day else '%Y-%m-%d %H:%M', there)} ({relative(moment, now)})"


def _local(moment: Micros) -> time.struct_time:
    return datetime.fromtimestamp(moment // SECOND, UTC).astimezone().timetuple()
