"""The log: my own entries, everybody's for admins, and the newest signed checkpoint for anybody."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from jitgate.api.access import Anyone, SignedIn, outside_of
from jitgate.api.schemas import Json
from jitgate.audit.query import parse_query
from jitgate.audit.show import as_json
from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput, NotFound
from jitgate.flow.audit import one_who_waits, search

router = APIRouter(prefix="/v1")

WAIT_MAX = 30  # seconds that a question may wait for its first answer
POLL_S = 0.25


@router.get("/audit")
async def get_audit(request: Request, caller: SignedIn) -> Json:
    """Entries that match the filters, in the order of the log; `wait` seconds for the first one after `after`."""
    words = dict(request.query_params)
    wait = _seconds(words.pop("wait", "0"))
    if not caller.identity.admin:
        words.setdefault("person", caller.identity.person_id)
    query = parse_query(words)
    outside = outside_of(request)
    until = outside.clock() + wait * SECOND
    found = await search(outside, caller, query)
    if wait and not found:
        with one_who_waits(outside, caller):
            while not found and outside.clock() < until and not await request.is_disconnected():
                await asyncio.sleep(POLL_S)
                found = await search(outside, caller, query)
    last = found[-1][0][0] if found else query.after
    return {"events": [as_json(columns[0], leaf, personal) for columns, leaf, personal in found], "next": last}


@router.get("/checkpoint", dependencies=[Anyone], response_class=PlainTextResponse)
async def get_checkpoint(request: Request) -> PlainTextResponse:
    """The newest signed checkpoint: to be kept elsewhere, and held against the log later."""
    text = await outside_of(request).store.read(lambda tx: tx.log.latest_checkpoint())
    if text is None:
        raise NotFound("there is no checkpoint yet", "one is made every few seconds")
    return PlainTextResponse(text)


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3 or int(text) > WAIT_MAX:  # noqa: PLR2004  # digits
        raise BadInput("wait is not a number of seconds", f"0 to {WAIT_MAX}")
    return int(text)
