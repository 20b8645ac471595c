"""The signer's own rules, applied to what it is about to sign. It trusts nothing that the service says.

Rules for every certificate, in order:
1. The kind: user keys sign for persons, host keys for hosts, interception keys for the gateway's own names.
2. It begins at most 2 minutes ago and not later than in 5 seconds: none is made in advance.
3. It ends within the ceiling's lifetime, counted from now.
4. The certified key is of a type that is allowed.
5. The key id names grant and person, or host and realm.
6. For a person: as many principals as allowed at most, each `LOGIN@SCOPE:NAME` with an allowed scope and login.
   For a host: its own name and its alias under the realm's pattern, nothing else, no address, and no name that could be
   the gateway's or another host's alias. For the gateway: a host's name with `.rec` behind it, never a host's.
   For a Vault mount (`ca.mounts`): plain logins and no other.
7. Extensions and critical options only from the lists.

A rate for each key is counted apart (`next_slot`).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from jitgate.ca.agent_keys import AgentKeys
from jitgate.ca.mounts import MountCeiling, broken_by_mount
from jitgate.ca.names import (
    host_of_key_id,
    intercepted_of_key_id,
    is_name,
    is_taken,
    is_user_key_id,
    looks_like_address,
)
from jitgate.ca.rules import ANY, Ceiling, HostCeiling, InterceptionCeiling, UserCeiling
from jitgate.core.clock import MINUTE, SECOND, Micros
from jitgate.core.outcome import Check, failed
from jitgate.core.text import shown
from jitgate.ssh.cert import CertificateBody, CertType
from jitgate.ssh.options import Options

BEGIN_EARLIEST_S: Final = 120  # shape back-dates by 60 s; as much again for waiting in a queue
BEGIN_LATEST_S: Final = 5  # both processes run on one machine


def broken(body: CertificateBody, ceiling: Ceiling, now: Micros) -> list[Check]:
    """The rules that this certificate breaks, each a failed check; empty when the ceiling allows it."""
    checks = _any(body, ceiling, now // SECOND)
    if isinstance(ceiling, UserCeiling):
        return [*checks, *_user(body, ceiling)]
    if isinstance(ceiling, HostCeiling):
        return [*checks, *_host(body, ceiling)]
    if isinstance(ceiling, MountCeiling):
        return [*checks, *broken_by_mount(body, ceiling)]
    return [*checks, *_interception(body, ceiling)]


def next_slot(free_at: Micros, ceiling: Ceiling | AgentKeys, tick: Micros) -> Micros | None:
    """Count one signature against the rate: the key's new `free_at`, or None when it has to wait.

    `tick` is a monotonic clock in microseconds and `free_at` begins as 0. The generic cell rate algorithm: `free_at`
    runs ahead of the clock by one interval a signature, at most by the burst.
    """
    interval = MINUTE // ceiling.rate_per_minute
    start = max(free_at, tick)
    return None if start - tick > (ceiling.burst - 1) * interval else start + interval


def used_ahead(until: Micros, times: Iterable[Micros], ceiling: Ceiling, now: Micros) -> Micros:
    """How far `free_at` is ahead of `now`, if it was at `until` before something was signed at these times.

    By one clock, that of the wall: never more than the burst, however that was set.
    """
    interval = MINUTE // ceiling.rate_per_minute
    for time in times:
        until = max(until, time) + interval
    return min(max(until - now, 0), ceiling.burst * interval)


def _any(body: CertificateBody, ceiling: Ceiling, now_s: int) -> Iterator[Check]:
    kind = CertType.USER if isinstance(ceiling, UserCeiling | MountCeiling) else CertType.HOST
    if body.type is not kind:
        yield failed("kind", f"this key does not sign {body.type.name.lower()} certificates")
    if not now_s - BEGIN_EARLIEST_S <= body.valid_after <= now_s + BEGIN_LATEST_S:
        yield failed("begin", f"it begins {body.valid_after - now_s} s from now", "check the clocks")
    lifetime = body.valid_before - now_s
    if not 0 < lifetime <= ceiling.max_lifetime_s:
        yield failed("lifetime", f"it ends {lifetime} s from now, at most {ceiling.max_lifetime_s}", _raise("lifetime"))
    if body.key.algorithm not in ceiling.key_algorithms:
        yield failed("key_algorithm", f"a key of type {body.key.algorithm}", _raise("key_algorithms"))
    yield from _listed("extension", body.extensions, ceiling.extensions)


def _user(body: CertificateBody, ceiling: UserCeiling) -> Iterator[Check]:
    if not is_user_key_id(body.key_id):
        yield failed("key_id", f"the key id does not name grant and person: {shown(body.key_id)}")
    if len(body.principals) > ceiling.max_principals:
        yield failed("principals", f"{len(body.principals)} principals", _raise("max_principals"))
    for principal in body.principals:
        login, _, scope_and_name = principal.partition("@")
        scope, _, name = scope_and_name.partition(":")
        if scope not in ceiling.scopes or not is_name("host", name) or not is_name("login", login):
            yield failed("scope", f"the principal {shown(principal)} is not LOGIN@SCOPE:NAME", _raise("scopes"))
        elif login in ceiling.denied_logins or not (ANY in ceiling.logins or login in ceiling.logins):
            yield failed("login", f"the login {shown(login)}", _raise("logins"))
    yield from _listed("critical_option", body.critical_options, ceiling.critical_options)


def _host(body: CertificateBody, ceiling: HostCeiling) -> Iterator[Check]:
    name = host_of_key_id(body.key_id, ceiling.realm)
    if name is None:
        yield failed("key_id", f"the key id does not name host and realm: {shown(body.key_id)}")
    elif looks_like_address(name) or is_taken(name) or not {*body.principals} <= {name, name + ceiling.pattern[1:]}:
        yield failed("host_name", f"names that are not those of {name}: {shown(' '.join(body.principals))}")
    yield from _listed("critical_option", body.critical_options, frozenset())


def _interception(body: CertificateBody, ceiling: InterceptionCeiling) -> Iterator[Check]:
    name = intercepted_of_key_id(body.key_id, ceiling.realm)
    if name is None:
        yield failed("key_id", f"the key id does not name interception and realm: {shown(body.key_id)}")
    elif is_taken(name) or not {*body.principals} <= {f"{name}.rec", name + ceiling.pattern[1:]}:
        yield failed("host_name", f"names that are not the gateway's for {name}: {shown(' '.join(body.principals))}")
    yield from _listed("critical_option", body.critical_options, frozenset())


def _listed(check: str, options: Options, allowed: frozenset[str]) -> Iterator[Check]:
    for name, _ in options:
        if name not in allowed:
            yield failed(check, f"{name} is not allowed", _raise(f"{check}s"))


def _raise(name: str) -> str:
    return f"the signer's own file decides: {name} in signer.toml"
