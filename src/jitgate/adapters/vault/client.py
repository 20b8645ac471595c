"""A Vault's HTTP API, the few calls that we need: entering, renewing the token, and reading and writing of KV v2.

Every failure is `Unreachable` with one wording, whatever it was: who asks for a certificate learns that the registry
does not answer. What exactly went wrong goes to the program's log, without any token or secret id.
"""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import httpx2

from jitgate.adapters.secret_file import read_secret
from jitgate.adapters.vault.settings import KeysSettings
from jitgate.core.errors import Error, Unreachable, Unsafe
from jitgate.core.secret import Secret
from jitgate.core.text import shown

ANSWER_MAX: Final = 64 * 1024  # bytes; an entry has one
CONNECTIONS: Final = 16
PAUSE_S: Final = (
    1.0  # after a failure nothing is sent for so long: a Vault that hangs costs one wait a second, not each
)
RENEW_AT: Final = 0.5  # of a token's life
LOOK_S: Final = 5.0  # how often the token is looked after while nobody asks for anything
ENTER_AGAIN_S: Final = 10.0  # a token this young that is refused lacks the policy, and another one would too

Json = dict[str, Any]
Tick = Callable[[], float]  # seconds that only count up
_FAILURES: Final = (
    httpx2.HTTPError,
    httpx2.StreamError,
    OSError,
    TimeoutError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
    Error,
)  # the last but one: JSON that is nested without end
_LOG = logging.getLogger("jitgate.vault")


