"""Errors as RFC 9457 problems: what happened, what to do, and the number under which the log knows it."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jitgate.api.access import outside_of, source_of
from jitgate.core.errors import Error
from jitgate.core.outcome import Check
from jitgate.core.text import shown
from jitgate.flow.caller import record_too_large

_LOG = logging.getLogger("jitgate.api")
_HTTP = {
    404: ("not_found", "no such address", "see /openapi.json"),
    405: ("method_not_allowed", "not with this method", "see /openapi.json"),
    413: ("too_large", "the request is too large", "at most 64 KiB"),
}


def check_json(check: Check) -> dict[str, str]:
    return {"name": check.name, "outcome": check.outcome, "why": check.why, "hint": check.hint}


def problem(
    request: Request, status: int, code: str, what: str, hint: str = "", checks: tuple[Check, ...] = ()
) -> JSONResponse:
    content: dict[str, Any] = {
        "type": f"urn:jitgate:problem:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": what,
        "hint": hint,
        "request_id": request.scope.get("jitgate.request_id", ""),
    }
    if checks:
        content["checks"] = [check_json(check) for check in checks]
    return JSONResponse(content, status, media_type="application/problem+json")


def add_problem_handlers(app: FastAPI) -> None:
    for kind in (Error, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, problem_of)


async def problem_of(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in `error`. One that is none of ours is logged: it is a mistake of ours."""
    match error:
        case Error():
            return _on_error(request, error)
        case RequestValidationError():
            return _on_invalid(request, error)
        case HTTPException():
            if error.status_code == 413 and "route" in request.scope:  # noqa: PLR2004  # HTTP
                outside, source = outside_of(request), source_of(request)
                await record_too_large(outside, source, request.method, request.scope["route"].path)
            return _on_http(request, error)
    return _on_crash(request, error)


def _on_error(request: Request, error: Error) -> Response:
    response = problem(request, error.http_status, error.code, error.what, error.hint, error.checks)
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        response.headers["Retry-After"] = str(-(-retry_after // 1_000_000))
    if error.http_status == 401:  # noqa: PLR2004  # RFC 9110 15.5.2 asks for the challenge
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    # Only where and what kind: the value itself may be a password. Where is a stranger's word for an unknown field.
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem(request, 400, "bad_input", f"{shown(where)[1:-1]}: {first['msg'].lower()}", "see /openapi.json")


def _on_http(request: Request, error: HTTPException) -> Response:
    code, what, hint = _HTTP.get(error.status_code, ("bad_input", "the request is wrong", "see /openapi.json"))
    return problem(request, error.status_code, code, what, hint)


def _on_crash(request: Request, error: Exception) -> Response:
    _LOG.error("a request crashed", exc_info=error, extra={"request_id": request.scope.get("jitgate.request_id")})
    return problem(request, 500, "internal", "the service made a mistake", "tell its owner the request id")
