"""ssh, scp, sftp, rsync and git as everybody uses them, with nothing of ours on the command line."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.interop.plain import Plain
from tests.people import Person

SIZE = 5_000_000


@pytest.fixture
def something(tmp_path: Path) -> Path:
    path = tmp_path / "something"
    path.write_bytes(os.urandom(SIZE))
    return path


def test_a_command_its_status_and_its_words(plain: Plain):
    assert plain.ssh("ubuntu@web1", "true").stderr == ""
    done = plain.ssh("ubuntu@web1", "echo out; echo err >&2; exit 7", status=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert plain.ssh("ubuntu@web1.default.jitgate", "echo $USER").stdout == "ubuntu\n"
    assert plain.ssh("-tt", "ubuntu@web1", "tty -s && echo a terminal").stdout == "a terminal\n"


def test_each_connection_through_the_tunnel_is_a_session_on_record(plain_alice: Person):
    def opened() -> int:
        return len(json.loads(plain_alice.jitctl("audit", "--type", "session.opened", "-o", "json").stdout))

    Plain(plain_alice, "tunnel").ssh("ubuntu@web1", "true")
    before = opened()
    Plain(plain_alice, "tunnel").ssh("ubuntu@web1", "true")
    assert opened() == before + 1
    Plain(plain_alice, "direct").ssh("ubuntu@web1", "true")
    assert opened() == before + 1


def test_another_login_is_told_which_ones_there_are(plain_alice: Person):
    done = plain_alice.ssh("root@web1", "true", status=255)
    assert done.stderr.startswith("jitctl: error: on web1 you may be ubuntu or deploy\njitctl: hint: ssh ubuntu@web1")


def test_every_byte_both_ways_and_the_end_of_input(plain: Plain):
    """`ssh HOST cat` ends only if the end of its input arrives, and says all of it only if nothing is lost then."""
    sent = os.urandom(SIZE)
    command = ["ssh", *plain.options, "ubuntu@web1", "cat; printf end"]
    alice = plain.alice
    done = subprocess.run(command, input=sent, capture_output=True, env=alice.environment, cwd=alice.home, check=True)
    assert done.stdout == sent + b"end"
    assert done.stderr == b""


@pytest.mark.parametrize("mode", [(), ("-O",)], ids=["sftp", "scp"])
def test_scp(plain: Plain, something: Path, tmp_path: Path, mode: tuple[str, ...]):
    back = tmp_path / "back"
    for source, target in ((str(something), "ubuntu@web1:x"), ("ubuntu@web1:x", str(back))):
        assert plain.run("scp", "-q", *mode, *plain.options, source, target).stderr == ""
    assert back.read_bytes() == something.read_bytes()


def test_sftp(plain: Plain, something: Path, tmp_path: Path):
    back = tmp_path / "back"
    batch = f"put {something} y\nls -l y\nget y {back}\nrm y\n"
    done = plain.run("sftp", "-q", *plain.options, "-b", "-", "ubuntu@web1", stdin=batch)
    assert str(SIZE) in done.stdout
    assert back.read_bytes() == something.read_bytes()


def test_rsync(plain: Plain, programs: Mapping[str, Path], tmp_path: Path):
    rsync = str(programs["rsync"])
    tree, back = tmp_path / "tree", tmp_path / "back"
    for at in range(100):
        (tree / f"folder {at % 7}").mkdir(parents=True, exist_ok=True)
        (tree / f"folder {at % 7}/file {at}").write_bytes(os.urandom(20_000))
    options = ("-rc", "-e", plain.command, f"--rsync-path={rsync}")
    plain.run(rsync, *options, f"{tree}/", "ubuntu@web1:tree/")
    plain.run(rsync, *options, "--delete", "ubuntu@web1:tree/", f"{back}/")
    assert digests(back) == digests(tree)
    (tree / "folder 1/file 1").write_text("changed")
    said = plain.run(rsync, *options, "-i", f"{tree}/", "ubuntu@web1:tree/").stdout
    assert [line.split(" ", 1)[1] for line in said.splitlines()] == ["folder 1/file 1"]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_git(plain: Plain, programs: Mapping[str, Path], tmp_path: Path):
    git = str(programs["git"])
    names = ("-c", "user.name=alice", "-c", "user.email=alice@example.com", "-c", "init.defaultBranch=main")
    first, second, there = tmp_path / "first", tmp_path / "second", f"ubuntu@web1:{plain.way}.git"
    plain.ssh("ubuntu@web1", f"{git} -c init.defaultBranch=main init -q --bare {plain.way}.git")

    def run(*command: str) -> None:
        settings = {"GIT_SSH_COMMAND": plain.command, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        done = plain.alice.run(git, *names, *command, **settings)
        assert done.returncode == 0, done.stderr

    run("init", "-q", str(first))
    (first / "file").write_bytes(os.urandom(1_000_000))
    run("-C", str(first), "add", "file")
    run("-C", str(first), "commit", "-q", "-m", "first")
    run("-C", str(first), "push", "-q", f"--receive-pack={git} receive-pack", there, "main")
    run("clone", "-q", f"--upload-pack={git} upload-pack", there, str(second))
    assert (second / "file").read_bytes() == (first / "file").read_bytes()


def test_bulk_over_many_key_exchanges(plain_alice: Person):
    """200 MB in both directions at once, with new keys each 16 MB."""
    ssh = Plain(plain_alice, "tunnel").command
    shell = f"head -c 200000000 /dev/zero | {ssh} -o RekeyLimit=16M ubuntu@web1 cat | sha256sum"
    done = plain_alice.run("/bin/sh", "-c", shell)
    digest = hashlib.sha256()
    for _ in range(200):
        digest.update(bytes(1_000_000))
    assert done.stdout.split()[0] == digest.hexdigest()
    assert done.stderr == ""
