"""From an HTTP request to an act and back, in Vault's words: one application below `/vault`.

A path is taken only as it came: no percent sign, no empty, `.` or `..` segment, nothing that could be read in two ways.
Errors are `{"errors": [...]}`. A namespace or a wrapped answer, on which a client may rely, is refused.
"""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from jitgate.api.access import source_of
from jitgate.api.vault.routes import Route, find, paths_of
from jitgate.core.errors import BadInput, Denied, Error, NotFound, NotSignedIn, TooMany
from jitgate.core.secret import Secret
from jitgate.flow.outside import Outside
from jitgate.flow.vault import devices
from jitgate.flow.vault.asking import Answer, Asked, Holder, Operation, let_in, record_refusal, who
from jitgate.flow.vault.mounts import mount_at
from jitgate.identity.vault import MountKind

PREFIX: Final = "/vault/v1/"
_LOG = logging.getLogger("jitgate.vault")
_PATH: Final = re.compile(r"[A-Za-z0-9._@+-]{1,160}(?:/[A-Za-z0-9._@+-]{1,160}){0,12}/?")
_METHODS: Final[Mapping[str, Operation]] = {
    "GET": "read",
    "HEAD": "read",
    "LIST": "list",
    "POST": "write",
    "PUT": "write",
    "DELETE": "delete",
}
_REFUSED: Final = ("x-vault-namespace", "x-vault-wrap-ttl", "x-vault-mfa")


class VaultSurface:
    """An ASGI application; `outside` as every act is handed it."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is answered and nothing more
            response = _crashed(error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        asked: Asked | None = None
        route: Route | None = None
        holder: Holder | None = None
        try:
            asked = _asked(request, await _body(request))
            route, asked = await self._routed(asked)
            if route.access != "anyone":
                asked, holder = await let_in(self._outside, asked, by_policy=route.access == "policy")
            if route.told:
                await devices.check(self._outside)
            answer = await route.act(self._outside, asked)
            if route.told:
                await devices.tell(self._outside, asked, holder)
        except ClientDisconnect:
            return Response(status_code=400)
        except Error as error:
            if asked is not None:
                await self._record(asked, route, holder, error)
            return _refused(error)
        return _said(answer, str(request.scope.get("jitgate.request_id", "")))

    async def _record(self, asked: Asked, route: Route | None, holder: Holder | None, error: Error) -> None:
        """A no in the log, unless its route did that, and to the audit devices."""
        way_in = route is not None and route.way_in
        refused = isinstance(error, NotSignedIn | Denied | TooMany) or (way_in and isinstance(error, BadInput))
        first = holder is not None and route is not None and route.records
        if refused and not first:
            first = await record_refusal(self._outside, asked, error)
        if route is not None and not route.told:
            return
        if holder is None and not way_in:
            holder = await who(self._outside, asked)
        with suppress(Error):  # the answer is no already
            await devices.tell(self._outside, asked, holder, error=error, first=first)

    async def _routed(self, asked: Asked) -> tuple[Route, Asked]:
        """Raises `NotSignedIn` for a stranger at a path that is none: what is mounted where is not for them."""
        under, below = "", asked.path
        kind: MountKind | None = None
        found = None
        if not asked.path.startswith("sys/") and not asked.path.startswith("auth/token/"):
            kind = "auth" if asked.path.startswith("auth/") else "secret"
            place = asked.path.removeprefix("auth/")
            there = await self._outside.store.read(lambda tx: mount_at(tx, kind or "secret", place))
            if there is not None:
                asked, under, below = replace(asked, mount=there[0]), there[0].type, there[1]
        if under or not kind:
            found = find(asked.operation, under, below)
        if found is None:
            await let_in(self._outside, asked, by_policy=False)
            if (under or not kind) and paths_of(under, below):
                raise BadInput("unsupported operation", code="vault_operation")
            raise NotFound(f'no handler for route "{asked.path}". route entry not found.')
        route, name = found
        mount_id = asked.mount.id if asked.mount else ""
        new = (lambda tx: tx.vault.entry(mount_id, route.entry, name) is None) if route.entry else asked.new
        return route, replace(asked, name=name, sudo=route.sudo, new=new)


async def _body(request: Request) -> dict[str, object]:
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        found = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadInput("failed to parse JSON input") from None
    if found is None:  # what the client sends with -force
        return {}
    if not isinstance(found, dict):
        raise BadInput("failed to parse JSON input", "an object")
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError
    return dict(pairs)


def _asked(request: Request, data: dict[str, object]) -> Asked:
    raw = request.scope["raw_path"].decode("latin-1")
    path = raw.removeprefix(PREFIX)
    parts = path.removesuffix("/").split("/")
    if not raw.startswith(PREFIX) or not _PATH.fullmatch(path) or any(part in ("", ".", "..") for part in parts):
        raise NotFound("no handler for this path", "plain segments, as they are written")
    if wanted := [name for name in _REFUSED if request.headers.get(name)]:
        raise BadInput(f"{wanted[0]} is not taken", "there are no namespaces and no wrapped answers here")
    operation = _METHODS.get(request.method)
    if operation is None:
        raise BadInput("unsupported operation", code="vault_operation")
    if operation == "read" and request.query_params.get("list") == "true":
        operation = "list"
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    token = request.headers.get("x-vault-token") or (bearer if scheme.lower() == "bearer" else "")
    return Asked(operation, path.removesuffix("/"), data, source_of(request), Secret(token))


def _said(answer: Answer, request_id: str) -> Response:
    if isinstance(answer.bare, str):
        return PlainTextResponse(answer.bare)
    if answer.bare is not None:
        return JSONResponse(dict(answer.bare), answer.status)
    if answer.status == 204:  # noqa: PLR2004  # HTTP
        return Response(status_code=204)
    envelope = {
        "request_id": request_id,
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": None if answer.data is None else dict(answer.data),
        "wrap_info": None,
        "warnings": list(answer.warnings) or None,
        "auth": None if answer.auth is None else dict(answer.auth),
    }
    beside = dict(answer.data) if answer.beside and answer.data is not None else {}
    return JSONResponse(beside | envelope, answer.status)


def _refused(error: Error) -> Response:
    status = error.http_status
    if isinstance(error, NotSignedIn) or error.code in ("vault_policy", "vault_realm_left", "person_disabled"):
        status = 403
    elif isinstance(error, Denied):
        status = 400  # as Vault: what was asked is wrong, not who asks
    elif error.code == "vault_operation":
        status = 405
    elif error.code == "vault_audit":
        status = 500  # as Vault: nothing is done unaudited
    words = f"{error.what}; {error.hint}" if error.hint and error.what else error.what
    response = JSONResponse({"errors": [words] if words else []}, status)
    if (retry_after := getattr(error, "retry_after", None)) is not None:
        response.headers["Retry-After"] = str(-(-retry_after // 1_000_000))
    return response


def _crashed(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"errors": ["the request is too large"]}, error.status_code)
    _LOG.error("a request crashed", exc_info=error)
    return JSONResponse({"errors": ["internal error"]}, 500)
