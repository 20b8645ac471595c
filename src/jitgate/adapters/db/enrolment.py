"""Join tokens, hosts that wait for their owner, and what agents acknowledged."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from jitgate.adapters.db import agent_tables as t
from jitgate.core.clock import Micros
from jitgate.hosts.agent_wire import Problem
from jitgate.hosts.enrolment import HostState, HostTerms, KeptToken, Waiting
from jitgate.ssh.pubkey import PublicKey, parse_public_key


class JoinTokens:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def add(self, token: KeptToken) -> None:
        self._c.execute(
            insert(t.join_token).values(
                id=token.id,
                token_hash=token.hash,
                again=token.again,
                made_at=token.made_at,
                expires_at=token.expires_at,
                used_at=token.used_at,
                **_put_terms(token.terms),
            )
        )

    def by_hash(self, token_hash: bytes) -> KeptToken | None:
        row = self._c.execute(select(t.join_token).where(t.join_token.c.token_hash == token_hash)).one_or_none()
        if row is None:
            return None
        return KeptToken(
            id=row.id,
            hash=row.token_hash,
            terms=_terms(row),
            again=row.again,
            made_at=row.made_at,
            expires_at=row.expires_at,
            used_at=row.used_at,
            used_by=parse_public_key(row.used_by) if row.used_by else None,
        )

    def use(self, token_id: str, at: Micros, key: PublicKey) -> None:
        mine = t.join_token.c.id == token_id
        self._c.execute(update(t.join_token).where(mine).values(used_at=at, used_by=key.blob))

    def forget(self, before: Micros) -> None:
        """Drop those that ran out before."""
        self._c.execute(delete(t.join_token).where(t.join_token.c.expires_at < before))

    def drop(self, realm: str, name: str) -> None:
        """Those for a name: only the newest counts."""
        mine = (t.join_token.c.realm_id == realm) & (t.join_token.c.name == name)
        self._c.execute(delete(t.join_token).where(mine))


class WaitingHosts:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def put(self, waiting: Waiting) -> None:
        """In the place of who waited under that name."""
        self.remove(waiting.terms.realm, waiting.terms.name)
        self._c.execute(
            insert(t.host_waiting).values(
                host_key=waiting.key.blob,
                how=waiting.how,
                source=waiting.source,
                asked_at=waiting.asked_at,
                approved_at=waiting.approved_at,
                **_put_terms(waiting.terms),
            )
        )

    def by_name(self, realm: str, name: str) -> Waiting | None:
        row = self._c.execute(select(t.host_waiting).where(_waits(realm, name))).one_or_none()
        return None if row is None else _waiting(row)

    def all(self) -> list[Waiting]:
        ordered = select(t.host_waiting).order_by(t.host_waiting.c.realm_id, t.host_waiting.c.name)
        return [_waiting(row) for row in self._c.execute(ordered)]

    def approve(self, realm: str, name: str, at: Micros) -> None:
        self._c.execute(update(t.host_waiting).where(_waits(realm, name)).values(approved_at=at))

    def remove(self, realm: str, name: str) -> None:
        self._c.execute(delete(t.host_waiting).where(_waits(realm, name)))

    def forget(self, before: Micros) -> None:
        """Drop those that asked before."""
        self._c.execute(delete(t.host_waiting).where(t.host_waiting.c.asked_at < before))


class HostStates:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def put(self, states: Sequence[HostState]) -> None:
        """Each in the place of what was known of its host.

        An agent speaks to two nodes: what one of them heard later is not undone by what the other heard before.
        """
        if not states:
            return
        rows = [_put_state(state) for state in states]
        standing = select(*(_S[name] for name in ("host_id", "node_id", *_BUNDLE, *_TRUST, *_HOST_CA)))
        found = self._c.execute(standing.where(_S.host_id.in_([row["host_id"] for row in rows])))
        known = {row.host_id: row._asdict() for row in found}
        for row in rows:
            _keep_later(row, known.get(str(row["host_id"])))
        if new := [row for row in rows if row["host_id"] not in known]:
            self._c.execute(insert(t.host_state), new)
        if old := [{"which": row["host_id"], **row} for row in rows if row["host_id"] in known]:
            self._c.execute(update(t.host_state).where(_S.host_id == bindparam("which")), old)

    def by_host(self, host_id: str) -> HostState | None:
        row = self._c.execute(select(t.host_state).where(_S.host_id == host_id)).one_or_none()
        return None if row is None else _state(row)

    def all(self, realm: str | None = None) -> list[HostState]:
        query = select(t.host_state) if realm is None else select(t.host_state).where(_S.realm_id == realm)
        return [_state(row) for row in self._c.execute(query)]

    def gone(self, host_ids: Sequence[str], node: str, at: Micros) -> None:
        """They are not connected to this node any more."""
        mine = _S.host_id.in_(host_ids) & (_S.node_id == node)
        self._c.execute(update(t.host_state).where(mine).values(connected_at=None, seen_at=at))

    def none_connected(self, node: str) -> None:
        """This node begins: nobody is connected to it."""
        mine = (_S.node_id == node) & _S.connected_at.is_not(None)
        self._c.execute(update(t.host_state).where(mine).values(connected_at=None))

    def seen(self, node: str, at: Micros) -> None:
        """All that are connected to this node."""
        mine = (_S.node_id == node) & _S.connected_at.is_not(None)
        self._c.execute(update(t.host_state).where(mine).values(seen_at=at))


_S = t.host_state.c


def _waits(realm: str, name: str) -> Any:  # noqa: ANN401  # a clause of SQLAlchemy's
    return (t.host_waiting.c.realm_id == realm) & (t.host_waiting.c.name == name)


def _put_terms(terms: HostTerms) -> dict[str, object]:
    return {
        "realm_id": terms.realm,
        "name": terms.name,
        "address": terms.address,
        "port": terms.port,
        "reach": terms.reach,
        "labels": json.dumps(dict(terms.labels), sort_keys=True),
        "logins": json.dumps(terms.logins),
    }


def _terms(row: Row[Any]) -> HostTerms:
    logins = tuple(json.loads(row.logins))
    return HostTerms(row.realm_id, row.name, row.address, row.port, json.loads(row.labels), logins, row.reach)


def _waiting(row: Row[Any]) -> Waiting:
    return Waiting(_terms(row), parse_public_key(row.host_key), row.how, row.source, row.asked_at, row.approved_at)


def _put_state(state: HostState) -> dict[str, object]:
    bundle, trust = state.bundle or (0, 0, 0), state.trust or (0, 0)
    return {
        "host_id": state.host_id,
        "realm_id": state.realm,
        "node_id": state.node,
        "connected_at": state.connected_at,
        "seen_at": state.seen_at,
        "agent": state.agent,
        "bundle": " ".join(map(str, state.bundle)) if state.bundle else "",
        "bundle_epoch": bundle[0],
        "bundle_counter": bundle[1],
        "bundle_at": state.bundle_at,
        "trust_epoch": trust[0],
        "trust_counter": trust[1],
        "trust_at": state.trust_at if state.trust else None,
        "krl": state.krl,
        "host_ca": state.host_ca,
        "host_ca_at": state.host_ca_at if state.host_ca else None,
        "clock_off": state.clock_off,
        "problems": json.dumps([[each.code, each.detail] for each in state.problems]),
    }


_BUNDLE = ("bundle_epoch", "bundle_counter", "bundle", "bundle_at", "krl")
_TRUST = ("trust_epoch", "trust_counter", "trust_at")
_HOST_CA = ("host_ca", "host_ca_at")


def _keep_later(row: dict[str, Any], before: Mapping[str, Any] | None) -> None:
    if before is None or before["node_id"] == row["node_id"]:
        return
    for names, at in ((_BUNDLE, "bundle_at"), (_TRUST, "trust_at")):
        is_older = (row[names[0]], row[names[1]]) < (before[names[0]], before[names[1]])
        if is_older and row[at] is not None:  # an agent that has none has lost it
            row.update({name: before[name] for name in names})
    if row["host_ca"] and (row["host_ca_at"] or 0) < (before["host_ca_at"] or 0):
        row.update({name: before[name] for name in _HOST_CA})


def _state(row: Row[Any]) -> HostState:
    bundle = tuple(int(part) for part in row.bundle.split())
    return HostState(
        host_id=row.host_id,
        realm=row.realm_id,
        node=row.node_id,
        connected_at=row.connected_at,
        seen_at=row.seen_at,
        agent=row.agent,
        bundle=(bundle[0], bundle[1], bundle[2]) if bundle else None,
        bundle_at=row.bundle_at,
        trust=(row.trust_epoch, row.trust_counter) if row.trust_at else None,
        trust_at=row.trust_at,
        krl=row.krl,
        host_ca=row.host_ca,
        host_ca_at=row.host_ca_at,
        clock_off=row.clock_off,
        problems=tuple(Problem(code, detail) for code, detail in json.loads(row.problems)),
    )
