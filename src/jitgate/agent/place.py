"""Where an agent's files lie, and which sshd it is about."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jitgate.agent.sshd import Sshd


@dataclass(frozen=True, slots=True)
class Place:
    """`config`: what the host was told; `state`: what it holds since."""

    config: Path
    state: Path
    sshd: Sshd

    @property
    def authority(self) -> Path:
        """The TLS authority that the join token pins, in PEM."""
        return self.state / "tls-ca.pem"


Say = Callable[[str, str], None]
"""A line for whoever runs it: a word, and what was done."""
