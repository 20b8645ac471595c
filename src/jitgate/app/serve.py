"""`jitgate serve`: one process with API, port, control socket and timers, until it is told to stop."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

import uvloop

from jitgate import __version__
from jitgate.api.app import make_application
from jitgate.api.routes_public import About
from jitgate.app.acts import acts
from jitgate.app.apart import within_reach
from jitgate.app.control import serve_control
from jitgate.app.gateway import contexts, open_agents, open_tunnels
from jitgate.app.http import CONNECTIONS_MAX, HttpServer
from jitgate.app.notify import notify
from jitgate.app.operate import PATIENCE_S, only_writer
from jitgate.app.ports import check_plain, open_ports
from jitgate.app.settings import Settings
from jitgate.app.telemetry import Telemetry
from jitgate.app.tls import authority_pem, load_certificate, server_context
from jitgate.app.wiring import open_outside
from jitgate.audit.checkpoint import parse_body
from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import DAY, MINUTE, SECOND
from jitgate.flow.audit import publish_checkpoint, reconcile
from jitgate.flow.authorities import watch_held_keys
from jitgate.flow.host_logins import forget_logins, look_for_ends
from jitgate.flow.leavers import look_for_leavers
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.registry import watch_open_sessions
from jitgate.flow.sessions import node_seen
from jitgate.gateway.agents import AGENTS_MAX, Agents
from jitgate.gateway.listen import WAITING_MAX, listen
from jitgate.gateway.tunnel import SESSIONS_MAX
from jitgate.identity.throttle import ACCOUNT, ADDRESS

CHECKPOINT_S = 1.0  # seconds between signed checkpoints of a log that grows
FLOODS_S = 5.0
FORGET_S = 3600.0
ENDS_S = 1.0  # a login on a host ends so long after its grant ran out, and as long as its agent takes
CA_KEYS_S = 2.0  # what the signer found in its folder is in the log after this
KEYS_S = 5.0  # a session whose key was taken out of a Vault ends within this and the age that an entry may have
TLS_S = 3600.0  # a certificate that was renewed, here or by another program, is served after at most this
RECONCILE_S = 60.0  # what a signer that died had signed is in the log after two of these
OTHERS = 256  # descriptors of database, signer, control socket, metrics, what is loaded
DESCRIPTORS = WAITING_MAX + CONNECTIONS_MAX + 2 * SESSIONS_MAX + AGENTS_MAX + OTHERS
SWITCH_S = 0.0005

_LOG = logging.getLogger("jitgate.serve")


@dataclass(frozen=True, slots=True)
class Running:
    """Where the service is reached. Port numbers that the settings left to the system are filled in."""

    address: str
    port: int
    metrics_port: int | None


async def serve(
    settings: Settings, *, on_ready: Callable[[Running], None] | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run until SIGTERM, SIGINT or `stop`. Requests that run then are finished, within `http.GRACE_S`."""
    stop = stop or _stop_on_signals()
    check_plain(settings)
    take_descriptors()
    with only_writer(settings.state, patience_s=PATIENCE_S):
        async with open_outside(settings) as outside:
            telemetry = Telemetry()
            tls = server_context(settings, outside.clock()) if settings.url.startswith("https:") else None
            authority = authority_pem(settings) if tls and settings.self_made_tls else None
            tunnels = await open_tunnels(settings, outside, telemetry)
            agents = await open_agents(settings, outside, tunnels, telemetry)
            carried = [each for each in (tunnels, agents) if each is not None]
            about = About(settings.url, authority, tunnels.health if tunnels else None)
            application = make_application(outside, about)
            http = HttpServer(telemetry.around(application), tls)
            await http.start()
            ports = open_ports(settings, http, tunnels, agents)
            control = await serve_control(settings.state, acts(outside))
            await _record(outside, EventType.SERVICE_STARTED, ("version", __version__), ("node", outside.node))
            metrics_port = telemetry.listen(settings.metrics) if settings.metrics else None
            load = partial(_load_tls, contexts(tls, tunnels, agents), settings, outside, agents)
            async with asyncio.TaskGroup() as tasks:
                running = [
                    *(tasks.create_task(listen(*port)) for port in ports),
                    tasks.create_task(_every(CHECKPOINT_S, "checkpoint", telemetry, lambda: _sign(outside, telemetry))),
                    tasks.create_task(_every(FLOODS_S, "floods", telemetry, lambda: _flush_floods(outside))),
                    tasks.create_task(_every(FORGET_S, "forget", telemetry, lambda: _forget(outside))),
                    tasks.create_task(_every(TLS_S, "tls", telemetry, load)),
                    tasks.create_task(_every(RECONCILE_S, "reconcile", telemetry, lambda: _reconcile(outside))),
                    tasks.create_task(_every(ENDS_S, "ends", telemetry, partial(look_for_ends, outside, []))),
                    tasks.create_task(_every(CA_KEYS_S, "CA keys", telemetry, partial(watch_held_keys, outside, {}))),
                ]
                running += [tasks.create_task(each.watch()) for each in carried]
                if settings.keys.store != "database":
                    sessions = partial(watch_open_sessions, outside)
                    running.append(tasks.create_task(_every(KEYS_S, "keys", telemetry, sessions)))
                if settings.directory.url:
                    look = partial(look_for_leavers, outside)
                    running.append(tasks.create_task(_every(settings.directory.look_s, "directory", telemetry, look)))
                clock = tasks.create_task(http.run())
                bound = ports[0].listener.getsockname()
                gc.freeze()  # what is there now stays: nobody looks through it again and again for garbage
                _LOG.info("serving", extra={"address": bound[0], "port": bound[1], "url": settings.url})
                notify("READY=1")
                if on_ready:
                    on_ready(Running(bound[0], bound[1], metrics_port))
                await stop.wait()
                notify("STOPPING=1")
                _LOG.info("stopping")
                for task in running:
                    task.cancel()
                for port in ports:
                    port.listener.close()
                http.stop()
                for each in carried:
                    await each.stop()
                await control.stop()
                await clock
            await _flush_floods(outside, everything=True)
            await _record(outside, EventType.SERVICE_STOPPED, ("node", outside.node))
            await _sign(outside, telemetry)


