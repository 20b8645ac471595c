"""The real client's other commands: what scripts use beside the guide's own."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.service import Nursery
from tests.vaults import Client, admin_token, vault_service

pytestmark = pytest.mark.timeout(180)  # the real client is a program of 200 MB, started anew for each command

POLICY = 'path "ssh/sign/ops" { capabilities = ["update"] }'


@pytest.fixture(scope="module")
def client(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with vault_service(nursery) as service:
        made = Client(service, tmp_path_factory.mktemp("vault-client"))
        made.ok("vault login -", stdin=admin_token(service))
        made.ok("ssh-keygen -q -t ed25519 -N '' -f .ssh/id")
        made.ok("vault secrets enable ssh")
        made.ok("vault write ssh/config/ca generate_signing_key=true")
        role = "key_type=ca allow_user_certificates=true allowed_users=a,b default_user=a ttl=1h"
        made.ok(f"vault write ssh/roles/ops {role}")
        made.ok(f"echo '{POLICY}' | vault policy write ops -")
        yield made


def read(client: Client, command: str, **more: str) -> Any:
    return json.loads(client.ok(f"vault {command}", VAULT_FORMAT="json", **more))


def test_what_is_there(client: Client):
    assert "Sealed" in client.ok("vault status")
    assert {"ssh/"} <= set(read(client, "secrets list"))
    assert {"token/"} <= set(read(client, "auth list"))
    assert {"default", "ops", "root"} <= set(read(client, "policy list"))
    assert client.ok("vault policy read ops").strip() == POLICY
    assert read(client, "list ssh/roles") == ["ops"]
    assert read(client, "read ssh/roles/ops")["data"]["allowed_users"] == "a,b"
    assert client.ok("vault token capabilities ssh/sign/ops").strip() == "root"


def test_a_robot_by_approle(client: Client):
    client.ok("vault auth enable approle")
    client.ok("vault write auth/approle/role/ci token_policies=ops token_ttl=10m secret_id_num_uses=1")
    role_id = client.ok("vault read -field=role_id auth/approle/role/ci/role-id")
    secret_id = client.ok("vault write -f -field=secret_id auth/approle/role/ci/secret-id")
    login = f"vault write -field=token auth/approle/login role_id={role_id} secret_id={secret_id}"
    token = client.ok(login)
    signed = client.ok("vault write -field=signed_key ssh/sign/ops public_key=@.ssh/id.pub", VAULT_TOKEN=token)
    assert signed.startswith("ssh-ed25519-cert-v01@openssh.com ")
    assert "invalid role or secret ID" in client.sh(login).stderr  # used up
    refused = client.sh("vault read ssh/roles/ops", VAULT_TOKEN=token)
    assert (refused.returncode, "permission denied" in refused.stderr) == (2, True)


def test_the_life_of_a_token(client: Client):
    made = read(client, "token create -policy=ops -ttl=5m")["auth"]
    token = made["client_token"]
    assert (made["token_policies"], made["lease_duration"]) == (["default", "ops"], 300)
    found = read(client, "token lookup", VAULT_TOKEN=token)["data"]
    assert (found["policies"], found["orphan"]) == (["default", "ops"], False)
    assert client.ok("vault token capabilities ssh/sign/ops", VAULT_TOKEN=token).strip() == "update"
    assert read(client, "token renew", VAULT_TOKEN=token)["auth"]["lease_duration"] <= 300
    client.ok(f"vault token revoke -accessor {made['accessor']}")
    assert client.sh("vault token lookup", VAULT_TOKEN=token).returncode == 2


def test_a_key_pair_that_is_made_for_the_asker(client: Client):
    made = read(client, "write -f ssh/issue/ops")["data"]
    key = client.home / "issued"
    key.touch(0o600)
    key.write_text(made["private_key"])
    (client.home / "issued-cert.pub").write_text(made["signed_key"])
    shown = client.ok("ssh-keygen -Lf issued-cert.pub")
    public = client.ok("ssh-keygen -l -f issued").split()[1]
    assert public in shown


def test_who_disables_a_mount_gets_another_realm_with_the_next(client: Client):
    client.ok("vault secrets enable -path=team/ssh ssh")
    first = client.ok("vault write -field=public_key team/ssh/config/ca generate_signing_key=true")
    client.ok("vault secrets disable team/ssh")
    assert "No value found" in client.sh("vault read team/ssh/config/ca").stderr
    client.ok("vault secrets enable -path=team/ssh ssh")
    assert client.ok("vault write -field=public_key team/ssh/config/ca generate_signing_key=true") != first
    refused = client.sh("vault secrets enable -path=team ssh")
    assert "already in use" in refused.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("vault secrets enable kv", "plugin not found"),
        ("vault secrets enable -path=sys ssh", "not a path to mount at"),
        ("vault write ssh/config/ca generate_signing_key=true", "already configured"),
        ("vault write ssh/roles/x key_type=otp default_user=a", "one-time passwords are not there"),
        ("vault write ssh/roles/x key_type=ca allow_user_certificates=true allowd_users=a", "unknown field"),
        ("vault write ssh/sign/nope public_key=@.ssh/id.pub", "Unknown role"),
        ("vault kv get secret/x", ""),
        ("vault read -wrap-ttl=60s ssh/roles/ops", "not taken"),
        ("VAULT_NAMESPACE=team vault read ssh/roles/ops", "not taken"),
        ("vault token create -policy=root", "given to nobody"),
        ("vault token create -orphan -policy=ops", "no_parent"),
    ],
)
def test_a_no_in_the_clients_own_words(client: Client, command: str, words: str):
    refused = client.sh(command)
    assert refused.returncode == 2
    assert words in refused.stderr
