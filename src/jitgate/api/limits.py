"""Around every request: a request id, a bound on its body, and headers that every answer carries."""

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
_TOO_LARGE = (
    b'{"type":"urn:jitgate:problem:too_large","title":"too large","status":413,"code":"too_large",'
    b'"detail":"the request is too large","hint":"at most 64 KiB","request_id":""}'
)


class _TooLargeError(Exception):
    pass


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
        started = False

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_MAX:
                raise _TooLargeError
            return message

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, bounded, with_headers)
        except _TooLargeError:
            if not started:
                headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
                await with_headers({"type": "http.response.start", "status": 413, "headers": headers})
                await send({"type": "http.response.body", "body": _TOO_LARGE})
