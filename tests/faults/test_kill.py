"""SIGKILL of the service or of its signer at any moment under load.

Whatever is outside is in the log: clients remember every certificate they got. Nothing is in the log as issued that the
signer did not sign, no serial comes twice, and what was signed and never left is told as that.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import pytest
from tests.client import Connection, Signer
from tests.service import ROLES, Service

from jitgate.adapters.db.store import open_read_only
from jitgate.app.verify import verify_installation
from jitgate.audit.query import Query
from jitgate.audit.show import as_json
from jitgate.ssh.cert import parse_certificate_line

CLIENTS = 4
LOAD_S = (0.0, 0.25)  # a kill comes so long after the first certificate of a run


@dataclass
class Load:
    """Clients that ask for certificates as fast as they are answered, until they are told to stop."""

    service: Service
    connections: list[Connection]
    grants: list[str]
    received: list[str] = field(default_factory=list)
    """Every certificate that reached a client."""
    stopping: threading.Event = field(default_factory=threading.Event)
    got_one: threading.Event = field(default_factory=threading.Event)
    crashes: list[BaseException] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.stopping.clear()
        pairs = zip(self.connections, self.grants, strict=True)
        self.threads = [threading.Thread(target=self._client, args=pair) for pair in pairs]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        assert not self.crashes, self.crashes

    def wait_for_one(self) -> None:
        self.got_one.clear()
        assert self.got_one.wait(30), self.service.words()[-2000:]

    def _client(self, connection: Connection, grant: str) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    answer = connection.post("/v1/certificates", {"grant": grant, "host": "web1"})
                except (OSError, HTTPException):
                    time.sleep(0.01)  # the service is down: as often as a person's client would not
                    continue
                if answer.status == 201:
                    self.received.append(answer.json["certificate"])
                    self.got_one.set()
                else:
                    assert (answer.status, answer.code) == (503, "unreachable"), answer
        except BaseException as error:  # shown by the test
            self.crashes.append(error)
            raise


@pytest.fixture
def load(install: Callable[..., Service]) -> Iterator[Load]:
    service = install()
    service.start()
    service.apply(ROLES)
    service.add_host("web1")
    first = service.enter("alice", "engineers")
    first.timeout = 10
    mine = first.signer
    others = [Signer(service.url, mine.key, token=mine.token, person_id=mine.person_id) for _ in range(CLIENTS - 1)]
    connections = [first, *(service.connect(signer) for signer in others)]
    grants = [
        first.post("/v1/grants", {"host": "web1", "minutes": 30 + at}).json["grant"]["id"] for at in range(CLIENTS)
    ]
    opened = Load(service, connections, grants)
    opened.start()
    try:
        yield opened
    finally:
        opened.stop()


def logged(service: Service) -> list[dict[str, Any]]:
    """Every entry of the log, read from the file."""
    found: list[dict[str, Any]] = []
    with open_read_only(service.settings.database_url) as tx:
        while rows := tx.log.search(Query(after=len(found) - 1, limit=1000)):
            found += [as_json(columns[0], leaf, personal) for columns, leaf, personal in rows]
    assert [entry["index"] for entry in found] == list(range(len(found)))
    return found


def check(load: Load) -> None:
    """The service stands still; everything that is promised holds."""
    service = load.service
    report = verify_installation(service.settings, [])
    assert report.ok, report.findings
    assert report.in_flight == 0
    told = logged(service)
    burnt = {event["serial"] for event in told if event["type"] == "certificate.unreleased"}
    events = [event for event in told if event["serial"] in burnt or (event["serial"] and event["grant"])]
    issued = {event["serial"]: event for event in events if event["type"] == "certificate.issued"}
    assert len(issued) + len(burnt) == len(events), "a serial comes twice"
    bodies = [parse_certificate_line(line).body for line in load.received]
    assert len({body.serial for body in bodies}) == len(bodies), "a serial was given out twice"
    for body in bodies:
        event = issued[str(body.serial)]  # every certificate that is outside is in the log
        assert event["key_id"] == body.key_id
        assert event["detail"]["fingerprint"] == body.key.fingerprint
    assert len(bodies) > 0


@pytest.mark.parametrize("part", range(3))
def test_the_service_is_killed(load: Load, part: int):
    """Again and again, under load: after each start all goes on, and at the end all is accounted for."""
    chance = random.Random(f"service {part} {os.environ.get('JITGATE_SEED', '')}")
    for _ in range(17):
        load.wait_for_one()
        time.sleep(chance.uniform(*LOAD_S))
        load.service.kill()
        load.service.start()
    load.wait_for_one()
    load.stop()
    assert load.service.stop() == 0
    check(load)


@pytest.mark.parametrize("part", range(2))
def test_the_signer_is_killed(load: Load, part: int):
    """The service starts another one; callers are told, or served by that one."""
    chance = random.Random(f"signer {part} {os.environ.get('JITGATE_SEED', '')}")
    for _ in range(20):
        load.wait_for_one()
        time.sleep(chance.uniform(*LOAD_S))
        before = load.service.signer_pid()
        if before:
            os.kill(before, signal.SIGKILL)
    load.wait_for_one()
    load.stop()
    service = load.service
    assert service.stop() == 0
    service.start()  # what the signers that died had signed is looked for
    assert service.stop() == 0
    check(load)


def test_both_are_killed_and_the_list_is_torn(load: Load):
    """As a power cut leaves it: neither finished its line."""
    chance = random.Random(f"both {os.environ.get('JITGATE_SEED', '')}")
    service = load.service
    for _ in range(10):
        load.wait_for_one()
        time.sleep(chance.uniform(*LOAD_S))
        signer = service.signer_pid()
        os.kill(service.pid, signal.SIGSTOP)
        if signer:
            os.kill(signer, signal.SIGKILL)
        service.kill()
        with (service.state / "signed/signed.list").open("ab") as file:
            file.write(b'{"time":17000000')
        service.start()
    load.wait_for_one()
    load.stop()
    assert service.stop() == 0
    check(load)
