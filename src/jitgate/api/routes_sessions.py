"""Connections that the gateway carries: listing them, and ending one."""

from fastapi import APIRouter, Request

from jitgate.api.access import Proved, SignedIn, outside_of
from jitgate.api.schemas import EndSessionRequest, Json, session_json
from jitgate.flow import sessions

router = APIRouter(prefix="/v1")


@router.get("/sessions")
async def get_sessions(request: Request, caller: SignedIn, *, all: bool = False, everybody: bool = False) -> Json:  # noqa: A002  # the query's word
    """My open sessions; with `all` the ended ones too, with `everybody` (admins) other people's."""
    found = await sessions.list_sessions(outside_of(request), caller, everybody=everybody, ended=all)
    return {"sessions": [session_json(session) for session in found]}


@router.post("/sessions/{session_id}/end")
async def post_session_end(request: Request, session_id: str, body: EndSessionRequest, caller: Proved) -> Json:
    """Have a session ended; whoever carries it does so within a second."""
    ended = await sessions.end_session(outside_of(request), caller, session_id, body.reason)
    return {"session": session_json(ended)}
