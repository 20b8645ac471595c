"""Certificates a second: authenticated, proved, decided, listed by the signer, on disk with their event, then answered.

Beside each peer in the same run, in turn, with the same number of connections. step-ca speaks TLS only, so beside it
we do too. Its tokens are good for one certificate each, our proofs are made for one request each: both sides check a
signature a request.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import openbao, stepca
from tests.bench.load import Measured, as_bytes, drive
from tests.bench.rows import Row, find_step_ca, has_bao, median
from tests.service import ROLES, Nursery, Service, new_service
from tests.tunnel import enter, trusting

from jitgate.ssh.private import generate_ed25519

CONNECTIONS = 16
REQUESTS = 2000  # a round; both sides in turn, so that what else the machine does hits both
ROUNDS = 3

Peer = tuple[str, Callable[[], Measured], bool]
"""Name, one round, whether over TLS."""


def issue() -> Iterator[Row]:
    with ExitStack() as stack:
        nursery = Nursery()
        stack.callback(nursery.close)
        for name, run, tls in _peers(stack):
            with new_service(nursery, tls=tls) as service:
                start(service)
                _round(service, CONNECTIONS * 4)  # what only the first requests do
                pairs = [(_round(service, REQUESTS), run()) for _ in range(ROUNDS)]
            yield from _rows(pairs, name)


def _rows(pairs: Sequence[tuple[Measured, Measured]], name: str) -> Iterator[Row]:
    ours, peers = zip(*pairs, strict=True)
    yield Row("issue", "1/s", median(m.rate for m in ours), median(m.rate for m in peers), name, ">= 1.5")
    yield Row("issue-p99", "ms", median(m.p99 for m in ours), median(m.p99 for m in peers), name, "<= 1")


def start(service: Service, host: int = 22) -> None:
    service.start()
    service.apply(ROLES)
    service.add_host("web1", port=host)


def requests_of(service: Service, count: int) -> list[bytes]:
    """Of a new person, each with its own proof."""
    person = enter(service, f"p{time.monotonic_ns()}", "engineers")
    grant = person.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    told = {"grant": grant, "host": "web1"}
    return [as_bytes(person.signer.call("POST", "/v1/certificates", told)) for _ in range(count)]


def _round(service: Service, count: int) -> Measured:
    requests = requests_of(service, count)
    trust = trusting(service, "http/1.1") if service.url.startswith("https:") else None
    return drive(service.port, requests, CONNECTIONS, trust)


def _peers(stack: ExitStack) -> Iterator[Peer]:
    if has_bao():
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(openbao.openbao(folder))
        request = running.sign_request(generate_ed25519().public.line())
        yield openbao.NAME, lambda: drive(running.port, [request] * REQUESTS, CONNECTIONS), False
    if program := find_step_ca():
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ca = stack.enter_context(stepca.step_ca(program, folder))
        yield stepca.NAME, lambda: drive(ca.port, ca.sign_requests(REQUESTS), CONNECTIONS, ca.trust), True
