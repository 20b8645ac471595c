"""Who a mount's users and roles are: a person of their own each, without a password or key, and so without a sign-in.

So all that takes something from persons takes it from them too: `jitgate user disable testuser@userpass` ends their
tokens and grants at once, and a revocation by person reaches their certificates.
"""

import hashlib
import re

from jitgate.audit.events import Actor
from jitgate.core.errors import BadInput, Denied
from jitgate.core.text import check_name
from jitgate.flow.outside import Outside
from jitgate.flow.people import write_person
from jitgate.flow.ports import Tx
from jitgate.flow.providers import link
from jitgate.identity.model import Person
from jitgate.identity.vault import ISSUER, Mount

SERVICE = Actor("service")


def holder_person(tx: Tx, outside: Outside, mount: Mount, subject: str, name: str) -> Person:
    """Inside a transaction: the person of a mount's subject, made when they first come. `Denied` for a disabled one."""
    issuer = f"{ISSUER}{mount.id}"
    linked = tx.identities.of_subject(issuer, subject)
    person = tx.people.by_id(linked.person_id) if linked else None
    if person is None:
        now = outside.clock()
        person = Person(outside.new_id(now), _free_name(tx, mount, name), (), False, None, now)
        write_person(tx, SERVICE, person, None, "")
        link(tx, outside, person, SERVICE, issuer, subject, how="vault")
    if person.disabled_at is not None:
        raise Denied("permission denied", "this person is disabled here", code="person_disabled")
    return person


def person_of(tx: Tx, mount: Mount, subject: str) -> Person | None:
    linked = tx.identities.of_subject(f"{ISSUER}{mount.id}", subject)
    return tx.people.by_id(linked.person_id) if linked else None


def _free_name(tx: Tx, mount: Mount, name: str) -> str:
    """`testuser@userpass`, or with a number behind it where somebody is called so."""
    place = re.sub(r"[^a-z0-9]+", "-", mount.path.lower()).strip("-")
    plain = name.replace("@", "-at-")[:40]
    for number in range(1, 100):
        found = f"{plain}@{place}" + (f"-{number}" if number > 1 else "")
        try:
            check_name("person", found)
        except BadInput:
            plain = "x" + hashlib.sha256(name.encode()).hexdigest()[:12]
            found = f"{plain}@{place}"[:64]
        if tx.people.by_name(found) is None:
            return found
    raise BadInput(f"no name is left for {name} at {mount.path}")
