"""The code flow with an identity provider (OpenID Connect Core 1.0, 3.1): jitctl is a public client there.

PKCE (RFC 7636) ties the code to this process, `state` the browser's answer to this sign-in, the nonce the ID token to
the service and the key. The token is not read here: whether it holds is for the service to say. What the provider
answers is bounded, and nothing of it is followed but addresses that `check_url` lets through.
"""

import hashlib
import hmac
import json
import secrets
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from jitgate import __version__
from jitgate.cli import browser, terminal
from jitgate.cli.answers import Row, as_row, text
from jitgate.cli.command import Options
from jitgate.cli.loopback import Loopback
from jitgate.cli.out import say, tell
from jitgate.cli.providers import Provider, check_url
from jitgate.cli.service import at_most, read_bounded
from jitgate.cli.trust import trust
from jitgate.core.errors import BadInput, Denied, Unreachable
from jitgate.core.secret import Secret
from jitgate.core.text import shown

if TYPE_CHECKING:
    import httpx2

_SECONDS = 20.0  # for a whole answer
_DOCUMENT_MAX = 1 << 18  # bytes: a discovery document has a few thousand
_TOKEN_MAX = 1 << 16  # characters: some hundred groups make ten thousand
_BACK_WITHIN_S = 600.0  # for a person to sign in at the provider: codes and its pages do not wait longer either
_DISCOVERY = "/.well-known/openid-configuration"
_OK = 200


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What discovery says. `names_itself`: its answers carry its issuer (RFC 9207)."""

    authorization: str
    token: str
    names_itself: bool


@contextmanager
def id_token(provider: Provider, nonce: str, options: Options, *, open_browser: bool) -> Iterator[Secret[str]]:
    """An ID token with that nonce. Used as a context, so that the browser's page can say how the sign-in ended."""
    with _client(provider) as client:
        endpoints = discover(client, provider)
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        with Loopback(state) as listener:
            url = authorization_url(endpoints, provider, listener.redirect_uri, state, nonce, verifier)
            if open_browser:
                say(options, f"opening your browser to sign in at {urlsplit(url).netloc}; if none comes up, go to:")
                tell(f"  {url}")
                browser.open_browser(url)
            else:
                say(options, f"open this address in a browser to sign in at {urlsplit(url).netloc}:")
                tell(f"  {url}")
            paste = not open_browser and terminal.can_ask(options)
            answer = listener.wait(_BACK_WITHIN_S, paste=paste)
            code = code_of(answer, provider, endpoints)
            yield exchange(client, provider, endpoints, code, listener.redirect_uri, verifier)


def discover(client: "httpx2.Client", provider: Provider) -> Endpoints:
    return endpoints_of(_exchange(client, provider, "GET", provider.issuer.rstrip("/") + _DISCOVERY), provider)


def endpoints_of(document: Row, provider: Provider) -> Endpoints:
    """OpenID Connect Discovery 1.0, 4.3: the document must be of this very issuer. Else `BadInput`."""
    if (found := text(document, "issuer", "")) != provider.issuer:
        raise BadInput(f"the provider {provider.name} says that it is {shown(found)}, not {provider.issuer}", _TELL)
    # one that is reached by https does not hand on to plain HTTP
    plain = provider.issuer.startswith("http://")
    endpoints = [
        check_url(f"the {name} of {provider.name}", text(document, name, ""), plain=plain)
        for name in ("authorization_endpoint", "token_endpoint")
    ]
    methods = document.get("code_challenge_methods_supported")
    if isinstance(methods, list) and "S256" not in methods:
        raise BadInput(f"the provider {provider.name} cannot do PKCE with S256", "sign in by the device flow: --device")
    names_itself = document.get("authorization_response_iss_parameter_supported") is True
    return Endpoints(endpoints[0], endpoints[1], names_itself)


def authorization_url(
    endpoints: Endpoints, provider: Provider, redirect_uri: str, state: str, nonce: str, verifier: str
) -> str:
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    fields = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{endpoints.authorization}{'&' if '?' in endpoints.authorization else '?'}{urlencode(fields)}"


def code_of(answer: Mapping[str, str], provider: Provider, endpoints: Endpoints) -> Secret[str]:
    """The code in an answer whose `state` was ours. `Denied` if the provider refused, `BadInput` for another's."""
    issuer = answer.get("iss")
    if (issuer is None and endpoints.names_itself) or (
        issuer is not None and not hmac.compare_digest(issuer.encode(), provider.issuer.encode())
    ):
        raise BadInput(
            f"the answer is of {shown(issuer or 'nobody')}, not of {provider.issuer}",
            "somebody may have mixed two providers up; sign in again",
        )
    if error := answer.get("error"):
        why = answer.get("error_description", "")
        raise Denied(f"the provider {provider.name} refused: {shown(error)} {shown(why) if why else ''}".rstrip(), _ASK)
    if not (code := answer.get("code")):
        raise BadInput(f"the provider {provider.name} sent no code", _TELL)
    return Secret(code)


def exchange(
    client: "httpx2.Client",
    provider: Provider,
    endpoints: Endpoints,
    code: Secret[str],
    redirect_uri: str,
    verifier: str,
) -> Secret[str]:
    """The ID token for a code. The access token that comes with it is thrown away."""
    form = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": redirect_uri,
        "client_id": provider.client_id,
        "code_verifier": verifier,
    }
    answer = _exchange(client, provider, "POST", endpoints.token, form)
    token = answer.get("id_token")
    if not isinstance(token, str) or not token.isascii() or not 0 < len(token) <= _TOKEN_MAX:
        raise BadInput(f"the provider {provider.name} sent no ID token", "are its scopes right? they need openid")
    return Secret(token)


_TELL = "tell the service's owner"
_ASK = "sign in again, or ask the provider's owner"


def _client(provider: Provider) -> "httpx2.Client":
    import httpx2  # noqa: PLC0415  # a third of the time to start, and only needed here

    plain = provider.issuer.startswith("http://")
    return httpx2.Client(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else trust(provider.ca.encode()),
        trust_env=not plain,  # what goes to this machine in plain text must not be handed to a proxy
        follow_redirects=False,
        headers={
            "User-Agent": f"jitctl/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        },
    )


def _exchange(
    client: "httpx2.Client", provider: Provider, method: str, url: str, form: Mapping[str, str] | None = None
) -> Row:
    """The provider's answer, a JSON object with status 200; else `Denied` with its error, `Unreachable`, `BadInput`."""
    import httpx2  # noqa: PLC0415  # as above

    where = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    try:
        with (
            at_most(_SECONDS, where),
            client.stream(method, url, data=dict(form) if form else None, timeout=_SECONDS) as response,
        ):
            content = read_bounded(response, _DOCUMENT_MAX, where, "is it the address of an identity provider?")
    except httpx2.HTTPError as error:
        why = str(error).rstrip(". ") or type(error).__name__
        hint = "is the provider up, and this machine online?"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "if its TLS authority is one of your own, the service's owner names it: ca_file of that provider"
        raise Unreachable(f"the provider {provider.name} at {where} cannot be reached: {why}", hint) from None
    try:
        document = as_row(json.loads(content))
    except (ValueError, RecursionError, BadInput):
        document = {}
    if response.status_code == _OK and document:
        return document
    if error_code := document.get("error"):
        told = f"{error_code} {document.get('error_description', '')}".strip()
        raise Denied(f"the provider {provider.name} refused: {shown(told)}", _ASK)
    raise BadInput(
        f"the provider {provider.name} answers {method} {shown(urlsplit(url).path)} with status {response.status_code}"
        + ("" if document else " and no JSON object"),
        _TELL,
    )
