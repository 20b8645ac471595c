"""Plain ssh where TLS stays on: our process carries the bytes, and nothing else changes."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.interop.plain import Plain, open_plain


@pytest.fixture(scope="module")
def kept(programs: Mapping[str, Path]) -> Iterator[Plain]:
    assert programs
    with open_plain("\n[gateway]\nkeep_tls = true\n") as (_, alice):
        yield Plain(alice, "tunnel")


def test_status_words_and_a_terminal(kept: Plain):
    done = kept.ssh("ubuntu@web1", "echo out; echo err >&2; exit 7", status=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert kept.ssh("-tt", "ubuntu@web1", "tty -s && echo a terminal").stdout == "a terminal\n"
    assert "proxyusefdpass no\n" in kept.ssh("-G", "ubuntu@web1").stdout


def test_every_byte_both_ways_and_the_end_of_input(kept: Plain):
    sent = os.urandom(5_000_000)
    command = ["ssh", *kept.options, "-o", "RekeyLimit=1M", "ubuntu@web1", "cat; printf end"]
    done = subprocess.run(command, input=sent, capture_output=True, env=kept.alice.environment, check=True)
    assert done.stdout == sent + b"end"
    assert done.stderr == b""


def test_files(kept: Plain, tmp_path: Path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(2_000_000))
    kept.run("scp", "-q", *kept.options, str(there), "ubuntu@web1:x")
    kept.run("scp", "-q", *kept.options, "ubuntu@web1:x", str(back))
    assert back.read_bytes() == there.read_bytes()


def test_a_master_and_the_doctor(kept: Plain):
    master = ("-o", f"ControlPath={kept.alice.home}/m", "-o", "ControlMaster=auto", "-o", "ControlPersist=yes")
    kept.ssh(*master, "ubuntu@web1", "true")
    assert kept.ssh(*master, "ubuntu@web1", "echo over it").stdout == "over it\n"
    kept.ssh(*master, "-O", "exit", "ubuntu@web1")
    found = kept.alice.jitctl("doctor", status=1).stdout  # its home is one that ssh does not look into
    assert "passed  tunnel: 127.0.0.1 port " in found
    assert ", where TLS stays on\n" in found
