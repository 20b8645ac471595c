"""The agent's unit file, by systemd's own judgement."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy/systemd/jitgate-agent.service"
EXPOSURE_MAX = 26  # tenths, of 100; six more than the service's: docs/agent.md, "Under systemd", says for what


@pytest.mark.parametrize(
    "judge", [("verify",), ("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")]
)
def test_the_unit_is_sound_and_its_sandbox_tight(tmp_path: Path, judge: tuple[str, ...]):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze (Debian: systemd)")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/jitgate/bin/jitgate", "/bin/true"))
    done = subprocess.run(["systemd-analyze", *judge, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert judge[0] == "security" or not done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_with_the_units_rights_it_sees_which_process_is_sshds_own(tmp_path: Path):
    """A process of root's has rights that the agent has not: its program is shown to a tracer's only (proc(5))."""
    program = tmp_path / "sshd"
    shutil.copy(shutil.which("sleep") or "sleep", program)
    (rights,) = re.findall(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    kept = ",".join(f"+{right.removeprefix('CAP_').lower()}" for right in rights.split())
    process = subprocess.Popen([program, "60"])
    try:
        look = f"import sys; from jitgate.agent.processes import is_sshd; sys.exit(not is_sshd({process.pid}))"
        seen = subprocess.run(["setpriv", f"--bounding-set=-all,{kept}", sys.executable, "-c", look], check=False)
        assert seen.returncode == 0
    finally:
        process.kill()
        process.wait()
