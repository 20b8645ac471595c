"""What the store keeps of sessions that gateways carry, and of logins that hosts' agents report."""

from typing import Protocol

from jitgate.core.clock import Micros
from jitgate.hosts.host_login import KeptLogin
from jitgate.sessions.session import Session, Why


class Sessions(Protocol):
    def add(self, session: Session) -> None: ...
    def by_id(self, session_id: str) -> Session | None: ...
    def open(self, *, person_id: str | None = None, limit: int) -> list[Session]:
        """Newest first."""
        ...

    def latest(self, limit: int, *, person_id: str | None = None) -> list[Session]:
        """Newest first, ended ones too."""
        ...

    def at_port(self, host_id: str, port: int, since: Micros) -> list[Session]:
        """Open ones and those that ended since, by where the host sees them come from. Newest first."""
        ...

    def count_open(self, grant_id: str) -> int: ...
    def end(self, session_id: str, at: Micros, why: str, up: int, down: int) -> bool:
        """False if it had ended already."""
        ...

    def ask_to_end(self, session_id: str, at: Micros) -> bool:
        """Whoever carries it finds it in `to_end`. True the first time."""
        ...

    def to_end(self, node: str) -> list[tuple[str, Why]]:
        """Open sessions of a node from whose person, grant, key or host something was taken, or that were killed."""
        ...

    def left_open(self, node: str, silent_since: Micros) -> list[Session]:
        """Open sessions of this node, and of those that were not seen since."""
        ...


class HostLogins(Protocol):
    """By host and by the id that its agent gave."""

    def add(self, kept: KeptLogin) -> bool:
        """False if that host has reported one by that id already."""
        ...

    def by_id(self, host_id: str, login_id: str) -> KeptLogin | None: ...
    def end(self, host_id: str, login_id: str, at: Micros) -> KeptLogin | None:
        """The login as it was, the first time."""
        ...

    def ask_to_end(self, host_id: str, login_id: str, at: Micros) -> None:
        """The host's agent finds it in its bundle (`wanted`)."""
        ...

    def ask_to_end_session(self, session_id: str, at: Micros) -> bool:
        """The logins that came through it. Whether there are any."""
        ...

    def wanted(self, since: Micros) -> list[tuple[str, str, int]]:
        """Host, id and port of those that are to end since then, newest first."""
        ...

    def ran_out(self, since: Micros, until: Micros) -> bool:
        """Whether a grant by which somebody logged in on a host with an agent ran out in that time."""
        ...

    def forget(self, before: Micros) -> None:
        """Drop those that ended, or were last heard of, before."""
        ...
