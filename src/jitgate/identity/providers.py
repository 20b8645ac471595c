"""An identity provider as the settings describe it (`[[provider]]`): what it says is believed within these bounds."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from jitgate.core.addresses import is_loopback
from jitgate.core.clock import MINUTE, Micros
from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.identity.model import LOCAL_ISSUER
from jitgate.identity.nonce import check_provider
from jitgate.identity.proof import origin_of

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""All that ID tokens may be signed with: asymmetric ones (RFC 7518, RFC 8037)."""

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    name: str
    """What people and requests call it."""
    issuer: str
    """Its issuer, byte for byte as its tokens and its discovery document have it."""
    client_id: str
    """`jitctl`'s own client there: public, code flow with PKCE, redirect to a loopback port."""
    service_client_id: str = ""
    """The service's client, for the device flow; empty: no device flow."""
    client_secret_file: str = ""
    """File with that client's secret, 0600."""
    ca_file: str = ""
    """PEM file of the authority that the provider's TLS certificate is from; empty: the system's."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """What is asked for. Many providers want `groups` here too before they name any."""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    """What its ID tokens may be signed with."""
    people: str = "linked"
    """`linked`: only identities that are linked to a person; `create`: an unknown one becomes a person."""
    name_claim: str = "preferred_username"
    """With `create`: the claim that becomes the person's name, in lower case."""
    groups: str = "token"
    """Where a person's groups come from: `token`, `directory` or `none`."""
    groups_claim: str = "groups"
    """With `token`: the claim that lists them."""
    group_prefix: str = ""
    """Put before each group, so that no provider can name another's."""
    directory_claim: str = "preferred_username"
    """With `directory`: the claim by which the person is found there."""
    host_audience: str = ""
    """The audience of machines' own tokens, by which hosts join; empty: none do by this provider."""
    sign_in_minutes: int = 480
    """How long a sign-in lasts; with `token` also how old its groups may become."""
    key_minutes: int = 60
    """How old its key set may become while it cannot be reached."""

    def __post_init__(self) -> None:
        check_provider(self.name)
        if self.name == LOCAL_ISSUER:
            raise BadInput("a provider cannot be called local", "that is what users with a password are")
        _check_url(self.issuer)
        _check_word("client_id", self.client_id)
        if self.service_client_id:
            _check_word("service_client_id", self.service_client_id)
        if self.host_audience:
            _check_word("host_audience", self.host_audience)
            if self.host_audience in {self.client_id, self.service_client_id}:
                raise BadInput("host_audience is a client's, too", "a person's token would let a host in")
        if bool(self.service_client_id) != bool(self.client_secret_file):
            raise BadInput("service_client_id and client_secret_file go together", "set both for the device flow")
        if "openid" not in self.scopes or not all(scope.isascii() and scope.isprintable() for scope in self.scopes):
            raise BadInput("scopes without openid", 'like scopes = ["openid", "profile", "groups"]')
        if not self.algorithms or not ALGORITHMS.issuperset(self.algorithms):
            raise BadInput("algorithms that are none or unknown", f"one or more of {' '.join(sorted(ALGORITHMS))}")
        _check_choice("people", self.people, "linked", "create")
        _check_choice("groups", self.groups, "token", "directory", "none")
        _check_needed("create", self.people, "name_claim", self.name_claim)
        _check_needed("token", self.groups, "groups_claim", self.groups_claim)
        _check_needed("directory", self.groups, "directory_claim", self.directory_claim)
        if self.group_prefix:
            check_name("group", self.group_prefix + "x")
        _check_minutes("sign_in_minutes", self.sign_in_minutes)
        _check_minutes("key_minutes", self.key_minutes)

    @property
    def lifetime(self) -> Micros:
        return self.sign_in_minutes * MINUTE

    @property
    def flows(self) -> tuple[str, ...]:
        return ("code", "device") if self.service_client_id else ("code",)


@dataclass(frozen=True, slots=True)
class DeviceStart:
    """What a provider answers to a device flow's beginning (RFC 8628, 3.2). `lifetime` and `interval`: durations."""

    device_code: Secret[str]
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    lifetime: Micros
    interval: Micros


@dataclass(frozen=True, slots=True)
class NotYet:
    """The person has not answered yet. `slower`: the provider wants to be asked less often."""

    slower: bool = False


def check_providers(providers: tuple[ProviderSettings, ...]) -> None:
    """That no two share a name or an issuer: an issuer's subjects must be one provider's. Raises `BadInput`."""
    for what in ("name", "issuer"):
        said = [getattr(each, what) for each in providers]
        if len(set(said)) != len(said):
            raise BadInput(f"two providers have the same {what}", "each has its own")


def _check_url(url: str) -> None:
    """An issuer: https, or plain HTTP on this machine; no query, no fragment (OpenID Connect Discovery 1.0, 3)."""
    origin_of(url)  # refuses what has no host
    local = is_loopback(urlsplit(url).hostname or "")
    if not url.startswith(("https://", "http://") if local else "https://") or len(url) > 255:  # noqa: PLR2004  # a column's length
        raise BadInput(f"not an issuer: {shown(url)}", "https://...; plain HTTP only on 127.0.0.1")
    if not url.isascii() or not url.isprintable() or any(mark in url for mark in " ?#"):
        raise BadInput(f"not an issuer: {shown(url)}", "no query, no fragment")


def _check_word(setting: str, value: str) -> None:
    if not value.isascii() or not value.isprintable() or not 0 < len(value) <= 255:  # noqa: PLR2004  # longer than any
        raise BadInput(f"{setting} is empty, too long or not plain text")


def _check_choice(setting: str, value: str, *known: str) -> None:
    if value not in known:
        raise BadInput(f"{setting} is {shown(value)}", f"one of {', '.join(known)}")


def _check_needed(value: str, chosen: str, claim: str, name: str) -> None:
    if chosen == value and not name:
        raise BadInput(f"{claim} is empty", f"{value} needs it")


def _check_minutes(setting: str, value: int) -> None:
    if not 1 <= value <= DAY_MINUTES:
        raise BadInput(f"{setting} is out of range", f"1 to {DAY_MINUTES}")
