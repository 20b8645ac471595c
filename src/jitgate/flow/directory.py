"""The groups of persons that a directory knows: asked for whenever something is decided, never remembered in a row."""

from dataclasses import replace

from jitgate.core.errors import Denied, Error, Unreachable
from jitgate.flow.caller import Caller
from jitgate.flow.outside import Outside
from jitgate.identity.model import SignIn
from jitgate.identity.oidc import GROUPS_MAX, nameable_groups
from jitgate.identity.providers import ProviderSettings
from jitgate.identity.sign_in import with_groups


async def know_groups(outside: Outside, caller: Caller) -> Caller:
    """The caller with the groups that the directory has them in now; the same caller where it is not asked.

    Raises `Denied` for somebody who is gone or disabled there, `Unreachable` where it does not answer.
    """
    groups = await groups_of(outside, caller.sign_in)
    if groups is None:
        return caller
    return replace(caller, identity=with_groups(caller.identity, groups), directory=groups)


async def groups_of(outside: Outside, sign_in: SignIn) -> tuple[str, ...] | None:
    """As `know_groups`, for a sign-in; None where its groups do not come from the directory."""
    if not sign_in.directory_name:
        return None
    provider = outside.elsewhere.providers.get(sign_in.provider)
    if provider is None:
        raise Denied("the provider of this sign-in is not set up any more", "sign in again: jitctl login")
    return await directory_groups(outside, provider.settings, sign_in.directory_name)


async def who_am_i(outside: Outside, caller: Caller) -> Caller:
    """As `know_groups`, for showing: what is wrong stands in `identity.unknown`."""
    try:
        return await know_groups(outside, caller)
    except Error as error:
        return replace(caller, identity=replace(caller.identity, unknown=error.what))


async def directory_groups(
    outside: Outside, settings: ProviderSettings, name: str, *, fresh: bool = False
) -> tuple[str, ...]:
    """As `know_groups`, for a name that a token of the provider has given."""
    try:
        found = await outside.elsewhere.directory.groups(name, outside.clock(), fresh=fresh)
    except Unreachable as error:
        hint = "try again; if it stays, tell who runs this service"
        raise Unreachable(f"your groups are not known: {error.what}", hint, code="directory_unreachable") from None
    if found is None:
        what = "the directory does not have you any more, or has disabled you"
        raise Denied(what, "ask who runs the directory", code="directory_gone")
    groups, _ = nameable_groups(found, settings.group_prefix)
    if len(groups) > GROUPS_MAX:
        what = f"you have {len(groups)} groups in the directory, at most {GROUPS_MAX} are read"
        raise Denied(what, "have the settings' group_filter find only those that roles name", code="directory_groups")
    return groups
