"""Metrics, on a listener of their own. Names: prefix `jitgate_`, base units, no person or host in a label.

docs/metrics.md describes each; a test fails on one that is not there.
"""

import time
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jitgate import __version__
from jitgate.app.settings import split_address

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Telemetry:
    """The service's own registry, so that two services in one process (tests) do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "jitgate_http_requests", "Answered requests", ["method", "route", "status"], registry=self.registry
        )
        self.duration = Histogram(
            "jitgate_http_request_duration_seconds",
            "Time to answer",
            ["route"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.log_size = Gauge(
            "jitgate_log_entries", "Entries that the newest checkpoint covers", registry=self.registry
        )
        self.checkpoint_time = Gauge(
            "jitgate_checkpoint_timestamp_seconds", "When the newest checkpoint was signed", registry=self.registry
        )
        self.failures = Counter(
            "jitgate_timer_failures", "Timed work that failed and is tried again", ["work"], registry=self.registry
        )
        self.sessions = Gauge("jitgate_sessions_open", "Connections that are carried now", registry=self.registry)
        self.sessions_opened = Counter("jitgate_sessions_opened", "Connections let through", registry=self.registry)
        self.sessions_refused = Counter(
            "jitgate_sessions_refused", "Connections not let through", ["code"], registry=self.registry
        )
        self.agents = Gauge("jitgate_agents_connected", "Hosts whose agents are connected", registry=self.registry)
        self.tunnel_bytes = Counter("jitgate_tunnel_bytes", "Carried", ["direction"], registry=self.registry)
        Info("jitgate_build", "The program", registry=self.registry).info({"version": __version__})

    def opened(self) -> None:
        self.sessions.inc()
        self.sessions_opened.inc()

    def ended(self) -> None:
        self.sessions.dec()

    def refused(self, code: str) -> None:
        self.sessions_refused.labels(code).inc()

    def moved(self, up: int, down: int) -> None:
        self.tunnel_bytes.labels("up").inc(up)
        self.tunnel_bytes.labels("down").inc(down)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with each answer counted under its route's pattern; an unknown address is one route."""

        counted, timed = cache(self.requests.labels), cache(self.duration.labels)

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began, status = time.monotonic(), "500"

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            try:
                await app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                counted(scope["method"], route, status).inc()
                timed(route).observe(time.monotonic() - began)

        return measured

    def listen(self, address: str) -> int:
        """Serve the registry at `HOST:PORT` on a thread of its own; the port."""
        host, port = split_address(address)
        server, _ = start_http_server(port, host, self.registry)
        return int(server.server_port)
