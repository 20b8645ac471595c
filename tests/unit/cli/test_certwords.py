"""A certificate in words: everything that it says is said, nothing else."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService

from jitgate.ssh.cert import CertType
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests


def test_conditions_and_own_metadata(machine: Machine, service: FakeService):
    critical = (("force-command", "uptime"), ("source-address", "10.0.0.0/8,192.0.2.7/32"))
    extensions = (("permit-port-forwarding", ""), ("ticket@jitgate", "OPS-12"))
    certificate = service.certificate(
        generate_ed25519().public,
        critical_options=critical,
        extensions=extensions,
        principals=("ubuntu@host:web1", "x"),
    )
    file = machine.home / "x-cert.pub"
    file.write_text(certificate.line("a comment"))
    machine.words["{FILE}"] = str(file)
    machine.transcript(
        """
        $ jitctl cert show {FILE}
        {FILE}
        kind       for a user
        opens      ubuntu on web1, x
        time       valid until ... (in 15 min)
        may        port forwarding
        may not    a terminal, agent forwarding, X11 forwarding, ~/.ssh/rc
        condition  runs only: uptime; only from 10.0.0.0/8,192.0.2.7/32
        also says  ticket@jitgate=OPS-12
        key        SHA256:...
        signed by  SHA256:...
        serial     8812734
        key id     jitgate grant=01J8Z0K3V4WQ2M5N6P7R8S9TGG person=alice
        """
    )
    shown = json.loads(machine.jitctl("cert", "show", str(file), "-o", "json")[1])[0]
    assert shown["critical_options"] == dict(critical)
    assert shown["extensions"] == dict(extensions)
    assert shown["principals"] == ["ubuntu@host:web1", "x"]
    assert shown["serial"] == "8812734"


def test_a_host_certificate_and_one_that_has_ended(machine: Machine, service: FakeService):
    host = service.certificate(generate_ed25519().public, type=CertType.HOST, principals=("web1",), extensions=())
    ended = service.certificate(generate_ed25519().public, valid_after=1000, valid_before=2000)
    future = service.certificate(generate_ed25519().public, valid_after=4_000_000_000, valid_before=4_000_000_900)
    for certificate, words in (
        (host, "names      web1"),
        (ended, "time       ended 1970-01-01 00:33 ("),
        (future, "time       not valid yet, from 2096-10-02 07:06 (in "),
    ):
        file = machine.home / "x-cert.pub"
        file.write_text(certificate.line())
        assert words in machine.jitctl("cert", "show", str(file))[1]


def test_from_stdin_and_what_is_no_certificate(machine: Machine, service: FakeService):
    line = service.certificate(generate_ed25519().public).line().encode()
    assert "ubuntu on web1" in machine.jitctl("cert", "show", "-", stdin=line)[1]
    for wrong in (b"", b"ssh-ed25519 AAAA", b"\xff", line[:200], line.replace(b"ssh-ed25519", b"ssh-rsa")):
        status, out, err = machine.jitctl("cert", "show", "-", stdin=wrong)
        assert (status, out) == (1, "")
        assert err.startswith("jitctl: error: '-' is no certificate that is taken: ")


def test_cert_get_prints_a_certificate_that_ssh_keygen_reads(alice: Machine, tmp_path: Path):
    status, out, err = alice.jitctl("cert", "get", "ubuntu@web1")
    assert status == 0
    assert err.startswith("jitctl: granted by role ops-web")
    file = tmp_path / "got-cert.pub"
    file.write_text(out)
    subprocess.run(["ssh-keygen", "-L", "-f", str(file)], check=True, capture_output=True)
    document = json.loads(alice.jitctl("cert", "get", "web1", "--output", "json")[1])
    assert document["principals"] == ["ubuntu@host:web1"]
    assert document["certificate"].startswith("ssh-ed25519-cert-v01@openssh.com ")
