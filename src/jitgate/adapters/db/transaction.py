"""One transaction, as the acts see it (`flow.ports.Tx`): a drawer for each kind of row."""

from sqlalchemy import Connection, bindparam, insert, select, update

from jitgate.adapters.db import postgres
from jitgate.adapters.db import tables as t
from jitgate.adapters.db.authorities import Authorities
from jitgate.adapters.db.certificates import Certificates
from jitgate.adapters.db.device_sign_ins import DeviceSignIns
from jitgate.adapters.db.enrolment import HostStates, JoinTokens, WaitingHosts
from jitgate.adapters.db.grants import Grants
from jitgate.adapters.db.host_logins import HostLogins
from jitgate.adapters.db.hosts import Hosts
from jitgate.adapters.db.identities import Identities
from jitgate.adapters.db.keys import Keys
from jitgate.adapters.db.log import Log
from jitgate.adapters.db.nodes import Nodes
from jitgate.adapters.db.people import People
from jitgate.adapters.db.policies import Policies
from jitgate.adapters.db.prepared import Prepared
from jitgate.adapters.db.realms import Realms, Rotations
from jitgate.adapters.db.revocations import Revocations
from jitgate.adapters.db.sessions import Sessions
from jitgate.adapters.db.sign_ins import SignIns
from jitgate.adapters.db.throttles import Throttles
from jitgate.adapters.db.vault import Vault

REVOCATION_EPOCH = "revocation_epoch"
STATE_COUNTER = "state_counter"
TRUST_COUNTER = "trust_counter"

_VALUE = Prepared(select(t.meta.c.value).where(t.meta.c.name == bindparam("name")), "name")


class Transaction:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._epoch: int | None = None  # as this transaction knows it
        self.people = People(connection)
        self.throttles = Throttles(connection)
        self.sign_ins = SignIns(connection)
        self.identities = Identities(connection)
        self.device_sign_ins = DeviceSignIns(connection)
        self.keys = Keys(connection)
        self.hosts = Hosts(connection)
        self.policies = Policies(connection)
        self.grants = Grants(connection)
        self.certificates = Certificates(connection)
        self.authorities = Authorities(connection, self.move_trust)
        self.realms = Realms(connection)
        self.rotations = Rotations(connection)
        self.revocations = Revocations(connection, self.certificates.write_pending)
        self.sessions = Sessions(connection)
        self.nodes = Nodes(connection)
        self.join_tokens = JoinTokens(connection)
        self.waiting_hosts = WaitingHosts(connection)
        self.host_states = HostStates(connection)
        self.host_logins = HostLogins(connection)
        self.vault = Vault(connection)
        self.log = Log(connection)

    def value(self, name: str) -> str | None:
        value: str | None = _VALUE.scalar(self.connection, (name,))
        return value

    def set_value(self, name: str, value: str) -> None:
        changed = self.connection.execute(update(t.meta).where(t.meta.c.name == name).values(value=value))
        if changed.rowcount == 0:
            self.connection.execute(insert(t.meta).values(name=name, value=value))

    def epoch(self) -> int:
        if self._epoch is None:
            self._epoch = int(self.value(REVOCATION_EPOCH) or 0)
        return self._epoch

    def move_epoch(self) -> None:
        self._epoch = self.epoch() + 1
        self.set_value(REVOCATION_EPOCH, str(self._epoch))
        if self.connection.dialect.name == postgres.BACKEND:
            self.connection.execute(postgres.NOTIFY, {"epoch": str(self._epoch)})

    def state(self) -> int:
        return int(self.value(STATE_COUNTER) or 0)

    def move_state(self) -> int:
        counter = self.state() + 1
        self.set_value(STATE_COUNTER, str(counter))
        self.move_epoch()
        return counter

    def trust(self) -> int:
        return int(self.value(TRUST_COUNTER) or 0)

    def move_trust(self) -> None:
        self.set_value(TRUST_COUNTER, str(self.trust() + 1))
        self.move_epoch()

    def forget_epoch(self) -> None:
        """A part of this transaction was undone: ask the database again."""
        self._epoch = None
