"""`jitgate import vault` from a real OpenBao: what is kept comes over, what is not is named."""

import json
from pathlib import Path

import pytest
from tests.service import Nursery
from tests.vaults import Client, admin_token, vault_service

from jitgate.app.demo.openbao import OpenBao

pytestmark = pytest.mark.timeout(180)  # the real client is a program of 200 MB, started anew for each command

ROLES = {
    "ops": {"key_type": "ca", "allow_user_certificates": True, "allowed_users": "ubuntu,deploy", "ttl": "30m"},
    "any": {
        "key_type": "ca",
        "allow_user_certificates": True,
        "allowed_users": "*",
        "default_user": "ubuntu",
        "default_extensions": {"permit-pty": ""},
        "ttl": "4h",
    },
    "hosts": {"key_type": "ca", "allow_host_certificates": True, "allowed_domains": "example.com", "ttl": "24h"},
    "templated": {
        "key_type": "ca",
        "allow_user_certificates": True,
        "allowed_users": "{{identity.entity.name}}",
        "allowed_users_template": True,
    },
}
POLICIES = {
    "ssh-ops": 'path "client-signer/sign/ops" {\n  capabilities = ["create", "update"]\n}\n',
    "bounded": 'path "client-signer/sign/any" {\n  capabilities = ["update"]\n  allowed_parameters = {"ttl" = []}\n}\n',
}


def test_roles_and_policies_come_over_from_a_real_one(nursery: Nursery, openbao: OpenBao, tmp_path: Path):
    openbao.ask("POST", "sys/mounts/client-signer", {"type": "ssh"})
    openbao.ask("POST", "client-signer/config/ca", {"generate_signing_key": True})
    for name, role in ROLES.items():
        openbao.ask("POST", f"client-signer/roles/{name}", role)
    for name, policy in POLICIES.items():
        openbao.ask("POST", f"sys/policies/acl/{name}", {"policy": policy})
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(openbao.root.reveal())
    command = ["import", "vault", "--address", openbao.url, "--token-file", str(token), "--mount", "client-signer"]
    command += ["--ca-file", openbao.ca_file, "-o", "json"]
    with vault_service(nursery) as service:
        looked = service.jitgate(*command, "--dry-run")
        assert looked.returncode == 0, looked.stderr
        done = service.jitgate(*command, "--as", "olga")
        assert done.returncode == 0, done.stderr
        brought = {(each["kind"], each["name"]): each for each in json.loads(done.stdout)["brought"]}
        taken = {name for name, each in brought.items() if each["taken"]}
        assert {("role", "ops"), ("role", "any"), ("policy", "ssh-ops")} <= taken
        assert not taken & {("role", "hosts"), ("role", "templated"), ("policy", "bounded")}
        assert "allowed_users is *" in " ".join(brought["role", "any"]["words"])
        assert "allowed_parameters" in " ".join(brought["policy", "bounded"]["words"])
        before = {(e["kind"], e["name"]): e["taken"] for e in json.loads(looked.stdout)["brought"]}
        assert before == {name: each["taken"] for name, each in brought.items()}

        client = Client(service, tmp_path / "home")
        client.ok("vault login -", stdin=admin_token(service))
        role = json.loads(client.ok("vault read -format=json client-signer/roles/ops"))["data"]
        theirs = openbao.ask("GET", "client-signer/roles/ops")["data"]
        same = {
            "allowed_users",
            "ttl",
            "max_ttl",
            "default_user",
            "default_extensions",
            "key_type",
            "allowed_extensions",
        }
        assert {name: role[name] for name in same} == {name: theirs[name] for name in same}
        assert client.ok("vault policy read ssh-ops").strip() == POLICIES["ssh-ops"].strip()


def test_what_stands_in_its_way(nursery: Nursery, openbao: OpenBao, tmp_path: Path):
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("not-a-token")
    command = ["import", "vault", "--token-file", str(token), "--ca-file", openbao.ca_file, "--dry-run"]
    with vault_service(nursery) as service:
        for address, words in (
            (openbao.url, "may not read"),
            ("http://192.0.2.1:8200", "plain HTTP"),
            ("ftp://x", "not the address"),
            ("https://127.0.0.1:1", "does not answer"),
        ):
            done = service.jitgate(*command, "--address", address)
            assert done.returncode != 0
            assert words in done.stderr
        token.chmod(0o644)
        assert "can be read by others" in service.jitgate(*command, "--address", openbao.url).stderr
