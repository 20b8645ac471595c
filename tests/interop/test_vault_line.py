"""The Vault surface and its two switches, with the real client: the settings', and the signer's own."""

from pathlib import Path

import pytest
from tests.service import Nursery, new_service
from tests.vaults import Client, admin_token, vault_service

pytestmark = pytest.mark.timeout(180)  # the real client is a program of 200 MB, started anew for each command


def test_without_the_signers_own_table_no_key_is_made(nursery: Nursery, tmp_path: Path):
    with vault_service(nursery, mounts=False) as service:
        client = Client(service, tmp_path)
        client.ok("vault login -", stdin=admin_token(service))
        client.ok("vault secrets enable -path=ssh ssh")
        refused = client.sh("vault write ssh/config/ca generate_signing_key=true")
        assert refused.returncode == 2
        assert "no [[mount]] table of signer.toml means this realm" in refused.stderr


def test_without_the_setting_there_is_nothing(nursery: Nursery, tmp_path: Path):
    with new_service(nursery) as service:
        service.start()
        client = Client(service, tmp_path)
        for command in ("vault status", "vault login token", "vault secrets list"):
            assert client.sh(command).returncode != 0
        done = service.jitgate("vault", "token", "olga")
        assert done.returncode == 7
        assert "the Vault surface is off" in done.stderr
