"""Events and logs for tests: every type with all it may carry, and logs with a key of their own."""

import random as seeded
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitgate.audit.checkpoint import Checkpoint, checkpoint_body, open_checkpoint, seal
from jitgate.audit.events import Actor, Event, EventType
from jitgate.audit.log import EMPTY, Entry, append
from jitgate.audit.shapes import SHAPES
from jitgate.audit.signed import SignedItem
from jitgate.audit.verify import Row
from jitgate.core.clock import SECOND
from jitgate.core.outcome import failed, passed

ALICE = "01K5A1CE000000000000000000"
BOB = "01K5B0B0000000000000000000"
GRANT = "01K5GRANT00000000000000000"
START = 1_760_000_000 * SECOND
ORIGIN = "jitgate.example.com/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
CA = "SHA256:" + "a" * 43

_VALUES: dict[str, object] = {
    "target": "ubuntu@host:web1",
    "subject": BOB,
    "subject_name": "bob",
    "request": "01K5REQ0000000000000000000",
    "grant": GRANT,
    "session": "01K5SESS000000000000000000",
    "key_id": f"jitgate grant={GRANT} person=alice",
    "source": "192.0.2.7",
    "reason": "disk full, ticket 42",
    "checks": (passed("group", "alice is in ops"), failed("host", "web1 has no label env=prod", "ask the owner")),
}


def an_event(kind: EventType, *, at: int = 0, everything: bool = True, serial: int = 1 << 62) -> Event:
    """The `at`-th event, of this type, with all fields it may carry, or only those it must."""
    shape = SHAPES[kind]
    fields = shape.must | shape.may | {"source", "request"} if everything else shape.must
    keys = shape.detail_must | (shape.detail_may if everything else {})
    values = {name: _VALUES[name] for name in fields - {"person", "serial"}}
    if "serial" in fields:
        values["serial"] = serial
    detail = {key: 7 if kind is int else f"some {key}" for key, kind in keys.items()}
    if "ca" in detail:
        detail |= {"ca": CA}
    if "digest" in detail:
        detail |= {"digest": f"{serial:064x}"}
    return Event(
        type=kind,
        outcome=shape.outcome,
        time=START + at * SECOND,
        realm="default",
        actor=Actor("person", ALICE, "alice"),
        detail=tuple(detail.items()),
        **values,  # type: ignore[arg-type]  # chosen by name
    )


@dataclass
class Sample:
    """A log of `entries`, a checkpoint over all of it, and the signer's list."""

    entries: tuple[Entry, ...]
    checkpoint: str
    signed: list[SignedItem]

    @property
    def rows(self) -> list[Row]:
        return [(entry.columns, entry.leaf, entry.personal) for entry in self.entries]

    @property
    def outside(self) -> Checkpoint:
        return open_checkpoint(self.checkpoint, ORIGIN, PUBLIC)


def make_log(kinds: Sequence[EventType], seed: int = 0) -> Sample:
    events = [an_event(kind, at=at, serial=(1 << 62) + at) for at, kind in enumerate(kinds)]
    _, entries = append(EMPTY, events, random=seeded.Random(seed).randbytes)
    signed = [
        SignedItem(CA, event.serial, f"{event.serial:064x}", event.time)
        for event in events
        if event.serial is not None
        and event.type is not EventType.LOGIN_BEGAN
        and event.type is not EventType.LOGIN_ALARM
    ]
    return Sample(entries, seal_at(entries, len(entries)), signed)


def seal_at(entries: Sequence[Entry], size: int) -> str:
    """A checkpoint over the first `size` entries."""
    frontier = EMPTY.extend(entry.leaf_hash for entry in entries[:size])
    return seal(checkpoint_body(ORIGIN, frontier), ORIGIN, KEY.sign, PUBLIC)
