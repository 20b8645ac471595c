"""The ASGI application: routes, problems, limits."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from jitgate import __version__
from jitgate.api import (
    routes_access,
    routes_audit,
    routes_hosts,
    routes_identity,
    routes_providers,
    routes_public,
    routes_revocations,
    routes_sessions,
)
from jitgate.api.direct import Direct
from jitgate.api.limits import Limits
from jitgate.api.problems import add_problem_handlers
from jitgate.api.routes_public import About
from jitgate.flow.outside import Outside


def make_api() -> FastAPI:
    """The routes, without anything behind them: what `/openapi.json` describes."""
    # FastAPI's own documentation pages load scripts from elsewhere; /openapi.json is enough.
    app = FastAPI(title="jitgate", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    for routes in (
        routes_public,
        routes_identity,
        routes_providers,
        routes_access,
        routes_hosts,
        routes_sessions,
        routes_revocations,
        routes_audit,
    ):
        app.include_router(routes.router)
    add_problem_handlers(app)
    return app


def make_application(outside: Outside, about: About) -> ASGIApp:
    app = make_api()
    app.state.outside = outside
    app.state.about = about
    if outside.vault.on:
        from jitgate.api.vault.surface import VaultSurface  # noqa: PLC0415  # most installations have none

        app.mount("/vault", VaultSurface(outside))
    return Limits(Direct(app), outside.clock, outside.random)
