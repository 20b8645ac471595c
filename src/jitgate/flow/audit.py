"""The log from the outside: searched, signed, and compared with what the signer says it signed."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from jitgate.audit.checkpoint import parse_body, seal
from jitgate.audit.events import Actor, Event, EventType
from jitgate.audit.log import Columns
from jitgate.audit.query import Query
from jitgate.ca.model import SignedEntry, SignerRefusal
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Denied, TooMany
from jitgate.core.outcome import failed
from jitgate.flow.caller import Caller, resume_caller
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.ssh.cert import Certificate, CertType, to_be_signed

SERVICE = Actor("service")
SIGNED_OFFSET = "signed_offset"  # of each node: how far its signer's list has been compared with the log
CHECKPOINTS = "checkpoints"  # the lease of the node that has them signed
LEASE: Micros = 5 * SECOND  # so long after a node's last checkpoint another one goes on with them


WAITING_MAX = 8  # questions of one person that wait at a time: each looks again and again


@contextmanager
def one_who_waits(outside: Outside, caller: Caller) -> Iterator[None]:
    """While a question waits for its answer. `TooMany` if too many of that person's wait already."""
    person = caller.identity.person_id
    if outside.waiting[person] >= WAITING_MAX:
        raise TooMany(f"{WAITING_MAX} questions of yours wait for the log already", "end some of them")
    outside.waiting[person] += 1
    try:
        yield
    finally:
        outside.waiting[person] -= 1
        if not outside.waiting[person]:
            del outside.waiting[person]


async def search(outside: Outside, caller: Caller, query: Query) -> list[tuple[Columns, bytes, str]]:
    """The entries that the query asks for: everybody their own, admins all. `Denied` for another person's.

    The caller is looked up again: who waits for the next entry asks often, and may lose the right meanwhile.
    """

    def job(tx: Tx) -> list[tuple[Columns, bytes, str]]:
        identity = resume_caller(tx, outside, caller.sign_in.token_hash, caller.source).identity
        if not identity.admin and query.person != identity.person_id:
            raise Denied("you may read your own entries only", "ask an admin for the others")
        return tx.log.search(query)

    return await outside.store.read(job)


async def publish_checkpoint(outside: Outside) -> str | None:
    """Have the log as it stands signed, and keep the checkpoint; None if the newest one says it already.

    Only what is durable is signed: the body is read from the store after the commit. Of several nodes one does it,
    the one that did it last; should two, both checkpoints are good.
    """
    body, newest, ours = await outside.store.read(partial(_unsigned, outside=outside))
    if not ours or (newest is not None and newest.startswith(body.decode())):
        return None
    answer = await outside.signer.checkpoint(body)
    checkpoint = parse_body(body)
    now = outside.clock()
    if isinstance(answer, SignerRefusal):
        refusal = Event(
            EventType.CHECKPOINT_REFUSED,
            "refused",
            now,
            DEFAULT_REALM,
            SERVICE,
            checks=(failed(answer.code, answer.why, answer.hint),),
            detail=(("size", checkpoint.size), ("root", checkpoint.root.hex())),
        )
        await outside.store.write(partial(_record_once, refusal=refusal))
        raise Denied(f"the signer does not sign the log: {answer.why}", answer.hint, code="checkpoint_refused")
    held = await outside.signer.keys()
    text = seal(body, checkpoint.origin, lambda _: answer, held.log.blob[-32:])

    def keep(tx: Tx) -> None:
        tx.log.add_checkpoint(checkpoint.size, text, now)
        tx.nodes.take(CHECKPOINTS, outside.node, now + LEASE)

    await outside.store.write(keep)
    return text


def _unsigned(tx: Tx, outside: Outside) -> tuple[bytes, str | None, bool]:
    """What a checkpoint would say, the newest one, and whether it is ours to have the next one made."""
    ours = tx.nodes.may_take(CHECKPOINTS, outside.node, outside.clock(), LEASE)
    return tx.log.checkpoint_body(), tx.log.latest_checkpoint(), ours


