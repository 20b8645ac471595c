"""The tour, as `make demo-dex` walks it: it holds each of its claims against what comes out, and so fails by itself."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_the_tour_holds_with_dex_openldap_and_openbao(programs: Mapping[str, Path], dex: Path):
    """Its steps hold those of the tour without them."""
    assert programs
    environment = os.environ | {"PATH": f"{dex.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "jitgate", "demo", "--dex"]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for claim in ("token_audience", "I am ubuntu on web1", "its time was up", "NOT WHOLE"):
        assert claim in done.stdout
