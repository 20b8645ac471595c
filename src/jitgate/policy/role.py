"""A role as it is written in a file (docs/policy.md). Every field is typed; an unknown one is refused.

Rules, beyond each field's own:
1. Each role says `effect`, and an allow role who (groups, users or a condition), what, and as whom: nothing is allowed
   by leaving a line out.
2. A deny rule forbids. It carries nothing that a grant would carry, so that nobody reads an obligation into it.
3. `what` goes by names or by labels, never both.
4. A certificate lives no longer than its grant; `on_expiry: keep` needs a `max_session`.
"""

import re
from collections.abc import Callable
from ipaddress import IPv6Network, ip_network
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from jitgate.core.errors import BadInput
from jitgate.core.text import check_name, shown
from jitgate.policy.condition import compile_condition

CERTIFICATE_MAX = 24 * 3600  # seconds; on a host without agent, expiry is the only revocation
GRANT_MAX = 30 * 24 * 3600  # seconds; longer is standing access by another name
LIST_MAX = 256  # entries of a list in a role; more is a group or a label
TEXT_MAX = 1024  # characters of a forced command
METADATA_MAX = 128  # characters of a value, 16 of them: it travels in every certificate

CLIENT = "client"  # as a source address: the one that the grant was asked from

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = r"[1-9][0-9]{0,7}[smhd]"
_HOST_PATTERN = r"\*|[a-z0-9][a-z0-9.-]{0,61}\*"

