"""How a person may sign in to a service: by password and code, or by one of its identity providers."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from jitgate.cli import terminal
from jitgate.cli.answers import Row, as_row, rows, text, texts
from jitgate.cli.command import Options
from jitgate.core.addresses import is_loopback
from jitgate.core.errors import BadInput, NotFound, UsageError
from jitgate.core.text import shown
from jitgate.identity.nonce import check_provider

_URL_MAX = 2048
_PROVIDERS_MAX = 50
_WORD_MAX = 255
_CA_MAX = 1 << 16
_FLOWS = frozenset({"code", "device"})
_LOCAL = "name, password and code"


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider as the service names it. `ca`: its TLS authority in PEM; empty for public trust."""

    name: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    flows: frozenset[str]
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Ways:
    local: bool
    providers: tuple[Provider, ...]


def as_ways(about: Row) -> Ways:
    """The ways that `/.well-known/jitgate` offers, checked; `BadInput` for what is none."""
    ways = texts(about, "sign_in") if "sign_in" in about else ["local"]
    found = rows(about, "providers") if "oidc" in ways else []
    if len(found) > _PROVIDERS_MAX:
        raise BadInput(
            f"the service names {len(found)} identity providers", "is this the address of a jitgate service?"
        )
    providers = tuple(_as_provider(row) for row in found)
    if len({provider.name for provider in providers}) != len(providers):
        raise BadInput("the service names two identity providers alike", "tell the service's owner")
    return Ways("local" in ways, providers)


def choose(options: Options, ways: Ways, name: str | None, *, local: bool, used: str) -> Provider | None:
    """The provider to sign in by; None for password and code.

    What was asked for by `name` or `local`; else the only way; else the one that was `used` here before (`local`, or a
    provider's name); else a question. `UsageError` where nobody can be asked, `NotFound` for an unknown provider.
    """
    known = {provider.name: provider for provider in ways.providers}
    if name is not None and name not in known:
        there = f"there is {', '.join(known)}" if known else "leave out --provider: there is none"
        raise NotFound(f"the service knows no identity provider {shown(name)}", there)
    if name is not None:
        return known[name]
    if local and not ways.local:
        raise NotFound("nobody signs in to this service with a password", f"by its provider: --provider {_any(known)}")
    if local or not known or (used == "local" and ways.local):
        return None
    if used in known:
        return known[used]
    if len(known) == 1 and not ways.local:
        return ways.providers[0]
    choices = [f"{provider.name} ({provider.issuer})" for provider in ways.providers] + [_LOCAL] * ways.local
    hints = ["--provider NAME", *["--local"] * ways.local]
    number = terminal.choose(options, "way to sign in", choices, f"choose with {' or '.join(hints)}")
    return ways.providers[number] if number < len(ways.providers) else None


def check_url(what: str, url: str, *, plain: bool = True) -> str:
    """`url` if it is https, or, where `plain` is allowed, plain HTTP on this machine; else `BadInput`."""
    hint = "tell the service's owner"
    if not (url.isascii() and url.isprintable() and " " not in url and len(url) <= _URL_MAX):
        raise BadInput(f"{what} is not an address: {shown(url)}", hint)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise BadInput(f"{what} is not an address: {shown(url)}", hint) from None
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise BadInput(f"{what} is not an address: {shown(url)}", hint)
    if parts.scheme != "https" and not (plain and parts.scheme == "http" and is_loopback(host)):
        raise BadInput(f"{what} is not https: {shown(url)}", hint)
    return url


def _as_provider(row: Row) -> Provider:
    row = as_row(row)
    name = check_provider(text(row, "name"))
    issuer = check_url(f"the issuer of {name}", text(row, "issuer"))
    if "?" in issuer:
        raise BadInput(f"the issuer of {name} is none: {shown(issuer)}", "tell the service's owner")
    client_id, scopes = text(row, "client_id"), texts(row, "scopes")
    ca = text(row, "ca", "")
    words = [client_id, *scopes]
    plain = all(word.isascii() and word.isprintable() and 0 < len(word) <= _WORD_MAX for word in words)
    if not plain or any(" " in scope for scope in scopes) or "openid" not in scopes or len(ca) > _CA_MAX:
        raise BadInput(f"the service's words about its provider {name} cannot be used", "tell the service's owner")
    return Provider(name, issuer, client_id, tuple(scopes), _FLOWS & set(texts(row, "flows")), ca)


def _any(known: dict[str, Provider]) -> str:
    return next(iter(known), "NAME")


def check_given(name: str | None, *, local: bool, words: bool, device: bool, browser: bool) -> None:
    """`UsageError` for options that do not go together. `words`: a name, password or code was given."""
    if name is not None and (local or words):
        raise UsageError("--provider takes neither --local nor name, password or code", "the provider asks for them")
    if (local or words) and (device or not browser):
        raise UsageError("--device and --no-browser are for a sign-in by a provider", "add --provider NAME")
    if device and not browser:
        raise UsageError("--device needs no browser here anyway", "leave out --no-browser")