def _record_once(tx: Tx, refusal: Event) -> None:
    """Unless it is the newest entry already: the log must not outgrow a signed size by its own refusals."""
    newest = tx.log.search(Query(limit=1))
    if not newest or newest[0][0].type != refusal.type:
        tx.log.append(refusal)


async def reconcile(outside: Outside, *, settled: Micros = 0) -> int:
    """Record what this node's signer signed and the log does not know; the number of such certificates.

    After a crash between signature and commit these are certificates that never left. A certificate that was obtained
    behind the service's back shows here too, and there is no way to tell the two apart: the entry says what it opens.

    What was signed less than `settled` ago may be on its way to the log, and is left for the next time. What is older
    and still comes finds its serial burnt: the epoch has moved.
    """
    found = 0
    before = outside.clock() - settled if settled else None
    offset = int(await outside.store.read(lambda tx: tx.value(_offset_of(outside.node))) or 0)
    while True:
        page = await outside.signer.signed(offset)
        if page.next == offset:
            return found
        old = [entry for entry in page.entries if before is None or entry.time < before]
        whole = len(old) == len(page.entries)
        found += await outside.store.write(
            partial(_compare, outside=outside, entries=old, offset=page.next if whole else offset)
        )
        if not whole:
            return found
        offset = page.next


def _compare(tx: Tx, outside: Outside, entries: Sequence[SignedEntry], offset: int) -> int:
    logged = tx.log.logged([(entry.ca, entry.serial) for entry in entries])
    missing = [entry for entry in entries if (entry.ca, entry.serial) not in logged]
    for entry in missing:
        tx.log.append(_unreleased(outside, entry))
    if missing:
        _revoke(tx, missing)
    tx.set_value(_offset_of(outside.node), str(offset))
    return len(missing)


def _revoke(tx: Tx, missing: Sequence[SignedEntry]) -> None:
    """Nobody was given these by us. Whoever has one all the same got it past us: hosts are not to take it.

    Persons' only: in a database that was put back, what hosts got since is missing too, and they would be shut out.
    """
    authorities = {each.key.fingerprint: each for each in tx.authorities.all()}
    for entry in missing:
        if entry.type is CertType.USER and (authority := authorities.get(entry.ca)) is not None:
            tx.revocations.take_unreleased(authority, entry.serial, entry.valid_before * SECOND)
    tx.move_state()


def _offset_of(node: str) -> str:
    return f"{SIGNED_OFFSET} {node}"


def record_burnt(tx: Tx, outside: Outside, certificate: Certificate) -> None:
    """Inside the transaction that would have released it: this certificate never leaves. Once is enough."""
    body = certificate.body
    entry = SignedEntry(
        time=outside.clock(),
        realm=DEFAULT_REALM,
        ca=body.ca.fingerprint,
        type=body.type,
        serial=body.serial,
        key_id=body.key_id,
        key=body.key.fingerprint,
        principals=body.principals,
        valid_before=body.valid_before,
        tbs_sha256=hashlib.sha256(to_be_signed(body, certificate.nonce)).hexdigest(),
    )
    if not tx.log.logged([(entry.ca, entry.serial)]):
        tx.log.append(_unreleased(outside, entry))


def _unreleased(outside: Outside, entry: SignedEntry) -> Event:
    """What it opens, and for which key, stands in the entry: whoever reads it can tell whether it matters."""
    return Event(
        EventType.CERTIFICATE_UNRELEASED,
        "done",
        outside.clock(),
        DEFAULT_REALM,
        SERVICE,
        key_id=entry.key_id,
        serial=entry.serial,
        detail=(
            ("ca", entry.ca),
            ("digest", entry.tbs_sha256),
            ("kind", entry.type.name.lower()),
            ("fingerprint", entry.key),
            ("principals", " ".join(entry.principals)[:2000]),
            ("valid_before", entry.valid_before * SECOND),
        ),
    )
