"""The agent's unit file, by systemd's own judgement."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy/systemd/jitgate-agent.service"
EXPOSURE_MAX = 21  # tenths, of 100; one more than the service's: docs/agent.md, "Under systemd", says for what


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