class Vault:
    """One Vault and our token for it. Made by `open_vault`."""

    def __init__(self, settings: KeysSettings, client: httpx2.AsyncClient, tick: Tick = time.monotonic) -> None:
        self._settings, self._client, self._tick = settings, client, tick
        self._url = settings.url.rstrip("/")
        self._entering = asyncio.Lock()
        self._token: Secret[str] | None = None
        self._entered_at = self._renew_at = self._ends_at = 0.0
        self._renewable = False
        self._silent_until = 0.0

    async def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """Status (200, 204, 400 or 404) and body of an answer. Raises `Unreachable` for everything else."""
        if self._tick() < self._silent_until:
            raise _unreachable()
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                token = await self._enter()
                status, found = await self._send(method, path, body, token)
                if status == httpx2.codes.FORBIDDEN and await self._enter_again(token):
                    status, found = await self._send(method, path, body, await self._enter())
        except _FAILURES as error:
            raise self._failed(error) from None
        if status not in {200, 204, 400, 404}:
            raise self._failed(Error(f"{method} {path}: {_words(status, found)}"))
        return status, found

    async def look_after_token(self) -> None:
        """Renew the token in time, also while nobody asks: until cancelled."""
        while True:
            with suppress(Unreachable):
                if self._tick() >= self._silent_until:
                    await self._keep()
            await asyncio.sleep(LOOK_S)

    async def _keep(self) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                await self._enter()
        except _FAILURES as error:
            raise self._failed(error) from None

    async def _enter(self) -> Secret[str]:
        """A token that is good: the one we have, that one renewed, or another."""
        if self._token is not None and self._tick() < self._renew_at:
            return self._token
        async with self._entering:
            now = self._tick()
            if self._token is not None and now < self._renew_at:
                return self._token
            if self._token is not None and now < self._ends_at and self._renewable and await self._renew(self._token):
                return self._token
            return await self._new_token()

    async def _enter_again(self, refused: Secret[str]) -> bool:
        """Forget a token that was refused, unless a new one would fare no better."""
        if self._token is refused and self._tick() - self._entered_at < ENTER_AGAIN_S:
            return False
        if self._token is refused:
            self._token = None
        return True

    async def _renew(self, token: Secret[str]) -> bool:
        status, found = await self._send("POST", "auth/token/renew-self", {}, token)
        if status != httpx2.codes.OK or _text(found["auth"], "client_token") != token.reveal():
            return False
        self._take(token, found["auth"]["lease_duration"], found["auth"]["renewable"])
        # at its longest life a renewal gives less and less: then another token, where we can get one
        return self._renew_at - self._tick() > 1 or bool(self._settings.token_file)

    async def _new_token(self) -> Secret[str]:
        chosen = self._settings
        if chosen.token_file:
            token = read_secret(chosen.token_file)
            status, found = await self._send("GET", "auth/token/lookup-self", None, token)
            if status != httpx2.codes.OK:
                raise Error(f"the token in {chosen.token_file} is not taken: {_words(status, found)}")
            self._take(token, found["data"]["ttl"], found["data"].get("renewable", False))
        else:
            role_id = chosen.role_id or read_secret(chosen.role_id_file).reveal()
            body = {"role_id": role_id, "secret_id": read_secret(chosen.secret_id_file).reveal()}
            status, found = await self._send("POST", f"auth/{chosen.auth_mount}/login", body, None)
            if status != httpx2.codes.OK:
                raise Error(f"the AppRole is not taken: {_words(status, found)}")
            token = Secret(_text(found["auth"], "client_token"))
            self._take(token, found["auth"]["lease_duration"], found["auth"]["renewable"])
        self._token, self._entered_at = token, self._tick()
        return token

    def _take(self, token: Secret[str], seconds: object, renewable: object) -> None:
        if not isinstance(seconds, int) or seconds < 0:
            raise ValueError("a token's life is not a number")
        life = float(seconds) or 3600.0  # 0: it never ends; looked at again now and then
        now = self._tick()
        self._token, self._renewable = token, renewable is True
        self._renew_at, self._ends_at = now + RENEW_AT * life, now + life

    async def _send(self, method: str, path: str, body: Json | None, token: Secret[str] | None) -> tuple[int, Json]:
        headers = {"x-vault-request": "true"}
        if token is not None:
            headers["x-vault-token"] = token.reveal()
        if self._settings.namespace:
            headers["x-vault-namespace"] = self._settings.namespace
        async with self._client.stream(method, f"{self._url}/v1/{path}", json=body, headers=headers) as answer:
            if "content-encoding" in answer.headers:
                raise ValueError("an answer that is packed")  # its size would say nothing
            content = bytearray()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > ANSWER_MAX:
                    raise ValueError(f"an answer of more than {ANSWER_MAX} bytes")
        if answer.is_redirect:
            raise ValueError("a redirect: `url` is to be the address that answers")
        found = json.loads(content) if content else {}
        if not isinstance(found, dict):
            raise ValueError("an answer that is no JSON object")  # noqa: TRY004  # all that is wrong with an answer
        return answer.status_code, found

    def _failed(self, error: Exception) -> Unreachable:
        words = error.what if isinstance(error, Error) else _shown_kind(error)
        self._silent_until = self._tick() + PAUSE_S
        _LOG.warning("the key registry does not answer", extra={"url": self._settings.url, "problem": words})
        return _unreachable()


@asynccontextmanager
async def open_vault(settings: KeysSettings, tick: Tick = time.monotonic) -> AsyncIterator[Vault]:
    """A Vault that is asked when it is needed: that it is away now does not keep the service from starting."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:  # an SSLError is one
        what = f"[keys] ca_file {settings.ca_file}: {error.strerror or error}"
        raise Unsafe(what, "a CA's certificate in PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    headers = {"accept-encoding": "identity"}
    async with httpx2.AsyncClient(
        verify=context, trust_env=False, follow_redirects=False, limits=limits, headers=headers, timeout=None
    ) as client:
        vault = Vault(settings, client, tick)
        keeper = asyncio.create_task(vault.look_after_token())
        try:
            yield vault
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper


def _unreachable() -> Unreachable:
    hint = "try again; the service's own log says what is wrong with it"
    return Unreachable("the key registry does not answer", hint, code="registry_unreachable")


def _words(status: int, found: Mapping[str, Any]) -> str:
    errors = found.get("errors")
    return f"{status} {shown(str(errors[0]).strip(), 200) if isinstance(errors, list) and errors else ''}".strip()


def _shown_kind(error: Exception) -> str:
    """What happened, in words that hold nothing which was sent."""
    return f"{type(error).__name__}: {shown(str(error), 200)}"


def _text(found: object, name: str) -> str:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, str) or not value:
        raise ValueError(f"an answer without {name}")
    return value
