"""A thousand agents at one service: how soon a revocation is acknowledged by all and sessions are ended meanwhile, what
a connection costs, and what happens to others when the service was killed and all come back."""

import json
import resource
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.bench.issue import start
from tests.bench.rows import Row, say
from tests.bench.start import resident
from tests.client import Connection
from tests.service import Nursery, Service, new_service
from tests.tunnel import echo, enter, host, opened, ticket_of

from jitgate.adapters.signers.files import load_key
from jitgate.app.installation import ROOT_KEY
from jitgate.app.tls import authority_pem
from jitgate.core.clock import SECOND, system_clock
from jitgate.ssh.private import dump_private_key, generate_ed25519

AGENTS = 1000
ROUNDS = 5
SESSIONS = 20  # of each person who is revoked
PATIENCE_S = 180.0
TARGET_S = 2.0


def agents() -> Iterator[Row]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as stack:
        nursery = Nursery()
        stack.callback(nursery.close)
        service = stack.enter_context(new_service(nursery, tls=True))
        start(service, stack.enter_context(host(echo)))
        olga = enter(service, "olga", "engineers", admin=True)
        told = _hosts(service)
        before = resident(service.pid)
        stack.enter_context(_fleet(service, told))
        _wait(service, lambda: _current(service) == AGENTS)
        time.sleep(2)
        each = (resident(service.pid) - before) / AGENTS * 1024
        took = sorted(took for _ in range(ROUNDS) for took in _revoke(service, olga))
        name = f"to {AGENTS} agents"
        yield Row("revocation", "s, median", took[len(took) // 2], None, name, f"<= {TARGET_S}")
        yield Row("revocation", "s, 99 %", took[len(took) * 99 // 100], None, name, f"<= {TARGET_S}")
        yield Row("memory", "KiB an agent", each, None, "", "<= 100")
        ends = sorted(took for number in range(ROUNDS) for took in _end(service, olga, f"leaver{number}"))
        name = f"{SESSIONS} sessions ended"
        yield Row("revocation", "s, median", ends[len(ends) // 2], None, name, f"<= {TARGET_S}")
        yield Row("revocation", "s, 99 %", ends[len(ends) * 99 // 100], None, name, f"<= {TARGET_S}")
        yield from _storm(service, olga)


def _hosts(service: Service) -> Path:
    hosts = []
    for number in range(AGENTS):
        key, name = generate_ed25519(), f"h{number}"
        more: dict[str, Any] = {"labels": {"tier": "web"}, "address": "127.0.0.1", "port": 22, "logins": ["ubuntu"]}
        service.act("host add", name=name, host_key=key.public.line(), **more)
        hosts.append({"name": name, "key": dump_private_key(key).reveal().decode()})
    with closing(_database(service)) as rows:
        ids = dict(rows.execute("SELECT name, id FROM host").fetchall())
        (installation,) = rows.execute("SELECT value FROM meta WHERE name = 'installation'").fetchone()
    told = {
        "url": service.url,
        "port": str(service.port),
        "installation": installation,
        "root": load_key(service.settings.keys_folder, ROOT_KEY).public.line(),
        "authority": authority_pem(service.settings).decode(),
        "hosts": json.dumps([host | {"id": ids[host["name"]]} for host in hosts]),
    }
    path = service.folder / "fleet.json"
    path.write_text(json.dumps(told))
    return path


@contextmanager
def _fleet(service: Service, told: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.fleet", str(told)])
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        del service


def _revoke(service: Service, olga: Connection) -> list[float]:
    """Seconds until each agent's acknowledgement was written down, by the service's own clock."""
    began = system_clock()
    answer = olga.post("/v1/revocations", {"what": "key", "subject": generate_ed25519().public.line()})
    assert answer.status == 201, answer
    _wait(service, lambda: _current(service) == AGENTS)
    with closing(_database(service)) as rows:
        return [(row[0] - began) / SECOND for row in rows.execute("SELECT bundle_at FROM host_state")]


def _end(service: Service, olga: Connection, name: str) -> list[float]:
    """Seconds from the request that revokes a person until each of their sessions closes; agents are told too."""
    person = enter(service, name, "engineers")
    waiting = [opened(service, ticket_of(person)).socket for _ in range(SESSIONS)]
    person.close()
    for each in waiting:
        each.recv(64)  # what the host says first: the session carries
    poll, by_number = select.poll(), {each.fileno(): each for each in waiting}
    for number in by_number:
        poll.register(number, select.POLLIN)
    took: list[float] = []
    began = time.monotonic()
    revoking = threading.Thread(target=_revoke_person, args=(olga, name))
    revoking.start()
    while by_number:
        found = poll.poll(PATIENCE_S * 1000)
        assert found, f"{len(by_number)} sessions of {name} are still open"
        for number, _ in found:
            assert _is_over(by_number[number])
            took.append(time.monotonic() - began)
            poll.unregister(number)
            by_number.pop(number).close()
    revoking.join()
    _wait(service, lambda: _current(service) == AGENTS)
    return took


def _is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(64) == b""
    except ConnectionError:
        return True


def _revoke_person(olga: Connection, name: str) -> None:
    answer = olga.post("/v1/revocations", {"what": "person", "subject": name})
    assert answer.status == 201, answer


def _storm(service: Service, olga: Connection) -> Iterator[Row]:
    """The service is killed; everybody dials again. `others`: the longest that somebody else waited meanwhile."""
    olga.close()
    service.kill()
    time.sleep(5)
    service.start()
    ready = time.monotonic()
    waits: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            began = time.monotonic()
            assert olga.get("/v1/me").status == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        _wait(service, lambda: _current(service) == AGENTS)
    finally:
        took = time.monotonic() - ready
        done.set()
        asking.join()
    yield Row("storm", "s to all back", took, None, f"{AGENTS} agents, killed", "<= 90")
    yield Row("storm", "s, others, 99 %", sorted(waits)[len(waits) * 99 // 100], None, "GET /v1/me meanwhile", "<= 0.5")


def _current(service: Service) -> int:
    """Agents that are connected and know of everything."""
    with closing(_database(service)) as rows:
        wanted = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'state_counter'"
        (state,) = rows.execute(wanted).fetchone() or (0,)
        query = "SELECT count(*) FROM host_state WHERE connected_at IS NOT NULL AND bundle_counter >= ?"
        (count,) = rows.execute(query, (state,)).fetchone()
    return int(count)


def _database(service: Service) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{service.state / 'jitgate.db'}?mode=ro", uri=True)


def _wait(service: Service, look: Any) -> None:
    until = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > until:
            say(f"{_current(service)} of {AGENTS} agents know of everything\n{service.words()[-2000:]}")
            raise TimeoutError
        time.sleep(0.05)
