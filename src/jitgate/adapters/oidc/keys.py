"""A provider's discovery document and key set, as they are known here.

Rules:
1. Fetched when first needed; looked for anew after `RENEW`.
2. A key id that is not in the set has it fetched again: a rotated set is found.
3. At most `FETCHES` in any `WINDOW`, failed ones too: a flood of invented key ids costs the provider no more than that.
4. A set that could not be renewed goes on being used until it is older than the settings' `key_minutes`; then nothing
   is accepted.
5. One fetch at a time; who comes meanwhile waits for it.
6. A document or set that is malformed, or names another issuer, is as one that could not be had.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from jitgate.adapters.oidc.fetch import fetch
from jitgate.core.clock import MINUTE, SECOND, Clock, Micros
from jitgate.core.errors import BadInput, Error, Unreachable
from jitgate.identity.jwks import KeySet, VerificationKey, parse_key_set
from jitgate.identity.oidc import Header, unknown_key
from jitgate.identity.providers import ProviderSettings

RENEW: Micros = 5 * MINUTE  # a key that the provider has withdrawn is good here for so long
WINDOW: Micros = 10 * SECOND
FETCHES = 2

_HINT = "try again; if it stays, tell who runs this service"
_LOG = logging.getLogger("jitgate.oidc")


@dataclass(frozen=True, slots=True)
class Known:
    """What was fetched at one time."""

    document: Mapping[str, object]
    keys: KeySet
    at: Micros


class Keys:
    """`find` is all that the service asks; `document` is for the device flow."""

    def __init__(self, settings: ProviderSettings, client: httpx2.AsyncClient, clock: Clock) -> None:
        self._settings, self._client, self._clock = settings, client, clock
        self._known: Known | None = None
        self._tried: list[Micros] = []
        self._problem = Unreachable(f"the provider {settings.name} was not asked yet")
        self._lock = asyncio.Lock()

    async def find(self, header: Header) -> VerificationKey:
        """Raises `TokenRefused` (the set has no such key), `Unreachable` (never had, or too old by now)."""
        known = await self._current()
        key = known.keys.get(header.key_id)
        if key is None:
            await self._renew(older_than=known.at + 1)
            key = (self._known or known).keys.get(header.key_id)
        if key is None:
            raise unknown_key(header.key_id)
        return key

    async def document(self) -> Mapping[str, object]:
        return (await self._current()).document

    async def _current(self) -> Known:
        """What is known, if it may still be used. Raises `Unreachable`."""
        await self._renew(older_than=self._clock() - RENEW)
        name, known = self._settings.name, self._known
        if known is None:
            what = f"the provider {name} cannot be asked for its keys: {self._problem.what}"
            raise Unreachable(what, self._problem.hint or _HINT, code="provider_unreachable")
        age = self._clock() - known.at
        if not 0 <= age <= self._settings.key_minutes * MINUTE:  # the clock may have been set back
            what = (
                f"the keys of the provider {name} are {age // MINUTE} minutes old, and it cannot be asked for new ones"
            )
            raise Unreachable(f"{what}: {self._problem.what}", self._problem.hint or _HINT, code="provider_keys_stale")
        return known

    async def _renew(self, *, older_than: Micros) -> None:
        """Fetch the set if it is older, unless that was tried just now. Raises nothing: what is known stays."""
        if self._is_settled(older_than):
            return
        async with self._lock:
            if self._is_settled(older_than):  # somebody else did it while we waited
                return
            self._tried = [*self._tried[1 - FETCHES :], self._clock()]
            try:
                self._known = await self._fetch()
            except Error as error:
                self._problem = error if isinstance(error, Unreachable) else Unreachable(error.what, error.hint)
                _LOG.warning(
                    "a provider's keys could not be had", extra={"provider": self._settings.name, "problem": error.what}
                )

    def _is_settled(self, older_than: Micros) -> bool:
        now = self._clock()
        if self._known is not None and older_than <= self._known.at <= now:
            return True
        return sum(0 <= now - tried < WINDOW for tried in self._tried) >= FETCHES

    async def _fetch(self) -> Known:
        """OpenID Connect Discovery 1.0, 4: the document names exactly the issuer that the settings name."""
        issuer, at = self._settings.issuer, self._clock()
        answer = await fetch(self._client, issuer.rstrip("/") + "/.well-known/openid-configuration")
        document = answer.object()
        if document.get("issuer") != issuer:
            raise BadInput(f"the provider's discovery document is not that of {issuer}", "compare it with the settings")
        keys = await fetch(self._client, endpoint(document, "jwks_uri", issuer))
        return Known(document, parse_key_set(keys.body), at)


def endpoint(document: Mapping[str, object], name: str, issuer: str) -> str:
    """An address of the discovery document: https, or the scheme of a loopback issuer. Raises `Unreachable`."""
    url = document.get(name)
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        known = parts.scheme in ("https", urlsplit(issuer).scheme) and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise Unreachable(f"the provider's discovery document has no usable {name}", "does it offer that flow?")
    return str(url)
