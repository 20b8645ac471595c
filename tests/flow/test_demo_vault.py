"""What `jitgate demo --json` says is enough to use Vault's API with the real client."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from jitgate.app.demo.openbao import find_bao
from jitgate.app.demo.world import open_world, write_json


@pytest.mark.timeout(180)  # a whole demo, and the real client, on a busy machine
def test_vault_url_and_vault_token(programs: Mapping[str, Path], tmp_path: Path):
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as world:
        write_json(world, tmp_path / "demo.json")
        told = json.loads((tmp_path / "demo.json").read_text())
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "VAULT_ADDR": told["vault_url"],
            "VAULT_TOKEN": told["vault_token"],
            "VAULT_CACERT": told["vault_cacert"],
        }
        for command in (
            ["secrets", "enable", "-path=ssh", "ssh"],
            ["write", "ssh/config/ca", "generate_signing_key=true"],
            ["read", "-field=public_key", "ssh/config/ca"],
        ):
            done = subprocess.run(
                [find_bao(), *command], env=environment, capture_output=True, text=True, check=False, timeout=30
            )
            assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("ssh-ed25519 ")
