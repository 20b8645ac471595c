"""One HTTP request to a provider, bounded in time and size; no redirect is followed."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from jitgate.core.errors import Unreachable
from jitgate.identity.jwks import no_name_twice

TIMEOUT_S = 5.0  # for one request with everything: a person waits for it
BODY_MAX = 512 * 1024  # bytes; the largest key sets there are have some 50 KiB


@dataclass(frozen=True, slots=True)
class Fetched:
    """A status below 500 with a whole body."""

    status: int
    body: bytes

    def object(self) -> Mapping[str, object]:
        """The body as a JSON object; `Unreachable` if it is none: whoever answers there is no provider."""
        try:
            found = json.loads(self.body, object_pairs_hook=no_name_twice)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Unreachable("what the provider answers is no JSON object", "is the issuer's address right?")
        return found


def make_client(authority: str) -> httpx2.AsyncClient:
    """TLS by the system's authorities, or by the one whose PEM is given alone."""
    context = ssl.create_default_context(cadata=authority or None)
    return httpx2.AsyncClient(verify=context, timeout=TIMEOUT_S, follow_redirects=False)


async def fetch(
    client: httpx2.AsyncClient,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
) -> Fetched:
    """GET, or POST of a form. Raises `Unreachable` in words that hold no secret."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _fetch(client, url, form, auth)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, ssl.SSLError) as error:
        what = f"the provider does not answer at {url}: {str(error) or 'timed out'}"
        raise Unreachable(what, "try again; if it stays, tell who runs this service") from None


async def _fetch(
    client: httpx2.AsyncClient, url: str, form: Mapping[str, str] | None, auth: tuple[str, str] | None
) -> Fetched:
    body = bytearray()
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    basic = httpx2.BasicAuth(*auth) if auth else None
    method = "GET" if form is None else "POST"
    async with client.stream(method, url, data=form, headers=headers, auth=basic) as response:
        if (
            response.headers.get("content-encoding", "identity") != "identity"
        ):  # a small answer could become a large one
            raise Unreachable(f"the provider's answer is compressed, unasked, at {url}")
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > BODY_MAX:
                raise Unreachable(f"the provider answers more than {BODY_MAX} bytes at {url}")
    if response.status_code >= 500 or 300 <= response.status_code < 400:  # noqa: PLR2004  # HTTP's classes
        raise Unreachable(f"the provider answers {response.status_code} at {url}")
    return Fetched(response.status_code, bytes(body))
