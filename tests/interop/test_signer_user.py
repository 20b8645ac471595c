"""A signer under a user of its own, against somebody who runs code as the service's user. Needs root to become both."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.conformance.signing import request, signer_files
from tests.keepers import age_identity, table

from jitgate.adapters.custody.sealed import is_sealed
from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.protocol import Op, Sign
from jitgate.app.moving import move_key
from jitgate.app.settings import Settings
from jitgate.core.errors import Error

SIGNER, SERVICE = 64801, 64802
PYTHON = "/usr/bin/python3"
PATHS = [path for path in sys.path if path.endswith("site-packages")] + [str(Path(__file__).parents[2] / "src")]

RUN_SIGNER = """
import os, sys
paths, listen, user, folder = sys.argv[1:]
sys.path[:0] = paths.split(":")
os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
from jitgate.app.main import main
main(["signer", "--listen", listen, "--for", SERVICE, "--folder", folder])
"""

TRY = """
import json, os, socket, sys
user, listen, folder, pid, message = sys.argv[1:]
os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
found = {}
def attempt(name, act):
    try:
        found[name] = act() or "done"
    except OSError as error:
        found[name] = type(error).__name__
def ask():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(listen)
        connection.sendall(bytes.fromhex(message))
        return connection.recv(1 << 16)[4:].hex()
attempt("asks", ask)
attempt("reads a key", lambda: open(folder + "/keys/user").read())
attempt("lists keys", lambda: os.listdir(folder + "/keys"))
attempt("writes rules", lambda: open(folder + "/signer.toml", "a").close())
attempt("writes the list", lambda: open(folder + "/signed/signed.list", "a").close())
attempt("reads its memory", lambda: open(f"/proc/{pid}/mem", "rb").close())
attempt("sees its files", lambda: os.listdir(f"/proc/{pid}/fd"))
attempt("ends it", lambda: os.kill(int(pid), 15))
attempt("takes its socket away", lambda: os.unlink(listen))
print(json.dumps(found))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below a path that every user can enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can become two other users")
    version = "import sys; print(*sys.version_info[:2])"
    if subprocess.run([PYTHON, "-c", version], capture_output=True, text=True, check=False).stdout.split() != [
        str(part) for part in sys.version_info[:2]
    ]:
        pytest.skip(f"{PYTHON}, which other users can run, is not of this release")
    with TemporaryDirectory(prefix="jg-apart-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_who_runs_code_as_the_services_user_gets_what_the_ceilings_allow_and_no_key(folder: Path):
    own, run = folder / "signer", folder / "run"
    own.mkdir(mode=0o700)
    run.mkdir(mode=0o755)
    signer_files(own)
    for path in (run, own, *own.rglob("*")):
        os.chown(path, SIGNER, SIGNER)
    listen = run / "socket"
    script = RUN_SIGNER.replace("SERVICE", repr(str(SERVICE)))
    command = [PYTHON, "-I", "-c", script, ":".join(PATHS), str(listen), str(SIGNER), str(own)]
    signer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd="/")
    try:
        until = time.monotonic() + 30
        while not listen.exists():
            assert signer.poll() is None, signer.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        message = protocol.put_request(Sign((request(),))).hex()
        found = tried(SERVICE, listen, own, signer.pid, message)
        answer = bytes.fromhex(found.pop("asks"))
        assert (answer[0], answer[1]) == (Op.SIGN, 0)  # signed: what it is there for
        assert set(found.values()) == {"PermissionError"}, found
        stranger = tried(SERVICE + 1, listen, own, signer.pid, message)
        assert bytes.fromhex(stranger["asks"])[0] == Op.FAILED
    finally:
        signer.terminate()
        said = signer.communicate(timeout=20)[1]
    assert signer.returncode == 0, said


def tried(user: int, listen: Path, own: Path, pid: int, message: str) -> dict[str, str]:
    command = [PYTHON, "-I", "-c", TRY, str(user), str(listen), str(own), str(pid), message]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_what_root_moves_stays_the_signers_own(folder: Path):
    """A file that root wrote there would be one that the signer cannot read."""
    own = folder / "signer"
    own.mkdir(mode=0o700)
    files = signer_files(own)
    place = age_identity(own)
    files.rules.write_text(files.rules.read_text() + table("sealed", place))
    for path in (own, *own.rglob("*")):
        os.chown(path, SIGNER, SIGNER)
    settings = Settings(state=folder, url="http://127.0.0.1:1", signer="/run/none", signer_folder=str(own))
    move_key(settings, "user", "sealed")
    found = (own / "keys" / "user").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (SIGNER, SIGNER, 0o600)
    assert is_sealed((own / "keys" / "user").read_bytes())
    assert os.geteuid() == 0
    os.chown(place.identity_file, SERVICE, SERVICE)  # root could read it; the signer could not
    with pytest.raises(Error):
        move_key(settings, "user", "file")
