"""`ssh HOST true` as a person types it, through the gateway with a valid certificate, beside plain ssh with a key.

The same client, the same sshd, the same kind of key.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence

from tests.bench.rows import Row, median, timed
from tests.interop.plain import Plain, open_plain

from jitgate.app.demo.world import World
from jitgate.app.local_sshd import LocalHost
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
    """ssh with a key and no config at all."""
    host = world.hosts["web1"]
    return ["ssh", *with_key(world, [host]), "-p", str(host.port), f"ubuntu@{host.address}", "true"]


def with_key(world: World, hosts: Sequence[LocalHost]) -> list[str]:
    """Options of ssh for a new key that stands in the `authorized_keys` of ubuntu at these hosts, which are known."""
    key, file, known = generate_ed25519(), world.folder / "plain_key", world.folder / "plain_known_hosts"
    file.touch(mode=0o600)
    file.write_bytes(dump_private_key(key).reveal())
    for host in hosts:
        home = host.etc.parent / "home/ubuntu"
        authorized = home / ".ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700, exist_ok=True)
        authorized.write_text(key.public.line() + "\n")
        for path in (authorized.parent, authorized):
            os.chown(path, home.stat().st_uid, home.stat().st_gid)
    known.write_text("".join(f"[{host.address}]:{host.port} {host.host_key}\n" for host in hosts))
    options = (f"UserKnownHostsFile={known}", "IdentitiesOnly=yes", "BatchMode=yes")
    return ["-F", "none", "-i", str(file), *(f"-o{option}" for option in options)]
