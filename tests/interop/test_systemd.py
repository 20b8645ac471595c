"""The unit file, by systemd's own judgement; and the service with its keys as systemd hands them over."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service import ROLES, Service

from jitgate.app.commands.signer import signer

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
UNIT = FOLDER / "jitgate.service"
SIGNER = FOLDER / "jitgate-signer.service"
DROP_IN = "jitgate.service.d/signer.conf"
EXPOSURE_MAX = 20  # tenths; `systemd-analyze security` goes to 100


@pytest.fixture(params=["alone", "with a signer apart", "the signer"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze (Debian: systemd)")
    for each in (UNIT, SIGNER):
        (tmp_path / each.name).write_text(each.read_text().replace("/opt/jitgate/bin/jitgate", "/bin/true"))
    if request.param == "with a signer apart":
        (tmp_path / DROP_IN).parent.mkdir()
        shutil.copy(FOLDER / DROP_IN, tmp_path / DROP_IN)
    return tmp_path / (SIGNER.name if request.param == "the signer" else UNIT.name)


@pytest.mark.parametrize(
    "judge", [("verify",), ("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")]
)
def test_the_unit_is_sound_and_its_sandbox_tight(unit, judge):
    done = subprocess.run(["systemd-analyze", *judge, str(unit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert judge[0] == "security" or not done.stderr


def test_the_signers_command_is_one_of_ours():
    (line,) = (line for line in SIGNER.read_text().splitlines() if line.startswith("ExecStart="))
    program, command, *arguments = shlex.split(line.removeprefix("ExecStart="))
    assert (Path(program).name, command) == ("jitgate", "signer")
    found = signer.make_context("signer", arguments).params
    assert (found["users"], found["folder"]) == (("jitgate",), Path("/var/lib/jitgate-signer"))
    told = (FOLDER.parents[1] / "docs/custody.md").read_text()
    assert f'signer = "{found["listen"]}"\nsigner_folder = "{found["folder"]}"\n' in told


def test_the_units_credentials_are_the_keys_of_an_installation(install: Callable[..., Service]):
    keys = {path.name for path in install().settings.keys_folder.iterdir()}
    lines = [line.partition("=") for line in UNIT.read_text().splitlines()]
    assert {value.partition(":")[0] for name, _, value in lines if name == "LoadCredential"} == keys


def test_keys_that_are_systemds_credentials_are_used(install: Callable[..., Service], tmp_path: Path):
    """`$CREDENTIALS_DIRECTORY`: 0500, and in it files of mode 0400."""
    service = install()
    handed = tmp_path / "jitgate.service"
    shutil.copytree(service.settings.keys_folder, handed)
    shutil.rmtree(service.settings.keys_folder)
    for path in handed.iterdir():
        path.chmod(0o400)
    handed.chmod(0o500)
    service.start(CREDENTIALS_DIRECTORY=str(handed), JITGATE_CA_KEYS=str(handed))
    service.apply(ROLES)
    service.add_host("web1")
    alice = service.enter("alice", "engineers")
    grant = alice.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    assert alice.post("/v1/certificates", {"grant": grant, "host": "web1"}).status == 201
    assert {row["held"] for row in service.act("ca ls")["keys"]} == {"yes"}
    assert service.stop() == 0
