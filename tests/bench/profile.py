"""`make profile`: where the service's event loop spends its time while it issues certificates. ARGS="--requests N".

The writer's thread and the signer's process run beside it: what they take shows here as waiting only.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.issue import CONNECTIONS
from tests.bench.load import as_bytes, drive
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.app.control import call_control

PATIENCE_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="certificates to issue  [default: 4000]")
    parser.add_argument("--html", type=Path, help="write a page for a browser instead of the tree")
    given = parser.parse_args()
    nursery = Nursery()
    try:
        with new_service(nursery) as service:
            profile = service.folder / "profile"
            process = _start(service, profile, "html" if given.html else "text")
            try:
                measured = _load(service, given.requests)
            finally:
                process.terminate()
                process.wait()
            text = profile.read_text()
    finally:
        nursery.close()
    if given.html:
        given.html.write_text(text)
    else:
        print(text)
    print(f"{measured:.0f} certificates a second while it was watched")


def _start(service: Service, profile: Path, form: str) -> subprocess.Popen[bytes]:
    """`jitgate serve` as the command has it, watched by pyinstrument, which writes `profile` when it ends."""
    watch = [sys.executable, "-m", "pyinstrument", "-r", form, "-o", str(profile)]
    command = [*watch, "-m", "jitgate", "serve", "--config", str(service.config)]
    with service.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + PATIENCE_S
    while call_control(service.state, "user ls", {}) is None:
        if time.monotonic() > until or process.poll() is not None:
            process.kill()
            raise AssertionError(f"the service did not start:\n{service.words()}")
        time.sleep(0.1)
    return process


def _load(service: Service, requests: int) -> float:
    service.apply(ROLES)
    service.add_host("web1")
    person = service.enter("alice", "engineers")
    grant = person.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    call = person.signer.call("POST", "/v1/certificates", {"grant": grant, "host": "web1"})
    drive(service.port, [as_bytes(call)] * CONNECTIONS, CONNECTIONS)  # what only the first requests do
    calls = (person.signer.call("POST", "/v1/certificates", {"grant": grant, "host": "web1"}) for _ in range(requests))
    return drive(service.port, [as_bytes(each) for each in calls], CONNECTIONS).rate


if __name__ == "__main__":
    main()
