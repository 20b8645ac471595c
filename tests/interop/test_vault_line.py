"""The thinnest line through the Vault surface, with the real client and a real sshd."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service import Nursery
from tests.vaults import SETTING, Client, admin_token, vault_service

from jitgate.app.local_sshd import LocalHost


def test_from_secrets_enable_to_a_login(
    nursery: Nursery, tmp_path: Path, start_sshd: Callable[..., LocalHost], monkeypatch: pytest.MonkeyPatch
):
    with vault_service(nursery) as service:
        client = Client(service, tmp_path)
        client.ok("vault login -", stdin=admin_token(service))
        client.ok("vault secrets enable -path=ssh ssh")
        client.ok("vault write ssh/config/ca generate_signing_key=true")