Effect = Literal["allow", "deny"]
Extension = Literal[
    "permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"
]
FactorName = Literal["password", "totp", "oidc", "webauthn", "security_key"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _named(kind: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        try:
            return check_name(kind, value)
        except BadInput as error:
            raise ValueError(f"{error.what}; {error.hint}") from None

    return check


def _host(value: str) -> str:
    return value if re.fullmatch(_HOST_PATTERN, value) and ".." not in value else _named("host")(value)


def _seconds(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(_DURATION, value):
        raise ValueError("not a duration; write a number and s, m, h or d, such as 15m")
    return int(value[:-1]) * _UNITS[value[-1]]


def _network(value: str) -> str:
    try:
        network = ip_network(value)
    except ValueError:
        raise ValueError(f"not a network: {shown(value)}; write address/length with no host bits, 10.0.0.0/8") from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(f"an IPv4 network in IPv6 clothes: {shown(value)}; write it as IPv4")
    if str(network) != value or "%" in value:
        raise ValueError(f"not the usual form of a network: {shown(value)}; write {network}")
    return value


def _network_or_client(value: str) -> str:
    return value if value == CLIENT else _network(value)


def _printable(value: str) -> str:
    if not value.strip() or not value.isascii() or not value.isprintable():
        raise ValueError("not printable ASCII on one line; leave out control and other characters")
    return value


def _condition(value: str) -> str:
    try:
        compile_condition(value)
    except BadInput as error:
        raise ValueError(f"{error.what}; {error.hint}" if error.hint else error.what) from None
    return value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := next((each for index, each in enumerate(values) if each in values[:index]), None):
        raise ValueError(f"{shown(twice)} stands there twice; name it once")
    return values


Duration = Annotated[
    int, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": f"^(?:{_DURATION})$"})
]
Group = Annotated[str, AfterValidator(_named("group"))]
User = Annotated[str, AfterValidator(_named("person"))]
Login = Annotated[str, AfterValidator(_named("login"))]
Network = Annotated[str, AfterValidator(_network)]
HostPattern = Annotated[str, AfterValidator(_host)]
LabelKey = Annotated[str, AfterValidator(_named("label key"))]
LabelValue = Annotated[str, AfterValidator(_named("label value"))]
MetadataValue = Annotated[str, Field(max_length=METADATA_MAX), AfterValidator(_printable)]

_list = Field(default=(), max_length=LIST_MAX)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Who(_Model):
    """Members of any of `groups` or any of `users`; and, where given, `condition` and one of `sources` as well."""

    groups: Annotated[tuple[Group, ...], AfterValidator(_unique)] = _list
    users: Annotated[tuple[User, ...], AfterValidator(_unique)] = _list
    condition: Annotated[str, AfterValidator(_condition)] | None = None
    sources: Annotated[tuple[Network, ...], AfterValidator(_unique)] = _list


class What(_Model):
    """Hosts by `hosts` (a name, or a beginning and `*`) or by `labels` (each must have one of its values)."""

    hosts: Annotated[tuple[HostPattern, ...], AfterValidator(_unique)] = _list
    labels: dict[
        LabelKey,
        Annotated[
            tuple[LabelValue, ...],
            Field(min_length=1, max_length=LIST_MAX),
            AfterValidator(_unique),
            BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        ],
    ] = Field(default={}, max_length=16)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.hosts and self.labels:
            raise ValueError("hosts and labels together; name hosts or labels, and write two roles for both")
        return self


class HowLong(_Model):
    """Seconds. The grant's length, and each certificate's under it; the certificate's default is 15m, never above.

    `within_token`: neither outlives the identity provider's token that the person signed in by; for a password, the
    time that the sign-in was given.
    """

    grant: Annotated[Duration, Field(ge=1, le=GRANT_MAX)] = 3600
    certificate: Annotated[Duration, Field(ge=1, le=CERTIFICATE_MAX)] = 900
    within_token: bool = False

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if "certificate" in self.model_fields_set and self.certificate > self.grant:
            raise ValueError("certificate is longer than grant; a certificate ends with its grant, shorten it")
        return self


class Options(_Model):
    """Critical options. `source_address: client` is the address that the grant was asked from."""

    source_address: Annotated[
        tuple[Annotated[str, AfterValidator(_network_or_client)], ...],
        Field(max_length=LIST_MAX),
        AfterValidator(_unique),
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = ()
    force_command: Annotated[str, Field(max_length=TEXT_MAX), AfterValidator(_printable)] | None = None

    @model_validator(mode="after")
    def _client_alone(self) -> Self:
        if CLIENT in self.source_address and len(self.source_address) > 1:
            raise ValueError("source_address is client and networks; write one of both")
        return self


class Approval(_Model):
    """Who else has to agree: `count` members of `groups` or `users`. Not built yet: such a role gives nothing."""

    groups: tuple[Group, ...] = _list
    users: tuple[User, ...] = _list
    count: int = Field(default=1, ge=1, le=5)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.groups and not self.users:
            raise ValueError("nobody could approve; name groups or users")
        return self


_TIME = r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$"


class Schedule(_Model):
    """Days and hours at which a grant may be opened. Not built yet: such a role gives nothing."""

    days: tuple[Day, ...] = Field(min_length=1, max_length=7)
    start: str = Field(alias="from", pattern=_TIME)
    end: str = Field(alias="to", pattern=_TIME)
    timezone: str = Field(pattern=r"^[A-Za-z]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}$")


class Role(_Model):
    """One role. Names in a file differ for two fields: `role` is `name` here, `as` is `logins`."""

    name: Annotated[str, AfterValidator(_named("role"))] = Field(alias="role")
    effect: Effect
    realm: Annotated[str, AfterValidator(_named("realm"))] = "default"
    description: Annotated[str, Field(max_length=TEXT_MAX), AfterValidator(_printable)] | None = None
    who: Who = Who()
    what: What = What()
    logins: Annotated[tuple[Login, ...], AfterValidator(_unique)] = Field(alias="as", default=(), max_length=LIST_MAX)
    how_long: HowLong = HowLong()
    options: Options = Options()
    extensions: Annotated[tuple[Extension, ...], AfterValidator(_unique)] = ()
    metadata: dict[LabelKey, MetadataValue] = Field(default={}, max_length=16)
    reason: Literal["optional", "required"] = "optional"
    approval: Approval | None = None
    recording: Literal["none", "required"] = "none"
    factors: Annotated[tuple[FactorName, ...], AfterValidator(_unique)] = ()
    schedule: Schedule | None = None
    on_expiry: Literal["end", "keep"] = "end"
    max_session: Annotated[Duration, Field(ge=1, le=GRANT_MAX)] | None = None

    @property
    def certificate_s(self) -> int:
        return min(self.how_long.certificate, self.how_long.grant)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.effect == "deny":
            if extra := sorted(self.model_fields_set - _OF_A_DENY_RULE):
                raise ValueError(f"a deny rule with {', '.join(extra)}; it only forbids, leave them out")
            return self
        if not (self.who.groups or self.who.users or self.who.condition):
            raise ValueError("an allow role for nobody in particular; say who: groups, users or a condition")
        if not (self.what.hosts or self.what.labels):
            raise ValueError("an allow role for no host; say what: hosts or labels ('*' is every host)")
        if not self.logins:
            raise ValueError("an allow role without logins; say as: and the logins")
        if self.on_expiry == "keep" and self.max_session is None:
            raise ValueError("on_expiry: keep without an end; say max_session")
        if self.on_expiry == "keep" and self.how_long.within_token:
            raise ValueError("on_expiry: keep would outlive the token; leave out on_expiry: keep, or within_token")
        return self


_OF_A_DENY_RULE = {"name", "effect", "realm", "description", "who", "what", "logins"}
