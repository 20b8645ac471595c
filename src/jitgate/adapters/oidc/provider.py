"""A provider as the acts see it (`flow.elsewhere.Provider`), and the device flow by the service's own client."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote_plus

import httpx2

from jitgate.adapters.oidc.fetch import Fetched, fetch, make_client
from jitgate.adapters.oidc.keys import Keys, endpoint
from jitgate.adapters.secret_file import read_secret
from jitgate.core.clock import MINUTE, SECOND, Clock, Micros
from jitgate.core.errors import BadInput, Denied, Unreachable
from jitgate.core.secret import Secret
from jitgate.identity.jwks import VerificationKey
from jitgate.identity.oidc import Header
from jitgate.identity.providers import DeviceStart, NotYet, ProviderSettings

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CODE_MAX = 4096  # characters of a device code
INTERVAL: tuple[Micros, Micros] = (SECOND, MINUTE)  # what a provider may ask for
LIFETIME_MAX: Micros = 30 * MINUTE


class HttpProvider:
    def __init__(
        self,
        settings: ProviderSettings,
        secret: Secret[str],
        client: httpx2.AsyncClient,
        clock: Clock,
        authority: str = "",
    ) -> None:
        self._settings, self._secret, self._client = settings, secret, client
        self._keys = Keys(settings, client, clock)
        self._authority = authority

    @property
    def settings(self) -> ProviderSettings:
        return self._settings

    @property
    def authority(self) -> str:
        return self._authority

    async def key(self, header: Header) -> VerificationKey:
        return await self._keys.find(header)

    async def begin_device(self) -> DeviceStart:
        """RFC 8628, 3.1. Raises `Unreachable`."""
        answer = await self._post("device_authorization_endpoint", {"scope": " ".join(self._settings.scopes)})
        said = answer.object()
        if answer.status != 200:  # noqa: PLR2004  # HTTP
            raise Unreachable(f"the provider begins no device flow: {_error(answer)}", "is the client allowed to?")
        code, user_code = said.get("device_code"), said.get("user_code")
        uri, complete = (
            said.get("verification_uri", said.get("verification_url")),
            said.get("verification_uri_complete"),
        )
        texts = (code, user_code, uri, complete or "")
        if not all(isinstance(each, str) and len(each) <= CODE_MAX and each.isprintable() for each in texts):
            raise Unreachable("the provider's answer to a device flow is malformed")
        return DeviceStart(
            Secret(str(code)),
            str(user_code),
            str(uri),
            str(complete or ""),
            _duration(said.get("expires_in"), MINUTE, LIFETIME_MAX, 5 * MINUTE),
            _duration(said.get("interval"), *INTERVAL, 5 * SECOND),
        )

    async def ask_device(self, device_code: Secret[str]) -> Secret[str] | NotYet:
        """RFC 8628, 3.4 and 3.5."""
        form = {"grant_type": DEVICE_GRANT, "device_code": device_code.reveal()}
        answer = await self._post("token_endpoint", form)
        if answer.status == 200:  # noqa: PLR2004  # HTTP
            token = answer.object().get("id_token")
            if not isinstance(token, str):
                raise Unreachable("the provider gave no ID token", "do the scopes hold openid?")
            return Secret(token)
        error = _error(answer)
        if error in ("authorization_pending", "slow_down"):
            return NotYet(slower=error == "slow_down")
        if error == "access_denied":
            raise Denied("the sign-in was refused at the provider", "begin again: jitctl login", code="device_denied")
        if error in ("expired_token", "invalid_grant"):
            raise Denied("the code ran out", "begin again: jitctl login --device", code="device_expired")
        raise Unreachable(f"the provider gives no token: {error}", "are service_client_id and its secret right?")

    async def _post(self, name: str, form: dict[str, str]) -> Fetched:
        document, client_id = await self._keys.document(), self._settings.service_client_id
        # RFC 6749, 2.3.1: each half is form-encoded before it is put together.
        auth = (quote_plus(client_id), quote_plus(self._secret.reveal()))
        methods = document.get("token_endpoint_auth_methods_supported")
        # In the body where it may be: Dex finds it nowhere else when a device flow begins, and fails when it ends.
        if isinstance(methods, list) and "client_secret_post" in methods:
            form = form | {"client_id": client_id, "client_secret": self._secret.reveal()}
            return await fetch(self._client, endpoint(document, name, self._settings.issuer), form=form)
        form = form | {"client_id": client_id}
        return await fetch(self._client, endpoint(document, name, self._settings.issuer), form=form, auth=auth)


@contextlib.asynccontextmanager
async def open_providers(settings: Sequence[ProviderSettings], clock: Clock) -> AsyncIterator[dict[str, HttpProvider]]:
    """By name, until the block ends. No provider is asked for anything yet. Raises `NotFound`, `BadInput`, `Unsafe`."""
    async with AsyncExitStack() as stack:
        opened: dict[str, HttpProvider] = {}
        for each in settings:
            authority = read_authority(each)
            client = await stack.enter_async_context(make_client(authority))
            secret = read_secret(each.client_secret_file)
            opened[each.name] = HttpProvider(each, secret, client, clock, authority)
        yield opened


def read_authority(settings: ProviderSettings) -> str:
    """PEM of the provider's own TLS authority; empty for the system's."""
    if not settings.ca_file:
        return ""
    try:
        text = Path(settings.ca_file).read_text(encoding="ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as error:  # an SSLError too
        what = f"provider {settings.name}: {settings.ca_file} holds no TLS authority: {error}"
        raise BadInput(what, "a PEM file, as in -----BEGIN CERTIFICATE-----") from None
    return text


def _error(answer: Fetched) -> str:
    """RFC 6749, 5.2: the provider's own word, if it is one."""
    said = answer.object().get("error")
    plain = isinstance(said, str) and len(said) <= 64 and said.replace("_", "").isalnum() and said.isascii()  # noqa: PLR2004  # longer than any of its words
    return str(said) if plain else f"status {answer.status}"


def _duration(value: object, least: Micros, most: Micros, otherwise: Micros) -> Micros:
    if isinstance(value, bool) or not isinstance(value, int):
        return otherwise
    return min(max(value * SECOND, least), most)
