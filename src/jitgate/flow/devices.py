"""Signing in by device flow (RFC 8628): the service asks the provider, the person answers with any browser.

There is no nonce in it. What binds the token to the key is that the key's proof has begun the sign-in and asks for its
end, and that the token comes from the provider to the service: the person's machine never sees it.
"""

from dataclasses import dataclass, field, replace

from jitgate.core.clock import MINUTE, SECOND, Micros
from jitgate.core.errors import BadInput, Denied, Error, NotFound, TooMany
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Provider
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.providers import Known, check_key, check_token, finish, provider_of
from jitgate.flow.sign_in import SignedIn, record_refusal, refusal_of_stranger
from jitgate.identity import sealing
from jitgate.identity.model import DeviceSignIn
from jitgate.identity.nonce import proof_subject
from jitgate.identity.oidc import TokenRefused
from jitgate.identity.proof import ProofClaim, verify_proof
from jitgate.identity.providers import DeviceStart, NotYet
from jitgate.identity.throttle import address_subject

WAITING_MAX = 1_000  # of everybody at a time: each is a code that somebody may still answer
WAITING_OF_ONE = 20  # of one address: an office behind one
BEGINNING: Micros = MINUTE  # for the provider to answer; a place that a crash left is free again then
SLOWER: Micros = 5 * SECOND  # RFC 8628, 3.5: what `slow_down` adds
DEVICE_CODE = "device_sign_in.device_code"
"""The purpose of a sealed device code; its row is the waiting sign-in's id."""


@dataclass(frozen=True, slots=True)
class Begun:
    waiting: DeviceSignIn
    start: DeviceStart


@dataclass(frozen=True, slots=True)
class Pending:
    """`interval`: not to be asked again before."""

    interval: Micros


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """What a stranger sent to begin. `claim` has `proof_subject(provider)` as its subject."""

    unverified_provider: str
    unverified_key: str
    unverified_proof: bytes = field(repr=False)
    claim: ProofClaim


async def begin_device(outside: Outside, evidence: DeviceEvidence, source: str) -> Begun:
    """A sign-in that waits for its person. Raises `BadInput`, `Unsafe`, `NotFound`, `TooMany`, `Unreachable`."""
    try:
        key, comment = check_key(outside, evidence.unverified_key, evidence.claim, evidence.unverified_proof)
        provider = provider_of(outside, evidence.unverified_provider)
        if "device" not in provider.settings.flows:
            what = f"{provider.settings.name} is not set up for the device flow"
            raise NotFound(what, "sign in with a browser: jitctl login", code="no_device_flow")
        now, name, network = outside.clock(), provider.settings.name, address_subject(source)
        place = DeviceSignIn(
            outside.new_id(now), name, key, comment, network, b"", SLOWER, now + BEGINNING, now + BEGINNING
        )
        await outside.store.write(lambda tx: _take_place(tx, now, place))
        try:
            start = await provider.begin_device()
        except Error:
            await outside.store.write(lambda tx: tx.device_sign_ins.remove(place.id))
            raise
        now = outside.clock()
        code = Secret(start.device_code.reveal().encode())
        sealed = sealing.seal(outside.sealing_key, DEVICE_CODE, place.id, code, outside.random)
        ends, next_at = now + start.lifetime, now + start.interval
        waiting = replace(place, device_code=sealed, interval=start.interval, next_at=next_at, expires_at=ends)
        await outside.store.write(lambda tx: _fill_place(tx, waiting))
    except Error as error:
        await record_refusal(outside, refusal_of_stranger(outside, error.code, "", source))
        raise
    return Begun(waiting, start)


async def find_waiting(outside: Outside, waiting_id: str) -> DeviceSignIn:
    """Raises `NotFound` for one that is not there, or has run out."""
    found = await outside.store.read(lambda tx: tx.device_sign_ins.by_id(waiting_id))
    if found is None or found.expires_at <= outside.clock():
        raise NotFound("this sign-in has ended", "begin again: jitctl login --device", code="device_expired")
    return found


async def end_device(
    outside: Outside, waiting: DeviceSignIn, claim: ProofClaim, unverified_proof: bytes, source: str
) -> SignedIn | Pending:
    """Ask whether the person has answered, and sign them in. The proof is by the key that began.

    Raises `BadInput`, `Denied` (they said no, it ran out, nobody here), `TokenRefused`, `Unreachable`.
    """
    try:
        if claim.subject != proof_subject(waiting.provider):
            raise BadInput("the proof is for another provider", "sign for the one that began", code="bad_proof")
        if verify_proof(unverified_proof, claim, origins=outside.origins, now=outside.clock()) != waiting.key:
            raise BadInput("the proof is by another key", "sign with the key that began", code="bad_proof")
        provider = provider_of(outside, waiting.provider)
        if outside.clock() < waiting.next_at or not await _is_our_turn(outside, waiting):
            return Pending(waiting.interval)
        try:
            return await _ask(outside, provider, waiting, source)
        except (Denied, TokenRefused):
            await outside.store.write(lambda tx: tx.device_sign_ins.remove(waiting.id))  # the code is spent
            raise
    except Error as error:
        await record_refusal(outside, refusal_of_stranger(outside, error.code, "", source, waiting.provider))
        raise


async def _is_our_turn(outside: Outside, waiting: DeviceSignIn) -> bool:
    """Two that ask at once are one for the provider."""
    return await outside.store.write(
        lambda tx: tx.device_sign_ins.take_turn(waiting, outside.clock(), waiting.interval)
    )


async def _ask(outside: Outside, provider: Provider, waiting: DeviceSignIn, source: str) -> SignedIn | Pending:
    code = sealing.unseal(outside.sealing_key, DEVICE_CODE, waiting.id, waiting.device_code).reveal().decode()
    answer = await provider.ask_device(Secret(code))
    if isinstance(answer, NotYet):
        if not answer.slower:
            return Pending(waiting.interval)
        slower, asked_at = waiting.interval + SLOWER, outside.clock()
        await outside.store.write(lambda tx: tx.device_sign_ins.slow_down(waiting.id, asked_at, slower))
        return Pending(slower)
    client_id = provider.settings.service_client_id
    token = await check_token(outside, provider, answer, client_id, nonce=None)
    known = Known(provider, token, waiting.key, waiting.comment, None)
    return await finish(outside, known, source, device=waiting.id)


def _take_place(tx: Tx, now: Micros, place: DeviceSignIn) -> None:
    """Counted before the provider is asked: of many who begin at once no more get through than one after the other."""
    waiting = tx.device_sign_ins
    waiting.forget(now)
    if waiting.count() >= WAITING_MAX or waiting.count(network=place.network) >= WAITING_OF_ONE:
        raise TooMany("too many sign-ins wait for their persons", "try again in a few minutes")
    waiting.add(place)


def _fill_place(tx: Tx, waiting: DeviceSignIn) -> None:
    tx.device_sign_ins.remove(waiting.id)
    tx.device_sign_ins.add(waiting)
