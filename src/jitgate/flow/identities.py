"""Who a person is elsewhere: linked by the person, who shows that both are theirs, or by an operator."""

from jitgate.audit.events import Actor, EventType
from jitgate.core.errors import BadInput, Conflict, Error, NotFound
from jitgate.core.text import shown
from jitgate.flow.caller import Caller, check_again, refusals_recorded
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.providers import ProviderEvidence, check_token, identity_event, link, provider_of, use_token
from jitgate.flow.sessions import end_all_of
from jitgate.identity.keys import parse_key_line
from jitgate.identity.model import LinkedIdentity, Person
from jitgate.identity.nonce import nonce_for
from jitgate.identity.oidc import NAME_MAX, TokenRefused


async def list_identities(outside: Outside, caller: Caller) -> list[LinkedIdentity]:
    return await outside.store.read(lambda tx: tx.identities.of_person(caller.identity.person_id))


async def link_mine(outside: Outside, caller: Caller, evidence: ProviderEvidence) -> LinkedIdentity:
    """Link whom the token names to the caller, whose registered key proved the request and is in the token's nonce.

    Raises `BadInput`, `TokenRefused`, `NotFound`, `Conflict`, `Unreachable`; each is in the log before it is raised.
    """
    async with refusals_recorded(outside, caller):
        key = caller.proved_key().key
        if parse_key_line(evidence.unverified_key, outside.refused_keys)[0] != key:
            raise BadInput(
                "the key is not the one that signed this request", "send the key that signs", code="bad_proof"
            )
        provider = provider_of(outside, evidence.unverified_provider)
        name = provider.settings.name
        nonce = nonce_for(evidence.claim.origin, name, key.fingerprint, evidence.unverified_salt)
        client_id = provider.settings.client_id
        token = await check_token(outside, provider, evidence.unverified_token, client_id, nonce=nonce)

        def job(tx: Tx) -> LinkedIdentity | Error:
            now = outside.clock()
            person = tx.people.by_id(check_again(tx, outside, caller).identity.person_id)
            if not use_token(tx, nonce, now, token.expires_at):
                return TokenRefused("the ID token was used before", "begin again", code="token_used")
            if person is None:
                return NotFound("you are not here any more")
            try:
                return link(tx, outside, person, caller.actor, token.issuer, token.subject, how="by its person")
            except Conflict as error:  # the token is used up all the same
                return error

        done = await outside.store.write(job)
        if isinstance(done, Error):
            raise done
    return done


async def unlink_mine(outside: Outside, caller: Caller, identity_id: str) -> LinkedIdentity:
    """Take back one of the caller's identities; not the last way they have to sign in."""

    def job(tx: Tx) -> LinkedIdentity:
        person = tx.people.by_id(check_again(tx, outside, caller).identity.person_id)
        mine = tx.identities.of_person(caller.identity.person_id)
        found = next((each for each in mine if each.id == identity_id), None)
        if person is None or found is None:
            raise NotFound("no such identity of yours", "jitctl identities ls")
        if found.subject == person.id:
            raise Conflict("that is your password, not a provider's identity", "an operator disables you")
        if len(mine) == 1:
            raise Conflict("that is your last way to sign in", "link another one first")
        _unlink(tx, outside, person, caller.actor, found)
        return found

    async with refusals_recorded(outside, caller):
        return await outside.store.write(job)


async def link_identity(outside: Outside, actor: Actor, name: str, provider: str, subject: str) -> LinkedIdentity:
    """An operator's link: from now on the provider's `subject` is the person `name`."""
    if not 0 < len(subject) <= NAME_MAX or not subject.isascii() or not subject.isprintable():
        raise BadInput(
            f"not a subject: {shown(subject)}", f"1 to {NAME_MAX} ASCII characters, as the `sub` of its tokens"
        )
    issuer = provider_of(outside, provider).settings.issuer

    def job(tx: Tx) -> LinkedIdentity:
        return link(tx, outside, _named(tx, name), actor, issuer, subject, how="by an operator")

    return await outside.store.write(job)


async def unlink_identity(outside: Outside, actor: Actor, name: str, provider: str, subject: str) -> LinkedIdentity:
    """An operator takes a link away: its sign-ins and the grants they opened end. `subject` "": the only one there."""
    issuer = provider_of(outside, provider).settings.issuer

    def job(tx: Tx) -> LinkedIdentity:
        person = _named(tx, name)
        mine = [each for each in tx.identities.of_person(person.id) if each.issuer == issuer]
        found = [each for each in mine if subject in ("", each.subject)]
        if not found:
            raise NotFound(f"{shown(name)} is not linked to that identity of {provider}", f"jitgate user show {name}")
        if len(found) > 1:
            raise Conflict(f"{shown(name)} has {len(found)} identities of {provider}", "name one: --subject SUBJECT")
        _unlink(tx, outside, person, actor, found[0])
        return found[0]

    return await outside.store.write(job)


async def person_with_identities(outside: Outside, name: str) -> tuple[Person, list[LinkedIdentity]]:
    """For an operator."""

    def job(tx: Tx) -> tuple[Person, list[LinkedIdentity]]:
        person = _named(tx, name)
        return person, tx.identities.of_person(person.id)

    return await outside.store.read(job)


def _unlink(tx: Tx, outside: Outside, person: Person, actor: Actor, identity: LinkedIdentity) -> None:
    now = outside.clock()
    tx.identities.remove(identity.id)
    tx.sign_ins.end_all_of(person.id, now, issuer=identity.issuer, subject=identity.subject)
    why = "its identity was unlinked"
    end_all_of(tx, person.id, actor, now, why, which=lambda grant: grant.holder.issuer == identity.issuer)
    tx.move_epoch()
    tx.log.append(identity_event(EventType.IDENTITY_UNLINKED, person, actor, now, identity))


def _named(tx: Tx, name: str) -> Person:
    person = tx.people.by_name(name)
    if person is None:
        raise NotFound(f"no person {shown(name)}", "jitgate user ls")
    return person
