"""Who has left: asked of the directory about everybody who is signed in by it, every few seconds. Whose sign-in has
ended is asked about as long as something of theirs runs: signing out keeps nothing open.

What is issued asks the directory anyhow. This is for what runs already: somebody who is gone or disabled there loses
their sign-in and what it opened, grants and sessions; who is in none of a role's groups any more
loses the grant under that role. A directory that does not answer takes nothing away from what runs, and gives nothing
new.
"""

from collections.abc import Callable

from jitgate.audit.events import Actor
from jitgate.core.errors import Denied
from jitgate.flow.directory import directory_groups
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.flow.sessions import end_all_of, kept_sessions
from jitgate.flow.sign_in import end_sign_in
from jitgate.grants.model import Grant
from jitgate.identity.model import SignIn
from jitgate.identity.sign_in import stood_for, with_groups
from jitgate.policy.reach import is_for

SERVICE = Actor("service")


async def look_for_leavers(outside: Outside) -> None:
    """One round. Raises `Unreachable` where the directory does not answer."""
    found = await outside.store.read(lambda tx: tx.sign_ins.in_directory(outside.clock()))
    for sign_in in {(each.person_id, each.provider, each.directory_name): each for each in found}.values():
        await _look(outside, sign_in)


async def _look(outside: Outside, sign_in: SignIn) -> None:
    provider = outside.elsewhere.providers.get(sign_in.provider)
    if provider is None:
        return  # such a sign-in is refused whenever it is used
    try:
        groups = await directory_groups(outside, provider.settings, sign_in.directory_name, fresh=True)
    except Denied as error:
        code = error.code
        await outside.store.write(lambda tx: _leave(tx, outside, sign_in, code))
        return
    lost = await outside.store.read(lambda tx: _lost(tx, outside, sign_in, groups))
    if lost:
        await outside.store.write(lambda tx: _take(tx, outside, sign_in, _lost(tx, outside, sign_in, groups)))


def _leave(tx: Tx, outside: Outside, sign_in: SignIn, code: str) -> None:
    now, person = outside.clock(), tx.people.by_id(sign_in.person_id)
    why = "the directory does not vouch for its person any more"
    end_all_of(tx, sign_in.person_id, SERVICE, now, why, which=_of(sign_in))
    mine = [each for each in tx.sign_ins.in_directory(now) if each.person_id == sign_in.person_id]
    for each in mine:
        in_force = each.ended_at is None and each.expires_at > now
        if in_force and (each.issuer, each.subject) == (sign_in.issuer, sign_in.subject):
            end_sign_in(tx, each, SERVICE, now, code, whose=person)


def _lost(tx: Tx, outside: Outside, sign_in: SignIn, groups: tuple[str, ...]) -> frozenset[str]:
    """The grants that run, or have sessions that do, and whose roles are for none of the person's groups any more."""
    now, person = outside.clock(), tx.people.by_id(sign_in.person_id)
    grants = tx.grants.active(now, person_id=sign_in.person_id)
    grants += [grant for _, grant in kept_sessions(tx, sign_in.person_id, now)]
    running = [each for each in grants if _of(sign_in)(each)]
    if not running or person is None or person.disabled_at is not None:
        return frozenset()
    identity = with_groups(stood_for(sign_in, person), groups)
    policy = policy_in_force(tx)
    return frozenset(each.id for each in running if not is_for(policy, each.role, identity))


def _take(tx: Tx, outside: Outside, sign_in: SignIn, lost: frozenset[str]) -> None:
    why = "the directory has its person in none of the role's groups any more"
    end_all_of(tx, sign_in.person_id, SERVICE, outside.clock(), why, which=lambda grant: grant.id in lost)


def _of(sign_in: SignIn) -> Callable[[Grant], bool]:
    """Grants that were opened by this way of signing in."""
    return lambda grant: grant.holder.issuer == sign_in.issuer
