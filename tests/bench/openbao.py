"""The peer that issues SSH certificates: OpenBao with raft storage and a file audit device, as owners run it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jitgate.app.demo.openbao import OpenBao, open_bao

NAME = "OpenBao, raft and audit"

_AUDIT = """\
disable_mlock = true
audit "file" "file" {{
  options {{
    file_path = "{file}"
  }}
}}
"""
_ROLE = {
    "key_type": "ca",
    "allow_user_certificates": True,
    "allowed_users": "ubuntu",
    "default_extensions": {"permit-pty": ""},
    "ttl": "15m",
}


@dataclass(frozen=True, slots=True)
class Peer:
    port: int
    token: str

    def sign_request(self, public_key: str) -> bytes:
        body = json.dumps({"public_key": public_key, "valid_principals": "ubuntu"}).encode()
        head = f"POST /v1/ssh/sign/bench HTTP/1.1\r\nhost: 127.0.0.1\r\nx-vault-token: {self.token}\r\n"
        return head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def openbao(folder: Path) -> Iterator[Peer]:
    """A running, unsealed server with an SSH role and a userpass token."""
    with open_bao(folder, more=_AUDIT.format(file=folder / "audit.log")) as bao:
        yield Peer(urlsplit(bao.url).port or 0, _set_up(bao))


def _set_up(bao: OpenBao) -> str:
    """The token of who asks for certificates."""
    bao.ask("POST", "sys/mounts/ssh", {"type": "ssh"})
    bao.ask("POST", "ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"})
    bao.ask("POST", "ssh/roles/bench", _ROLE)
    rules = 'path "ssh/sign/bench" { capabilities = ["create", "update"] }'
    bao.ask("POST", "sys/policies/acl/bench", {"policy": rules})
    bao.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    user = {"password": "bench-password", "token_policies": "bench"}
    bao.ask("POST", "auth/userpass/users/bench", user)
    entered = bao.ask("POST", "auth/userpass/login/bench", {"password": "bench-password"})
    return str(entered["auth"]["client_token"])
