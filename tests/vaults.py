"""A service with the Vault surface switched on, and the real client: `bao`, also under the name `vault`."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service import Nursery, Service, new_service

from jitgate.app.demo.openbao import find_bao
from jitgate.ca.mounts import MOUNT_TABLE

SETTING = "vault.plain_logins_unregistered_keys"


@contextmanager
def vault_service(nursery: Nursery, *, more: str = "", mounts: bool = True, **settings: Any) -> Iterator[Service]:
    """It runs, has an admin `olga`, and speaks plain HTTP unless told otherwise. `more`: lines of `[vault]`;
    `mounts`: whether the signer has its own table too."""
    with new_service(nursery, **settings) as service:
        with service.config.open("a") as file:
            file.write(f"\n[vault]\nplain_logins_unregistered_keys = true\n{more}")
        if mounts:
            with (service.state / "signer.toml").open("a") as file:
                file.write(MOUNT_TABLE)
        service.start()
        service.add_person("olga", admin=True)
        yield service


def admin_token(service: Service) -> str:
    return str(service.act("vault token", name="olga", ttl="1h")["token"])


class Client:
    """A shell in a home of its own, where `bao` and `vault` are the real program."""

    def __init__(self, service: Service, home: Path, programs: Path | None = None) -> None:
        self.home = home
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        self.bin = home / "bin"
        self.bin.mkdir(exist_ok=True)
        for name in ("bao", "vault"):
            link = self.bin / name
            if not link.exists():
                link.symlink_to(find_bao())
        path = [str(self.bin), *([str(programs)] if programs else []), os.environ["PATH"]]
        self.environment = {
            "PATH": os.pathsep.join(path),
            "HOME": str(home),
            "USER": "testuser",
            "LANG": "C.UTF-8",
            "VAULT_ADDR": f"{service.url}/vault",
            "VAULT_CLIENT_TIMEOUT": "20",
        }

    def sh(self, script: str, *, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """A script as a person types it, by bash; status, output and errors are the caller's to look at."""
        return subprocess.run(
            ["bash", "-c", script],
            input=stdin,
            env=self.environment | environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    def ok(self, script: str, **more: str) -> str:
        """The output of a script that must succeed."""
        done = self.sh(script, **more)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout
