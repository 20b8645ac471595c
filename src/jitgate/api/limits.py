"""Around every request: a request id, a bound on its body, and headers that every answer carries."""

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jitgate.core.clock import Clock
from jitgate.core.ids import Random, new_id

BODY_MAX = 64 * 1024  # bytes; the largest request is a key and a reason

_HEADERS = [
    (b"cache-control", b"no-store"),  # answers hold tokens and certificates
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"referrer-policy", b"no-referrer"),
]


class Limits:
    """Pure ASGI, so that nothing is buffered twice."""

    def __init__(self, app: ASGIApp, clock: Clock, random: Random) -> None:
        self._app = app
        self._clock = clock
        self._random = random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = new_id(self._clock(), self._random)
        scope["jitgate.request_id"] = request_id
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_MAX:
                raise HTTPException(413)  # FastAPI's own: it takes any other error for a body that is malformed
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", request_id.encode())]
                if received > BODY_MAX:  # the rest of the body is not waited for
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        await self._app(scope, bounded, with_headers)
