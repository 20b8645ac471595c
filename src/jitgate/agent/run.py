"""`jitgate agent run`: the program around the agent. First the host is brought to what is held, then the service is
dialled, at two gateways when there are two; every few seconds it is looked after."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from jitgate import __version__
from jitgate.agent import durable, exclusive, held, hostkey, link, pam, pins, tls
from jitgate.agent.agent import Agent
from jitgate.agent.dialback import Dialler, parse_at
from jitgate.agent.link import Backoff, Link
from jitgate.agent.logins import Logins
from jitgate.agent.pins import Gateway
from jitgate.agent.place import Place
from jitgate.agent.revoked import other_lists
from jitgate.agent.watch import Watch, changed_since, journal_program
from jitgate.core.clock import Clock, rfc3339, system_clock
from jitgate.core.errors import Error
from jitgate.core.ids import new_id

GATEWAYS: Final = 2  # connections at a time: one is enough, the second is for when the first's gateway goes
LOOK_S: Final = 2.0
THREADS: Final = 4  # for what blocks, names that are looked up among it; each takes memory of its own
_INSTALL_AGAIN: Final = 30  # looks between two tries to install what could not be
STATUS: Final = "status.json"
_LOG: Final = logging.getLogger("jitgate.agent")


def run(place: Place, clock: Clock = system_clock) -> int:
    """Until SIGTERM; the exit status. `NotFound` when this host has not joined."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    told = pins.read(place.config)
    durable.make_folder(place.state)
    known = held.load(told, place.state)
    agent = Agent(known, hostkey.load(told.host_key), clock, place.config.exists)
    for name, words in known.troubles.items():
        agent.trouble("state", f"{name}: {words}")
    exclusive.undo_when_due(told.sshd, place.state, clock())
    _mend_pam(agent, place)
    agent.put_revoked()
    agent.install()
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_run(agent, place))
    _LOG.info("stopped")
    return 0


async def _run(agent: Agent, place: Place) -> None:
    loop, told = asyncio.get_running_loop(), agent.held.pins
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    task = asyncio.current_task()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, task.cancel if task else loop.stop)

    async def dialled(gateway: Gateway) -> Link:
        authority = await asyncio.to_thread(tls.authority_of, told.url, told.tls_pin, place.authority)
        return await link.open_link(gateway, told, agent.key, authority, agent.have(), agent.clock)

    authority = partial(tls.authority_of, told.url, told.tls_pin, place.authority)
    try:
        if told.sshd_at:
            agent.on_dial = Dialler(parse_at(told.sshd_at), authority, agent.clock, lambda: agent.offset).dial_back
    except Error as error:  # the machine has another address since
        agent.trouble("dialback", error.what)

    async with asyncio.TaskGroup() as group:
        for gateway in told.gateways[:GATEWAYS]:
            group.create_task(link.keep(partial(dialled, gateway), agent.serve, gateway, agent.clock, Backoff()))
        group.create_task(_look_after(agent, place))
        group.create_task(_watch(agent, place).run())
        tell_systemd("READY=1")


def _watch(agent: Agent, place: Place) -> Watch:
    ids, changed = partial(new_id, random=os.urandom), partial(changed_since, agent.held.pins.sshd)
    logins = Logins(agent.held, place.state, agent.clock, ids, agent.report, changed)
    watch = Watch(logins, place.state, journal_program(), agent.send_reports)
    agent.on_bundle.append(watch.wake)
    return watch


async def _look_after(agent: Agent, place: Place) -> None:
    """What has to be seen without the service: lists that changed, tries to do again, time that passed."""
    seen: object = None
    said = ""
    count = 0
    settings = _stamp(place.config)
    while True:
        count += 1
        await asyncio.to_thread(_mend_pam, agent, place)
        if _stamp(place.config) != settings:
            _LOG.info("%s changed or went: systemd starts the agent again while it is there", place.config)
            signal.raise_signal(signal.SIGTERM)
        try:
            now = await asyncio.to_thread(_lists, agent)
            if now != seen or "krl" in agent.problems:
                await agent.refresh()
                seen = await asyncio.to_thread(_lists, agent)
            if "install" in agent.problems and count % _INSTALL_AGAIN == 0:
                await agent.refresh(install=True)
            await asyncio.to_thread(exclusive.undo_when_due, agent.held.pins.sshd, place.state, agent.clock())
        except (Error, OSError) as error:
            agent.trouble("look", str(error))
        else:
            agent.well("look")
        await agent.tick()
        if (status := describe(agent)) != said:
            with contextlib.suppress(Error):
                durable.put(place.state / STATUS, status.encode(), durable.PRIVATE)
            said = status
        tell_systemd("WATCHDOG=1")
        await asyncio.sleep(LOOK_S)


def _mend_pam(agent: Agent, place: Place) -> None:
    """Never off: a line of ours that is not as it has to be may make a user root."""
    try:
        said = pam.mend(place.state)
    except (Error, OSError) as error:
        said = str(error)
    if said:
        agent.trouble("pam", said)
    else:
        agent.well("pam")


def _lists(agent: Agent) -> object:
    """Which files the list in force is made of, as they are now; a change of any is a reason to make it again."""
    sshd = agent.held.pins.sshd
    paths = [sshd.folder / "krl", *other_lists(sshd.settings())]
    return [(str(path), _stamp(path)) for path in paths]


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def describe(agent: Agent) -> str:
    """The status file: what `jitgate agent status` shows."""
    known, have = agent.held, agent.have()
    certificate = known.certificate
    return json.dumps(
        {
            "pid": os.getpid(),
            "version": __version__,
            "connected": sorted(f"{each.address}:{each.port}" for each in agent.links),
            "trust": have.trust,
            "bundle": have.bundle,
            "applied_at": rfc3339(agent.applied_at) if agent.applied_at else "",
            "bundle_expires_at": rfc3339(known.bundle.expires_at) if known.bundle else "",
            "certificate_ends_at": rfc3339(certificate.body.valid_before * 1_000_000) if certificate else "",
            "clock_offset_s": round(agent.offset / 1_000_000),
            "problems": [{"code": each.code, "detail": each.detail} for each in agent.problems.values()],
        }
    )


def tell_systemd(words: str) -> None:
    """sd_notify(3), where systemd started us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(words.encode())