async def _every(seconds: float, work: str, telemetry: Telemetry, act: Callable[[], Awaitable[None]]) -> None:
    """Do it now and again until cancelled. A failure is said, counted, tried again: timers never stop the service."""
    while True:
        try:
            await act()
        except Exception as problem:  # noqa: BLE001  # whatever it was, the next round may do
            telemetry.failures.labels(work).inc()
            _LOG.error("timed work failed", extra={"work": work, "problem": str(problem)})
        await asyncio.sleep(seconds)


async def _sign(outside: Outside, telemetry: Telemetry) -> None:
    text = await publish_checkpoint(outside)
    if text is not None:
        telemetry.log_size.set(parse_body((text.partition("\n\n")[0] + "\n").encode()).size)
        telemetry.checkpoint_time.set(outside.clock() / SECOND)


async def _flush_floods(outside: Outside, *, everything: bool = False) -> None:
    due = outside.floods.take_due(outside.clock(), everything=everything)
    if due:

        def job(tx: Tx) -> None:
            for event in due:
                tx.log.append(event)

        await outside.store.write(job)


async def _forget(outside: Outside) -> None:
    before = outside.clock() - max(ACCOUNT.forget, ADDRESS.forget)
    await outside.store.write(lambda tx: tx.throttles.forget(before))
    await outside.store.write(lambda tx: tx.device_sign_ins.forget(outside.clock()))
    await forget_logins(outside)
    await outside.store.write(lambda tx: tx.vault.forget(outside.clock() - DAY))


async def _load_tls(
    serving: Iterable[ssl.SSLContext], settings: Settings, outside: Outside, agents: Agents | None
) -> None:
    for each in serving:
        load_certificate(each, settings, outside.clock())
    if agents:
        agents.learn_certificate()


async def _reconcile(outside: Outside) -> None:
    await node_seen(outside, socket.gethostname())
    if found := await reconcile(outside, settled=MINUTE):
        _LOG.warning("certificates were signed that never left", extra={"count": found})


async def _record(outside: Outside, kind: EventType, *detail: tuple[str, str]) -> None:
    event = Event(kind, "done", outside.clock(), DEFAULT_REALM, Actor("service"), detail=detail)
    await outside.store.write(lambda tx: tx.log.append(event))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def take_descriptors() -> None:
    """Most systems start a program with 1024, fewer than the connections it is to hold: silent ones would be all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < DESCRIPTORS:
        hint = "fewer connections at once; more: ulimit -Hn, or LimitNOFILE= of systemd's unit"
        _LOG.warning("few files may be open", extra={"limit": wanted, "wanted": DESCRIPTORS, "hint": hint})


def run(settings: Settings, on_ready: Callable[[Running], None] | None = None) -> None:
    async def program() -> None:
        await serve(settings, on_ready=on_ready)

    if reached := within_reach(settings):
        hint = "a signer apart keeps keys from this user only where it cannot read them: docs/custody.md"
        _LOG.warning("this user can read the keys of the signer", extra={"files": reached, "hint": hint})
    # The loop hands work to the writer and back: with the default of 5 ms each way would wait for the other's slice.
    sys.setswitchinterval(SWITCH_S)

    uvloop.run(program())
