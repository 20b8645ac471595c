"""A session: one connection to a host that the gateway carries, from its admission to its end."""

from dataclasses import dataclass
from enum import StrEnum

from jitgate.core.clock import Micros


class Why(StrEnum):
    """Why a session ended, as it stands in the log and in lists. The first two are the ordinary ends."""

    CLIENT_CLOSED = "the client closed it"
    HOST_CLOSED = "the host closed it"
    CLIENT_GONE = "the client's connection broke"
    HOST_GONE = "the host's connection broke"
    HALF_CLOSED = "one side had closed and the other said nothing"
    DEADLINE = "its time was up"
    GRANT_ENDED = "its grant was ended"
    PERSON_DISABLED = "its person was disabled"
    KEY_REMOVED = "its key was removed"
    HOST_REMOVED = "its host was removed"
    KILLED = "it was killed"
    STOPPED = "the gateway stopped"
    CRASHED = "the gateway crashed"
    LOST = "its gateway stopped answering"
    BLIND = "the gateway could not ask the database for too long"


TAKEN = (Why.PERSON_DISABLED, Why.GRANT_ENDED, Why.KEY_REMOVED, Why.HOST_REMOVED, Why.KILLED)
"""What takes a session away, the gravest first."""


@dataclass(frozen=True, slots=True)
class Session:
    """`source`: the client's address. `node`: which process carries it. `via`, `port`: the address and port that the
    host's sshd sees and logs: the gateway's own or, for a connection that was dialled back, its agent's. `up`, `down`:
    bytes to the host and from it, known at the end."""

    id: str
    realm: str
    grant_id: str
    person_id: str
    person_name: str
    key_id: str
    host_id: str
    host: str
    login: str
    node: str
    source: str
    port: int
    opened_at: Micros
    ends_at: Micros
    ended_at: Micros | None = None
    end_reason: str = ""
    up: int = 0
    down: int = 0
    kind: str = "tunnel"
    via: str = ""

    @property
    def target(self) -> str:
        return f"{self.login}@host:{self.host}"
