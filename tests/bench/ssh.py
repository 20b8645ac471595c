"""`ssh HOST true` as a person types it, through the gateway with a valid certificate, beside plain ssh with a key.

The same client, the same sshd, the same kind of key.
"""

import os
import subprocess
from collections.abc import Iterator

from tests.bench.rows import Row, median, timed
from tests.interop.plain import Plain, open_plain

from jitgate.app.demo.world import World
from jitgate.ssh.private import dump_private_key, generate_ed25519

ROUNDS = 15


def ssh_true() -> Iterator[Row]:
    with open_plain() as (world, alice):
        ours = ["ssh", *Plain(alice, "tunnel").options, "ubuntu@web1", "true"]
        peer = _plain(world)

        def run(command: list[str]) -> float:
            more = {"env": alice.environment, "cwd": alice.home, "stdin": subprocess.DEVNULL}
            return timed(lambda: subprocess.run(command, check=True, capture_output=True, **more))  # type: ignore[call-overload]  # given by name

        run(ours)  # takes the certificate
        run(peer)
        took = [(run(ours), run(peer)) for _ in range(ROUNDS)]
    yield Row("ssh-true", "ms", median(a for a, _ in took), median(b for _, b in took), "ssh with a key", "<= 1.15")


def _plain(world: World) -> list[str]:
    """A key in the host's authorized_keys, and ssh with no config at all."""
    host, key = world.hosts["web1"], generate_ed25519()
    file = world.folder / "plain_key"
    file.touch(mode=0o600)
    file.write_bytes(dump_private_key(key).reveal())
    home = next(path for path in world.folder.rglob("home/ubuntu") if "web1" in str(path))
    authorized = home / ".ssh/authorized_keys"
    authorized.parent.mkdir(mode=0o700, exist_ok=True)
    authorized.write_text(key.public.line() + "\n")
    for path in (authorized.parent, authorized):
        os.chown(path, home.stat().st_uid, home.stat().st_gid)
    known = world.folder / "plain_known_hosts"
    known.write_text(f"[{host.address}]:{host.port} {host.host_key}\n")
    options = (f"UserKnownHostsFile={known}", "IdentitiesOnly=yes", "BatchMode=yes")
    where = [f"-o{option}" for option in options]
    return ["ssh", "-F", "none", "-i", str(file), *where, "-p", str(host.port), f"ubuntu@{host.address}", "true"]
