"""A local host is told whom to trust: the very script that a real one runs."""

import subprocess
from pathlib import Path

from jitgate.agent.script import render
from jitgate.agent.trust import parse
from jitgate.app.local_sshd import LocalHost
from jitgate.core.errors import Unreachable


def install_trust(host: LocalHost, text: str, trust_file: Path) -> None:
    """`jitgate host trust` with this trust file, as the host's own user. `Unreachable` with its words if it fails."""
    trust_file.write_text(text)
    script = trust_file.with_suffix(".sh")
    script.write_text(render(parse(trust_file.read_bytes())))
    trust_file.chmod(0o644)
    script.chmod(0o644)
    done = subprocess.run(
        [
            "/bin/sh",
            str(script),
            "--etc",
            str(host.etc),
            "--sshd",
            str(host.own_sshd()),
            "--reload",
            "true",  # once, below: a signal to an sshd that is starting anew would end it
        ],
        env=host.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Unreachable(f"{host.name} did not take the trust file: {done.stderr or done.stdout}")
    host.reload()
