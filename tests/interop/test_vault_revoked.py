"""What a mount signed is taken back as everything else is: by person, by grant; sshd reads the realm's own list."""

from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from tests.service import Nursery, Service
from tests.vaults import Client, admin_token, vault_service

from jitgate.app.local_sshd import LocalHost

pytestmark = pytest.mark.timeout(180)  # the real client is a program of 200 MB, started anew for each command

ROLE = "key_type=ca allow_user_certificates=true allowed_users=ubuntu default_user=ubuntu ttl=1h"
SIGN = "vault write -field=signed_key ssh/sign/ops public_key=@.ssh/id.pub > .ssh/id-cert.pub"


def test_a_mounts_user_who_is_disabled_is_revoked_on_hosts(
    nursery: Nursery, tmp_path: Path, start_sshd: Callable[..., LocalHost]
):
    host = start_sshd("web1", "ubuntu")
    with vault_service(nursery) as service:
        client = Client(service, tmp_path / "home")
        client.ok("vault login -", stdin=admin_token(service))
        for command in (
            "ssh-keygen -q -t ed25519 -N '' -f .ssh/id",
            "vault secrets enable ssh",
            "vault write ssh/config/ca generate_signing_key=true",
            f"vault write ssh/roles/ops {ROLE}",
            "vault auth enable userpass",
            """echo 'path "ssh/sign/ops" { capabilities = ["update"] }' | vault policy write ops -""",
            "vault write auth/userpass/users/dora password=Correct-Horse-7 policies=ops",
            "vault read -field=public_key ssh/config/ca > ca.pub",
            "vault login -method=userpass username=dora password=Correct-Horse-7",
            SIGN,
            "cp .ssh/id-cert.pub .ssh/kept-cert.pub",
        ):
            client.ok(command)
        (host.etc / "mount_ca.pub").write_text((tmp_path / "home" / "ca.pub").read_text())
        trust(service, host)
        assert login(client, host) == "in\n"
        service.act("user disable", name="dora@userpass")
        refused = client.sh(SIGN)
        assert refused.returncode == 2
        assert "permission denied" in refused.stderr
        trust(service, host)
        assert login(client, host) == ""
        assert "revoked" in host.log_text()


def trust(service: Service, host: LocalHost) -> None:
    """What an owner does by cron: the realm's list, from where everybody can get it."""
    with urlopen(f"{service.url}/.well-known/jitgate/krl?realm=vault-ssh", timeout=10) as answer:
        (host.etc / "mount_krl").write_bytes(answer.read())
    (host.etc / "sshd_config.d" / "10-mount.conf").write_text(
        f"TrustedUserCAKeys {host.etc}/mount_ca.pub\nRevokedKeys {host.etc}/mount_krl\n"
    )
    host.reload()


def login(client: Client, host: LocalHost) -> str:
    return client.sh(
        f"ssh -F none -i .ssh/id -o CertificateFile=.ssh/kept-cert.pub -p {host.port} "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o IdentityAgent=none "
        f"-o BatchMode=yes ubuntu@{host.address} echo in"
    ).stdout
