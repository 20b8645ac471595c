"""What one certificate and one decision cost, with nothing in the past and with a million of everything.

The past is made by SQL: entries of the log, certificates, and ended grants, all of the very person who asks again.
Processor time of service and signer, which says more on a busy machine than a clock on the wall.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.issue import start
from tests.bench.load import as_bytes, drive
from tests.bench.rows import Row
from tests.client import Connection
from tests.service import Nursery, Service, new_service
from tests.tunnel import enter

from jitgate.audit.tree import Frontier

PAST = 1_000_000
REQUESTS = 200
ROUNDS = 5  # the least counts: what else the machine does only adds
HASH = b"\1" * 32
_TICK = os.sysconf("SC_CLK_TCK")


def growth() -> Iterator[Row]:
    nursery = Nursery()
    with new_service(nursery) as service:
        start(service)
        person = enter(service, "alice", "engineers")
        grant = person.post("/v1/grants", {"host": "web1"}).json["grant"]
        before = _costs(service, person, grant["id"])
        service.stop()
        _make_past(service, grant["id"])
        service.start()
        after = _costs(service, person, grant["id"])
    nursery.close()
    for what in before:
        yield Row("growth", f"ms, {what}", after[what], before[what], "the same without a past", "<= 1.2")


def _costs(service: Service, person: Connection, grant: str) -> dict[str, float]:
    told = {"grant": grant, "host": "web1"}
    calls: dict[str, Callable[[], bytes]] = {
        "issue": lambda: as_bytes(person.signer.call("POST", "/v1/certificates", told)),
        "decision": lambda: as_bytes(person.signer.call("GET", "/v1/explain?host=web1&login=ubuntu")),
    }
    found = {}
    for what, call in calls.items():
        drive(service.port, [call() for _ in range(50)], 1)
        found[what] = min(_round(service, [call() for _ in range(REQUESTS)]) for _ in range(ROUNDS))
    return found


def _round(service: Service, requests: list[bytes]) -> float:
    began = _used(service)
    drive(service.port, requests, 1)
    return (_used(service) - began) / REQUESTS * 1000


def _used(service: Service) -> float:
    """Seconds of processor time."""
    total = 0
    for pid in (service.pid, service.signer_pid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def _make_past(service: Service, grant: str) -> None:
    """Continues the log with entries whose hashes nobody can verify: what they cost is all that is looked at."""
    (file,) = service.state.glob("*.db")
    with sqlite3.connect(file) as database:
        (size,) = database.execute("SELECT max([index]) + 1 FROM event").fetchone()
        counted = f"WITH RECURSIVE n(i) AS (VALUES({size}) UNION ALL SELECT i + 1 FROM n WHERE i < {size + PAST - 1})"
        for table, key, changes in (
            ("event", "[index] = (SELECT max([index]) FROM event WHERE type = 'certificate.issued')", {
                "index": "i", "id": "printf('00%024d', i)", "serial": "i"}),
            ("certificate", "rowid = 1", {"serial": "i", "valid_before": "1"}),
            ("access_grant", f"id = '{grant}'", {"id": "printf('00%024d', i)", "ended_at": "ends_at"}),
        ):  # fmt: skip
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(changes.get(name, f"t.[{name}]") for name in names)
            row = f"(SELECT * FROM {table} WHERE {key} LIMIT 1) t"
            database.execute(f"{counted} INSERT INTO {table} SELECT {values} FROM n, {row}")
        total = size + PAST
        frontier = Frontier(total, (HASH,) * total.bit_count()).encode()
        database.execute("UPDATE log_state SET frontier = ?", (frontier,))
    database.close()
