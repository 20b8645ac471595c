"""What an agent reports of logins on its host: the fields of its reports, made there and read here.

`login` when somebody is in, `logout` when nothing of that login is left, `left_behind` for what somebody left to come
back by, `alarm` for what is not as it should be. Certificates are named by serial, key id and the CA's fingerprint.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, TypeVar

from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields
from jitgate.core.ids import is_id
from jitgate.core.text import check_name
from jitgate.hosts.agent_wire import Report

KEY_ID_MAX: Final = 255
ITEMS_MAX: Final = 32
_TEXT_MAX: Final = 300
_SERIAL_MAX: Final = (1 << 63) - 1
E = TypeVar("E", bound=StrEnum)


class How(StrEnum):
    """By what somebody got in."""

    CERTIFICATE = "certificate"
    KEY = "key"
    OTHER = "other"


class Ended(StrEnum):
    """Why a login is over."""

    ITSELF = "by itself"
    GRANT = "its grant ended"
    REVOKED = "its certificate was revoked"
    ORDERED = "the service asked for it"
    LOST = "the agent did not see its end"


@dataclass(frozen=True, slots=True)
class Login:
    """`id`: the agent's own. `source`, `port`: where sshd saw it come from. `verified`: told by sshd or PAM, not by a
    text that others can write. Without a certificate of the realm's CA `key_id` is empty and `serial` 0."""

    id: str
    login: str
    source: str
    port: int
    at: Micros
    how: How
    verified: bool
    serial: int = 0
    key_id: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Logout:
    """`ended`: how many processes had to be ended. `all_gone`: none of them is left."""

    id: str
    at: Micros
    why: Ended
    ended: int = 0
    all_gone: bool = True


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """After a grant's last login on this host: `items`, each a kind and where it is."""

    id: str
    login: str
    key_id: str
    at: Micros
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    code: str
    detail: str
    at: Micros


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """A login as the service keeps it. `session`: the tunnel that it came through, or empty; `grant`: that its
    certificate names, or empty. `kill_at`: since when its host's agent is to end it."""

    host_id: str
    realm: str
    login: Login
    session: str
    grant: str
    ended_at: Micros | None = None
    kill_at: Micros | None = None


HostReport = Login | Logout | LeftBehind | Alarm


def make_report(said: HostReport) -> Report:
    match said:
        case Login():
            fields: dict[str, object] = {"id": said.id, "login": said.login, "source": said.source, "port": said.port}
            fields |= {"at": said.at, "how": said.how.value, "verified": said.verified}
            return Report("login", fields | {"serial": said.serial, "key_id": said.key_id, "ca": said.ca})
        case Logout():
            fields = {"id": said.id, "at": said.at, "why": said.why.value}
            return Report("logout", fields | {"ended": said.ended, "all_gone": said.all_gone})
        case LeftBehind():
            items = [[kind, where[:_TEXT_MAX]] for kind, where in said.items[:ITEMS_MAX]]
            fields = {"id": said.id, "login": said.login, "key_id": said.key_id, "at": said.at, "items": items}
            return Report("left_behind", fields)
        case Alarm():
            return Report("alarm", {"code": said.code, "detail": said.detail[:_TEXT_MAX], "at": said.at})


def take_report(unverified: Report) -> HostReport:
    """`BadInput` (`malformed`) for what no agent reports."""
    fields = Fields(dict(unverified.fields), f"a report of {unverified.type}")
    match unverified.type:
        case "login":
            found: HostReport = _login(fields)
        case "logout":
            found = Logout(
                _id(fields),
                fields.number("at"),
                _one_of(Ended, fields.text("why", 64)),
                fields.number("ended"),
                _truth(fields, "all_gone"),
            )
        case "left_behind":
            found = LeftBehind(
                _id(fields),
                check_name("login", fields.text("login", 32)),
                _plain(fields.text("key_id", KEY_ID_MAX)),
                fields.number("at"),
                tuple(fields.each("items", ITEMS_MAX, _item)),
            )
        case "alarm":
            found = Alarm(
                _plain(fields.text("code", 64)), _plain(fields.text("detail", _TEXT_MAX)), fields.number("at")
            )
        case _:
            raise BadInput("a report of an unknown type", code="malformed")
    fields.end()
    return found


def _login(fields: Fields) -> Login:
    try:
        source = str(ip_address(fields.text("source", 64)))
    except ValueError:
        raise fields.wrong("source") from None
    return Login(
        id=_id(fields),
        login=_plain(fields.text("login", 32)),
        source=source,
        port=fields.number("port", 0, 65535),
        at=fields.number("at"),
        how=_one_of(How, fields.text("how", 32)),
        verified=_truth(fields, "verified"),
        serial=fields.number("serial", 0, _SERIAL_MAX),
        key_id=_plain(fields.text("key_id", KEY_ID_MAX)),
        ca=_plain(fields.text("ca", 64)),
    )


def _one_of(kind: type[E], text: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise BadInput(f"a report with a {kind.__name__.lower()} that is none", code="malformed") from None


def _truth(fields: Fields, name: str) -> bool:
    value = fields.take(name)
    if not isinstance(value, bool):
        raise fields.wrong(name)
    return value


def _id(fields: Fields) -> str:
    if not is_id(text := fields.text("id", 26)):
        raise fields.wrong("id")
    return text


def _plain(text: str) -> str:
    if not text.isprintable():
        raise BadInput("a report with a text that cannot be shown", code="malformed")
    return text


def _item(value: object) -> tuple[str, str]:
    match value:
        case [str(kind), str(where)] if len(kind) <= 64 and len(where) <= _TEXT_MAX:  # noqa: PLR2004  # characters
            return _plain(kind), _plain(where)
    raise BadInput("a report with an item that is none", code="malformed")
