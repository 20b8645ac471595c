"""`POST /v1/certificates` without FastAPI's own machinery around it, which costs more than the act itself.

The route stays declared in `routes_access`, for the description and for the test over all routes; what it does is
called here. What it declares is done by hand: a session token in force, then a proof, then a body that fits. A test
sends the same requests both ways.
"""

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from jitgate.api.access import outside_of, proved, signed_in
from jitgate.api.problems import problem_of
from jitgate.api.routes_access import certificate
from jitgate.api.schemas import CertificateRequest

PATH = "/v1/certificates"


class _Route:
    path = PATH  # what events and metrics call it


_ROUTE = _Route()


class _Request(Request):
    """With its headers as a dictionary, the first of each name, and its body without a generator."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        self._headers = headers  # type: ignore[assignment]  # as much of it as is asked for
        self._read: bytes | None = None

    async def body(self) -> bytes:
        if self._read is None:
            parts, more = [], True
            while more:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
                more = message.get("more_body", False)
            self._read = b"".join(parts)
        return self._read


class Direct:
    """The application; one request of it is answered before it gets there."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, _ROUTE
        request = _Request(scope, receive)
        try:
            answer = await _answer(request)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is answered and nothing more
            response = await problem_of(request, error)
            await response(scope, receive, send)
            return
        headers = [(b"content-length", str(len(answer)).encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _answer(request: Request) -> bytes:
    try:
        caller = await proved(request, await signed_in(request))
        asked = _asked(request.headers.get("content-type", ""), await request.body())
    except ClientDisconnect:
        raise HTTPException(400) from None
    return await certificate(outside_of(request), caller, asked)


def _asked(content_type: str, body: bytes) -> CertificateRequest:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        body = b"null"  # no object, as FastAPI has it
    try:
        return CertificateRequest.model_validate_json(body)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_input=False)]
        raise RequestValidationError(found) from None
