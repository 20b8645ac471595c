"""Both CA keys are replaced under a running service, real sshd and a person who goes on working."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests import people

from jitgate.adapters.signers.files import write_key
from jitgate.agent.script import render
from jitgate.agent.trust import parse
from jitgate.app.control import Json
from jitgate.app.demo.world import World, open_world
from jitgate.app.operate import operate
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519

PATIENCE_S = 20.0
REASON = ("--reason", "rotation")


@pytest.fixture
def world(programs: Mapping[str, Path]) -> Iterator[World]:
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as opened:
        yield opened


def keys(world: World) -> list[Json]:
    found: list[Json] = operate(world.settings, "ca ls", {})["keys"]
    return found


def tell(world: World, name: str) -> None:
    """`jitgate host renew` on the server, `jitgate host trust` on the host."""
    host, base = world.hosts[name], world.folder / f"{name}.trust"
    base.write_text(operate(world.settings, "host renew", {"name": name})["trust"])
    script = base.with_suffix(".sh")
    script.write_text(render(parse(base.read_bytes())))
    given = ["--etc", str(host.etc), "--sshd", str(host.own_sshd())]
    command = ["/bin/sh", str(script), *given, "--reload", f"kill -HUP {host.process.pid}"]
    done = subprocess.run(command, env=host.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    host.reload()


def test_both_keys_are_replaced_while_somebody_works(world: World):
    alice = people.sign_in(world, "alice")
    alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "true")
    old = {row["kind"]: row["key"] for row in keys(world)}
    new = {"user": generate_ed25519(), "host": generate_ed25519()}
    for kind, key in new.items():
        write_key(world.settings.keys_folder, f"{kind}_ca-2", key)
    until = time.monotonic() + PATIENCE_S
    while len(keys(world)) < 5:
        assert time.monotonic() < until
        time.sleep(0.1)
    for kind in new:
        operate(world.settings, "ca add", {"key": f"{kind}_ca-2", "line": "", "kind": None, "realm": ""})
    operate(world.settings, "ca use", {"key": "host_ca-2", "anyway": False})
    for name in world.hosts:
        tell(world, name)
    operate(world.settings, "ca use", {"key": "user_ca-2", "anyway": False})

    certificates = alice.state / "certs"
    before = [parse_certificate_line(path.read_text()) for path in certificates.glob("*/*-cert.pub")]
    assert {each.body.ca.line() for each in before} == {old["user"]}
    alice.ssh("ubuntu@web1", "true", status=255)  # shown by the new host CA, which this machine has not heard of
    done = alice.jitctl("vm", "connect", "ubuntu@web1", *REASON, "--", "echo $USER")
    assert done.stdout == "ubuntu\n"  # the certificate by the old user CA still opens it
    known = (alice.state / "known_hosts").read_text()
    assert old["host"] in known
    assert new["host"].public.line() in known
    for path in certificates.glob("*/*-cert.pub"):
        path.unlink()
    assert alice.ssh("ubuntu@web1", "echo $USER").stdout == "ubuntu\n"
    after = [parse_certificate_line(path.read_text()) for path in certificates.glob("*/*-cert.pub")]
    assert {each.body.ca for each in after} == {new["user"].public}
