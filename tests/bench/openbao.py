"""The peer that issues SSH certificates: OpenBao with raft storage and a file audit device, as owners run it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.service import free_port

PATIENCE_S = 30
NAME = "OpenBao, raft and audit"

CONFIG = """\
storage "raft" {{
  path = "{folder}/raft"
  node_id = "bench"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster}"
disable_mlock = true
audit "file" "file" {{
  options {{
    file_path = "{folder}/audit.log"
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class OpenBao:
    port: int
    token: str
    pid: int

    def sign_request(self, public_key: str) -> bytes:
        body = json.dumps({"public_key": public_key, "valid_principals": "ubuntu"}).encode()
        head = f"POST /v1/ssh/sign/bench HTTP/1.1\r\nhost: 127.0.0.1\r\nx-vault-token: {self.token}\r\n"
        return head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def openbao(bao: str, folder: Path) -> Iterator[OpenBao]:
    """A running, unsealed server with an SSH role and a userpass token."""
    port = free_port()
    (folder / "raft").mkdir(parents=True)
    config = folder / "bao.hcl"
    config.write_text(CONFIG.format(folder=folder, port=port, cluster=free_port()))
    with (folder / "bao.log").open("wb") as log:
        process = subprocess.Popen([bao, "server", f"-config={config}"], stdout=log, stderr=log)
    try:
        yield _set_up(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _set_up(port: int, pid: int) -> OpenBao:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            made = _ask(port, "PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    _ask(port, "PUT", "sys/unseal", {"key": made["keys"][0]})
    root = made["root_token"]
    while _ask(port, "GET", "sys/leader", None, root).get("is_self") is not True:
        time.sleep(0.1)
    _ask(port, "POST", "sys/mounts/ssh", {"type": "ssh"}, root)
    _ask(port, "POST", "ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"}, root)
    role = {
        "key_type": "ca",
        "allow_user_certificates": True,
        "allowed_users": "ubuntu",
        "default_extensions": {"permit-pty": ""},
        "ttl": "15m",
    }
    _ask(port, "POST", "ssh/roles/bench", role, root)
    rules = 'path "ssh/sign/bench" { capabilities = ["create", "update"] }'
    _ask(port, "POST", "sys/policies/acl/bench", {"policy": rules}, root)
    _ask(port, "POST", "sys/auth/userpass", {"type": "userpass"}, root)
    user = {"password": "bench-password", "token_policies": "bench"}
    _ask(port, "POST", "auth/userpass/users/bench", user, root)
    entered = _ask(port, "POST", "auth/userpass/login/bench", {"password": "bench-password"})
    return OpenBao(port, entered["auth"]["client_token"], pid)


def _ask(port: int, method: str, path: str, body: object, token: str = "") -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        headers = {"x-vault-token": token} if token else {}
        connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    if response.status >= 400:
        raise AssertionError(f"{path}: {response.status} {text.decode()}")
    found: dict[str, Any] = json.loads(text) if text else {}
    return found
