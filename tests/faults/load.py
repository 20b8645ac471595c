"""What tests of crashes share: clients that ask for certificates all the while, and the check that all is in order.

Whatever is outside is in the log: clients remember every certificate they got. Nothing is in the log as issued that no
signer signed, no serial comes twice, and what was signed and never left is told as that.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from tests.client import Connection, Signer
from tests.service import ROLES, Service

from jitgate.adapters.db.store import open_read_only
from jitgate.app.verify import verify_installation
from jitgate.audit.query import Query
from jitgate.audit.show import as_json
from jitgate.ssh.cert import parse_certificate_line

CLIENTS = 4


@dataclass
class Load:
    """Clients that ask for certificates as fast as they are answered, until they are told to stop."""

    nodes: Sequence[Service]
    connections: list[Connection]
    grants: list[str]
    received: list[str] = field(default_factory=list)
    """Every certificate that reached a client."""
    stopping: threading.Event = field(default_factory=threading.Event)
    got_one: threading.Event = field(default_factory=threading.Event)
    crashes: list[BaseException] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def service(self) -> Service:
        return self.nodes[0]

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
        assert self.got_one.wait(30), [node.words()[-2000:] for node in self.nodes]

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


@contextmanager
def loaded(*nodes: Service) -> Iterator[Load]:
    """Nodes that run, with Alice's clients at all of them; under load until the end."""
    service = nodes[0]
    service.apply(ROLES)
    service.add_host("web1")
    first = service.enter("alice", "engineers")
    first.timeout = 10
    mine = first.signer
    others = [
        node.connect(Signer(node.url, mine.key, token=mine.token, person_id=mine.person_id))
        for node in (nodes * CLIENTS)[1:CLIENTS]
    ]
    grants = [
        first.post("/v1/grants", {"host": "web1", "minutes": 30 + at}).json["grant"]["id"] for at in range(CLIENTS)
    ]
    opened = Load(nodes, [first, *others], grants)
    opened.start()
    try:
        yield opened
    finally:
        opened.stop()


def logged(service: Service) -> list[dict[str, Any]]:
    """Every entry of the log, read from the database."""
    found: list[dict[str, Any]] = []
    with open_read_only(service.settings.database_url) as tx:
        while rows := tx.log.search(Query(after=len(found) - 1, limit=1000)):
            found += [as_json(columns[0], leaf, personal) for columns, leaf, personal in rows]
    assert [entry["index"] for entry in found] == list(range(len(found)))
    return found


def check(load: Load) -> None:
    """The service stands still; everything that is promised holds."""
    service = load.service
    lists = [node.state / "signed/signed.list" for node in load.nodes[1:]]
    for path in lists:
        os.utime(path, (time.time() + 600,) * 2)  # as if copied long after: everything has to be in it
    report = verify_installation(service.settings, [], lists=lists)
    assert report.ok, report.findings
    assert (report.in_flight, report.uncompared) == (0, 0)
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
