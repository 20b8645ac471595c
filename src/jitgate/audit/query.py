"""What can be asked of the log. The store answers; nothing here is trusted to be a permission."""

from collections.abc import Mapping
from dataclasses import dataclass

from jitgate.audit.events import INT_LIMIT, SERIAL_LIMIT, check_text
from jitgate.audit.shapes import EventType, Outcome
from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.text import check_name, shown

LIMIT_MAX = 1000  # entries in one answer
TEXT_MAX = 100
_OUTCOMES: dict[str, Outcome] = {"allowed": "allowed", "refused": "refused", "done": "done"}


@dataclass(frozen=True, slots=True)
class Query:
    """All that is given must hold. Answers are in the order of the log.

    `after`: entries with a greater index; None: the newest `limit` ones. `person` (an id) acted or was acted on.
    `q` is found anywhere in the target or in a personal text that was not erased, upper and lower case alike.
    """

    after: int | None = None
    limit: int = 100
    types: tuple[EventType, ...] = ()
    person: str = ""
    host: str = ""
    grant: str = ""
    serial: int | None = None
    outcome: Outcome | None = None
    q: str = ""

    def __post_init__(self) -> None:
        if self.after is not None and not -1 <= self.after < INT_LIMIT:
            raise BadInput("after is no index", "a whole number; -1 for the beginning")
        if not 1 <= self.limit <= LIMIT_MAX:
            raise BadInput(f"the limit is {self.limit}", f"from 1 to {LIMIT_MAX}")
        for name, value in (("person", self.person), ("grant", self.grant)):
            if value and not is_id(value):
                raise BadInput(f"{name} is not an id: {shown(value)}")
        if self.host:
            check_name("host", self.host)
        if self.serial is not None and not 0 < self.serial < SERIAL_LIMIT:
            raise BadInput("a serial is from 1 to 2^63-1")
        check_text("text to search for", self.q, TEXT_MAX)


def parse_query(words: Mapping[str, str]) -> Query:
    """A query from untrusted text: `after limit type person host grant serial outcome q`; else `BadInput`.

    `type` is a type, or its first word for all of them: `certificate`.
    """
    if unknown := words.keys() - {"after", "limit", "type", "person", "host", "grant", "serial", "outcome", "q"}:
        raise BadInput(f"not a filter: {shown(min(unknown))}", "after limit type person host grant serial outcome q")
    outcome = words.get("outcome", "")
    if outcome and outcome not in _OUTCOMES:
        raise BadInput(f"not an outcome: {shown(outcome)}", "allowed, refused or done")
    limit = _number(words, "limit")
    return Query(
        after=_number(words, "after"),
        limit=100 if limit is None else limit,
        types=_types(words.get("type", "")),
        person=words.get("person", ""),
        host=words.get("host", ""),
        grant=words.get("grant", ""),
        serial=_number(words, "serial"),
        outcome=_OUTCOMES.get(outcome),
        q=words.get("q", ""),
    )


def _types(word: str) -> tuple[EventType, ...]:
    if not word:
        return ()
    chosen = tuple(kind for kind in EventType if word in (kind.value, kind.value.partition(".")[0]))
    if not chosen:
        raise BadInput(f"not an event type: {shown(word)}", "such as grant.opened, or grant for all of them")
    return chosen


def _number(words: Mapping[str, str], name: str) -> int | None:
    word = words.get(name, "")
    if not word:
        return None
    digits = word.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(word) > 20:  # noqa: PLR2004  # 2^63 has 19 digits
        raise BadInput(f"{name} is no whole number: {shown(word)}")
    return int(word)
