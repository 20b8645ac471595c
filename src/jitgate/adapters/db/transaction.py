"""One transaction, as the acts see it (`flow.ports.Tx`): a drawer for each kind of row."""

from sqlalchemy import Connection, select, update

from jitgate.adapters.db import tables as t
from jitgate.adapters.db.authorities import Authorities
from jitgate.adapters.db.certificates import Certificates
from jitgate.adapters.db.grants import Grants
from jitgate.adapters.db.hosts import Hosts
from jitgate.adapters.db.keys import Keys
from jitgate.adapters.db.log import Log
from jitgate.adapters.db.people import People
from jitgate.adapters.db.policies import Policies
from jitgate.adapters.db.sign_ins import SignIns
from jitgate.adapters.db.throttles import Throttles

REVOCATION_EPOCH = "revocation_epoch"


class Transaction:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.people = People(connection)
        self.throttles = Throttles(connection)
        self.sign_ins = SignIns(connection)
        self.keys = Keys(connection)
        self.hosts = Hosts(connection)
        self.policies = Policies(connection)
        self.grants = Grants(connection)
        self.certificates = Certificates(connection)
        self.authorities = Authorities(connection)
        self.log = Log(connection)

    def epoch(self) -> int:
        value = self.connection.scalar(select(t.meta.c.value).where(t.meta.c.name == REVOCATION_EPOCH))
        return int(value or 0)

    def move_epoch(self) -> None:
        row = t.meta.c.name == REVOCATION_EPOCH
        self.connection.execute(update(t.meta).where(row).values(value=str(self.epoch() + 1)))
