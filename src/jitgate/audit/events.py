"""One event: who did or wanted what, on what, why, from where, and what was decided.

The constructor is the gate: what it lets through can be stored, shown and proved; all else is `BadInput`, and what
cannot be recorded is not done. Texts have no control or invisible characters and are bounded; numbers fit JSON's.
Words of checks are the exception: they are explanations that may quote anything, so they are escaped and cut when the
entry is made (`log.append`), never refused.
"""

import re
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from jitgate.audit.shapes import ALWAYS_MAY, SHAPES, EventType, Outcome, Shape
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.outcome import Check
from jitgate.core.text import REASON_MAX, check_name, shown

__all__ = ["Actor", "ActorKind", "Event", "EventType", "Outcome", "check_text", "escape"]

INT_LIMIT = 2**53  # what every JSON reader keeps exactly (RFC 8259 section 6); bigger numbers are decimal texts
SERIAL_LIMIT = 2**63  # of a certificate: what every database keeps in one column
NAME_MAX = 256  # a directory's longest names, and our key id
SOURCE_MAX = 64  # an address with its port or zone
DETAIL_MAX = 65_536  # the names of all Deny rules that a new policy lacks

# Cc, Cf, Cs, Co, Zl, Zp of Unicode 15, as a fixed list: the same texts are refused whatever Python runs.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\uf8ff\ufeff\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000f0000-\U0010ffff]"
)
_TARGET = re.compile(r"(?:([a-z_][a-z0-9_-]{0,31})@)?host:([a-z0-9.-]{1,63})|(?:role|policy|realm|ca|key):[!-~]{1,120}")

ActorKind = Literal["person", "robot", "breakglass", "operator", "service", "unknown"]
_WITH_PERSON = frozenset({"person", "robot", "breakglass"})
_KINDS = _WITH_PERSON | {"operator", "service", "unknown"}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted. `person` is a person's id; `name` is personal, and for `unknown` it is what a stranger typed.

    operator: somebody with the service's own socket; service: the program itself.
    """

    kind: ActorKind
    person: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise BadInput(f"not a kind of actor: {shown(str(self.kind))}")
        if (self.kind in _WITH_PERSON) != is_id(self.person) or (self.kind not in _WITH_PERSON and self.person):
            raise BadInput(f"an actor of kind {self.kind} with person {shown(self.person)}")
        check_text("actor name", self.name, NAME_MAX)


@dataclass(frozen=True, slots=True)
class Event:
    """See `shapes.SHAPES` for what each type carries.

    `target` is `host:NAME`, `LOGIN@host:NAME`, or `role: policy: realm: ca: key:` and a name; an act on several targets
    is several events. `subject` is the person it was done to, when that is not the actor. `request`, `grant`, `session`
    and `subject` are ULIDs or "". Personal, so erasable: the actor's name, `subject_name`, `source`, `reason`, `key_id`
    and the words of `checks`; a login is an account of a host and stays, so do all details.
    """

    type: EventType
    outcome: Outcome
    time: Micros
    realm: str
    actor: Actor
    target: str = ""
    subject: str = ""
    subject_name: str = ""
    request: str = ""
    grant: str = ""
    session: str = ""
    key_id: str = ""
    serial: int | None = None
    checks: tuple[Check, ...] = ()
    source: str = ""
    reason: str = ""
    detail: tuple[tuple[str, str | int], ...] = ()

    def __post_init__(self) -> None:
        self._check_shape()
        _check_int("time", self.time)
        check_name("realm", self.realm)
        if self.target and not _TARGET.fullmatch(self.target):
            raise BadInput(f"not a target: {shown(self.target)}", "host:NAME or LOGIN@host:NAME")
        for name in ("subject", "request", "grant", "session"):
            if (value := getattr(self, name)) and not is_id(value):
                raise BadInput(f"{name} is not an id: {shown(value)}")
        if self.serial is not None and (type(self.serial) is not int or not 0 < self.serial < SERIAL_LIMIT):
            raise BadInput("a serial is from 1 to 2^63-1")
        check_text("subject name", self.subject_name, NAME_MAX)
        check_text("key id", self.key_id, NAME_MAX)
        check_text("source", self.source, SOURCE_MAX)
        check_text("reason", self.reason, REASON_MAX)
        if self.checks and not all(isinstance(check, Check) for check in self.checks):
            raise BadInput("checks that are none")

    def _check_shape(self) -> None:
        shape = SHAPES.get(self.type)
        if shape is None or not isinstance(self.type, EventType):
            raise BadInput(f"not an event type: {shown(str(self.type))}")
        if self.outcome != shape.outcome:
            raise BadInput(f"{self.type} is always {shape.outcome}")
        carried = {name for name, value in zip(_OPTIONAL, _optional(self), strict=True) if value}
        if self.actor.person:
            carried.add("person")
        if not shape.must <= carried:
            raise BadInput(f"{self.type} without {', '.join(sorted(shape.must - carried))}")
        if not carried <= _MAY[self.type]:
            raise BadInput(f"{self.type} with {', '.join(sorted(carried - _MAY[self.type]))}")
        self._check_detail(shape)

    def _check_detail(self, shape: Shape) -> None:
        keys = {key for key, _ in self.detail}
        if len(keys) != len(self.detail) or not shape.detail_must.keys() <= keys:
            raise BadInput(f"{self.type} needs the details {', '.join(shape.detail_must)}, each once")
        kinds, texts = _DETAILS[self.type], []
        for key, value in self.detail:
            if type(value) is not kinds.get(key):
                raise BadInput(f"{self.type} with the detail {shown(key)} of {type(value).__name__}")
            if isinstance(value, int):
                _check_int(key, value)
            else:
                texts.append(value)
        together = "".join(texts)
        if len(together) > DETAIL_MAX or not (together.isascii() and together.isprintable()):  # else so is each
            for key, value in self.detail:
                check_text(key, str(value), DETAIL_MAX)


_OPTIONAL = (
    "target subject subject_name request grant session key_id serial checks source reason".split()  # noqa: SIM905
)
_optional = attrgetter(*_OPTIONAL)
_MAY = {kind: shape.must | shape.may | ALWAYS_MAY | {"person"} for kind, shape in SHAPES.items()}
_DETAILS = {kind: shape.detail_may | shape.detail_must for kind, shape in SHAPES.items()}


def check_text(name: str, value: str, limit: int) -> None:
    if type(value) is not str or len(value) > limit:
        raise BadInput(f"the {name} is no text of at most {limit} characters")
    if not (value.isascii() and value.isprintable()) and (bad := _UNSAFE.search(value)):
        raise BadInput(f"the {name} has a control or invisible character U+{ord(bad[0]):04X}", "use plain text")


def escape(value: str, limit: int) -> str:
    """Any text as one that `check_text` takes: control and invisible characters as \\uXXXX, cut to `limit`."""
    if len(value) <= limit and value.isascii() and value.isprintable():
        return value
    escaped = _UNSAFE.sub(lambda bad: f"\\u{ord(bad[0]):04x}", value[:limit])
    return escaped if len(escaped) <= limit and len(value) <= limit else escaped[: limit - 1] + "…"


def _check_int(name: str, value: int) -> None:
    if type(value) is not int or not 0 <= value < INT_LIMIT:
        raise BadInput(f"the {name} is no whole number from 0 to 2^53-1")
