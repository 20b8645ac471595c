"""What is measured, each beside its peer in the same run. A row's `ratio` is ours divided by the peer's."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import openbao
from tests.bench.load import Measured, as_bytes, drive
from tests.service import Nursery, Service, new_service

from jitgate.app.control import call_control
from jitgate.core.ids import new_id
from jitgate.identity.model import Factor, Kind, VerifiedIdentity
from jitgate.policy.bundle import load_files
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Facts, HostFacts, Permit
from jitgate.policy.reach import reachable
from jitgate.ssh.private import generate_ed25519

CONNECTIONS = 16
REQUESTS = 6000
ROUNDS = 3  # both sides in turn; the median is told
STARTS = 15
NOW = 1_800_000_000_000_000
ROLES, HOSTS = 1_000, 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """`target`: of the ratio where there is a peer, else of our own figure; with `>=` or `<=`."""

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    target: str

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer


def issue(bao: str | None) -> Iterator[Row]:
    """Certificates a second: authenticated, decided, audited, durable before the answer."""
    ours, peers = list[Measured](), list[Measured]()
    nursery = Nursery()
    with tempfile.TemporaryDirectory() as folder, new_service(nursery) as service, _peer(bao, Path(folder)) as peer:
        for _ in range(ROUNDS):
            ours.append(_issue_ours(service))
            if peer is not None:
                line = generate_ed25519().public.line()
                peers.append(drive(peer.port, [peer.sign_request(line)] * REQUESTS, CONNECTIONS))
    nursery.close()
    name = openbao.NAME if peers else ""
    for row, unit, figure, target in (("issue", "1/s", _rate, ">= 1.5"), ("issue-p99", "ms", _p99, "<= 1")):
        yield Row(row, unit, _median(ours, figure), _median(peers, figure) if peers else None, name, target)


def _rate(measured: Measured) -> float:
    return measured.rate


def _p99(measured: Measured) -> float:
    return measured.p99


def _issue_ours(service: Service) -> Measured:
    if not service.pid:
        service.start()
        service.apply(ROLE)
        service.add_host("web1")
    person = service.enter(f"p{time.monotonic_ns()}", "engineers")
    grant = person.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    told = {"grant": grant, "host": "web1"}
    requests = [as_bytes(person.signer.call("POST", "/v1/certificates", told)) for _ in range(REQUESTS)]
    return drive(service.port, requests, CONNECTIONS)


@contextmanager
def _peer(bao: str | None, folder: Path) -> Iterator[openbao.OpenBao | None]:
    if bao is None:
        yield None
    else:
        with openbao.openbao(bao, folder) as running:
            yield running


def memory(_bao: str | None) -> Iterator[Row]:
    """Resident memory of service and signer together, idle after a start."""
    nursery = Nursery()
    with new_service(nursery) as service:
        command = [sys.executable, "-m", "jitgate", "serve", "--config", str(service.config)]
        with (service.folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 30
            while call_control(service.state, "user ls", {}) is None:
                assert time.monotonic() < until
                time.sleep(0.1)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            total = sum(_resident(pid) for pid in (process.pid, *map(int, children)))
        finally:
            process.terminate()
            process.wait()
    nursery.close()
    yield Row("memory", "MiB", total, None, "", "<= 110")


def cli_start(_bao: str | None) -> Iterator[Row]:
    """`jitctl --version` beside `import click`, both by the same interpreter; milliseconds."""
    ours = _time([sys.executable, "-m", "jitgate.cli", "--version"])
    peer = _time([sys.executable, "-c", "import click"])
    yield Row("cli-start", "ms", ours, peer, "python -c 'import click'", "<= 1.5")


def decision(_bao: str | None) -> Iterator[Row]:
    """One decision among 1,000 roles; a person's list over 10,000 hosts. Milliseconds."""
    bundle = load_files({f"r{at}.yaml": _role(at) for at in range(ROLES)})
    hosts = [HostFacts(f"h{at}", "default", {"team": f"t{at % ROLES}"}, ("ubuntu",)) for at in range(HOSTS)]
    who = VerifiedIdentity(
        new_id(NOW, os.urandom), "alice", Kind.PERSON, "local", "x", ("g7",), False, ((Factor.TOTP, NOW),)
    )
    facts = Facts(hosts[7], NOW, "192.0.2.1")
    assert isinstance(decide(who, Ask("h7", reason="x"), facts, bundle), Permit)
    one = _repeat(lambda: decide(who, Ask("h7", reason="x"), facts, bundle), 500)
    yield Row("decision", "ms", one, None, "", "<= 1")
    everything = _repeat(lambda: reachable(who, hosts, bundle, now=NOW, source="192.0.2.1"), 5)
    yield Row("list", "ms", everything, None, "", "<= 200")


BENCHES: dict[str, tuple[Callable[[str | None], Iterator[Row]], tuple[str, ...]]] = {
    "issue": (issue, ("issue", "issue-p99")),
    "memory": (memory, ("memory",)),
    "cli-start": (cli_start, ("cli-start",)),
    "decision": (decision, ("decision", "list")),
}
ROLE = b"""
role: web
effect: allow
who: {groups: [engineers]}
what: {labels: {tier: web}}
as: [ubuntu]
how_long: {grant: 1h, certificate: 15m}
extensions: [permit-pty]
"""


def _role(at: int) -> bytes:
    return (
        f"role: r{at}\neffect: allow\nwho: {{groups: [g{at}]}}\nwhat: {{labels: {{team: t{at}}}}}\nas: [ubuntu]\n"
        "how_long: {grant: 1h, certificate: 15m}\nreason: required\n"
    ).encode()


def _median(measured: list[Measured], figure: Callable[[Measured], float]) -> float:
    return statistics.median(map(figure, measured))


def _resident(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _time(command: list[str]) -> float:
    took = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def _repeat(act: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - began) / count * 1000
