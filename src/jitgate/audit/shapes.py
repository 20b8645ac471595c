"""The closed set of event types, and which fields each must and may carry.

A type's name is `subject.act`. Every event carries type, outcome, time, realm and actor; every event may carry
`source`, `request` and the detail `sign_in`. What else, the table says; the rest is refused by `Event`'s constructor.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Outcome = Literal["allowed", "refused", "done"]
"""`allowed` and `refused` are decisions; `done` is something that happened."""


class EventType(StrEnum):
    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    SERVICE_RESTORED = "service.restored"  # from a backup: a new epoch of serials begins
    CHECKPOINT_RECONCILED = "checkpoint.reconciled"  # at start, log and the signer's newest checkpoint agree
    CHECKPOINT_REFUSED = "checkpoint.refused"  # they do not, or the signer would not sign: rolled back or forked
    POLICY_APPLIED = "policy.applied"
    POLICY_REFUSED = "policy.refused"
    PERSON_ADDED = "person.added"
    PERSON_CHANGED = "person.changed"  # groups, admin, password or one-time code secret
    PERSON_DISABLED = "person.disabled"
    PERSON_ENABLED = "person.enabled"
    PERSON_ERASED = "person.erased"  # personal texts taken out of the log; commitments stay
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"
    SIGN_IN_SUCCEEDED = "sign_in.succeeded"
    SIGN_IN_REFUSED = "sign_in.refused"
    SIGN_IN_ENDED = "sign_in.ended"
    SIGN_IN_FLOOD = "sign_in.flood"  # refusals before authentication: one an address a minute, with their count
    KEY_REGISTERED = "key.registered"
    KEY_REFUSED = "key.refused"
    KEY_REMOVED = "key.removed"
    HOST_ADDED = "host.added"
    HOST_INVITED = "host.invited"  # a one-time token was made, by which it may join
    HOST_WAITING = "host.waiting"  # it proved a key, and its name stands: an owner has to agree
    HOST_APPROVED = "host.approved"
    HOST_REFUSED = "host.refused"  # somebody who may not join, or an agent that is none
    HOST_PROBLEM = "host.problem"  # what a host's agent says is not as it should be; none: all is well again
    HOST_CHANGED = "host.changed"
    HOST_REMOVED = "host.removed"
    GRANT_OPENED = "grant.opened"
    GRANT_REFUSED = "grant.refused"
    GRANT_ENDED = "grant.ended"
    CERTIFICATE_ISSUED = "certificate.issued"
    CERTIFICATE_REFUSED = "certificate.refused"
    CERTIFICATE_UNRELEASED = "certificate.unreleased"  # signed, but never left: a burnt serial
    REVOCATION_MADE = "revocation.made"  # hosts may not take it any more, whatever its end says
    CA_KEY_FOUND = "ca.key_found"  # the signer holds a key that is not listed: nothing is signed with it
    CA_KEY_ADDED = "ca.key_added"  # listed: trusted from now on
    CA_KEY_USED = "ca.key_used"  # it signs from now on
    CA_KEY_RETIRED = "ca.key_retired"  # not trusted any more
    CA_KEY_MOVED = "ca.key_moved"  # the signer has the same key from another keeper
    CA_KEY_REFUSED = "ca.key_refused"  # a file of the signer's folder is not used
    CA_KEY_LOST = "ca.key_lost"  # the signer does not hold the key that is to sign, or only until it ends
    CA_ROTATION_STARTED = "ca.rotation_started"  # a plan by which one key is replaced by another
    CA_ROTATION_ADVANCED = "ca.rotation_advanced"  # to its next step
    CA_ROTATION_WAIVED = "ca.rotation_waived"  # a host holds up no step of the plan any more: it may refuse what comes
    CA_ROTATION_ABORTED = "ca.rotation_aborted"
    CA_BACKUP_DRILLED = "ca.backup_drilled"  # a key that is kept elsewhere signed what an sshd of its own took
    REALM_ADDED = "realm.added"
    REALM_LEFT = "realm.left"  # somebody has nothing in one realm any more
    REALM_RETURNED = "realm.returned"
    SESSION_OPENED = "session.opened"  # a gateway carries a connection to a host; who logs in there, sshd knows
    SESSION_REFUSED = "session.refused"
    SESSION_KILLED = "session.killed"  # somebody wants it ended; its end follows
    SESSION_ENDED = "session.ended"
    LOGIN_BEGAN = "login.began"  # somebody is in on a host, as its agent says
    LOGIN_ENDED = "login.ended"  # nothing of it is left there
    LOGIN_LEFT_BEHIND = "login.left_behind"  # what changed while a grant lasted, to come back by
    LOGIN_ALARM = "login.alarm"  # one that does not fit the tunnel it came by, or that the agent cannot end
    VAULT_MOUNTED = "vault.mounted"  # an engine, or a way in, of the Vault surface
    VAULT_UNMOUNTED = "vault.unmounted"
    VAULT_WRITTEN = "vault.written"  # a role, policy, user, secret id, CA key, audit device
    VAULT_DELETED = "vault.deleted"
    VAULT_TOKEN_MADE = "vault.token_made"  # noqa: S105  # by a way in, by another token, or by an operator
    VAULT_TOKEN_RENEWED = "vault.token_renewed"  # noqa: S105
    VAULT_TOKEN_ENDED = "vault.token_ended"  # noqa: S105
    VAULT_REFUSED = "vault.refused"  # by a token's policies; certificates are certificate.refused
    REQUEST_REFUSED = "request.refused"  # a signed-in request that failed before its own decision: proof, form, route


@dataclass(frozen=True, slots=True)
class Shape:
    """What an event of one type carries. Detail keys map to `str` or `int`."""

    outcome: Outcome
    must: frozenset[str]
    may: frozenset[str]
    detail_must: dict[str, type]
    detail_may: dict[str, type]


ALWAYS_MAY = frozenset({"source", "request"})
ALWAYS_DETAIL: dict[str, type] = {"sign_in": str}


def _shape(outcome: Outcome, must: str = "", may: str = "", detail: str = "", detail_may: str = "") -> Shape:
    required, optional = _keys(detail), _keys(detail_may)
    return Shape(outcome, frozenset(must.split()), frozenset(may.split()), required, ALWAYS_DETAIL | optional)


def _keys(words: str) -> dict[str, type]:
    """`"role ends_at#"`: a text and, marked by #, a number."""
    return {word.rstrip("#"): int if word.endswith("#") else str for word in words.split()}


# Digests are SHA-256 in hex, fingerprints "SHA256:...", times in microseconds, lists joined by a single space.
# `ca` is the fingerprint of the CA key, `digest` of a certificate is over the bytes that were signed.
SHAPES: dict[EventType, Shape] = {
    EventType.SERVICE_STARTED: _shape("done", detail_may="version node parts epoch#"),
    EventType.SERVICE_STOPPED: _shape("done", detail_may="node why"),
    EventType.SERVICE_RESTORED: _shape("done", "", "reason", "epoch#", "size#"),
    EventType.CHECKPOINT_RECONCILED: _shape("done", detail="size# root"),
    EventType.CHECKPOINT_REFUSED: _shape("refused", "", "checks", "size# root", "signer_size# signer_root why"),
    EventType.POLICY_APPLIED: _shape(
        "done", "", "reason", "digest roles#", "previous added removed changed removed_deny changed_deny signed_by"
    ),
    EventType.POLICY_REFUSED: _shape("refused", "", "checks reason", "", "digest code"),
    EventType.PERSON_ADDED: _shape("done", "subject subject_name", "reason", "", "groups admin#"),
    EventType.PERSON_CHANGED: _shape("done", "subject", "subject_name reason", "what", "groups admin#"),
    EventType.PERSON_DISABLED: _shape("done", "subject", "subject_name reason"),
    EventType.PERSON_ENABLED: _shape("done", "subject", "subject_name reason"),
    EventType.PERSON_ERASED: _shape("done", "subject", "reason", "fields entries#"),
    EventType.IDENTITY_LINKED: _shape("done", "subject", "subject_name reason", "issuer", "identity how"),
    EventType.IDENTITY_UNLINKED: _shape("done", "subject", "subject_name reason", "issuer", "identity"),
    EventType.SIGN_IN_SUCCEEDED: _shape(
        "allowed",
        "person",
        "checks",
        "sign_in factors",
        "fingerprint expires_at# token_ends_at# provider issuer groups dropped#",
    ),
    EventType.SIGN_IN_REFUSED: _shape("refused", "", "subject subject_name checks", "", "code fingerprint provider"),
    EventType.SIGN_IN_ENDED: _shape("done", "", "subject subject_name reason", "sign_in", "why"),
    EventType.SIGN_IN_FLOOD: _shape("refused", "source", "", "count#", "since# code"),
    EventType.KEY_REGISTERED: _shape("allowed", "person", "", "fingerprint algorithm", "key how"),
    EventType.KEY_REFUSED: _shape("refused", "", "checks", "", "fingerprint algorithm code"),
    EventType.KEY_REMOVED: _shape("done", "", "subject subject_name reason", "fingerprint", "key why"),
    EventType.HOST_ADDED: _shape("done", "target", "reason", "fingerprint", "address port# logins labels how"),
    EventType.HOST_INVITED: _shape("done", "target", "reason", "expires_at#", "address port# logins labels again#"),
    EventType.HOST_WAITING: _shape("done", "target", "", "fingerprint how", "address port# logins labels"),
    EventType.HOST_APPROVED: _shape("done", "target", "", "fingerprint how", "address port# logins labels"),
    EventType.HOST_REFUSED: _shape("refused", "", "target", "code"),
    EventType.HOST_PROBLEM: _shape("done", "target", "", "problems", "clock"),
    EventType.HOST_CHANGED: _shape("done", "target", "reason", "", "fingerprint address port# logins labels"),
    EventType.HOST_REMOVED: _shape("done", "target", "reason"),
    EventType.GRANT_OPENED: _shape(
        "allowed", "person target grant", "checks reason", "role policy ends_at#", "ticket setting"
    ),
    EventType.GRANT_REFUSED: _shape("refused", "", "target checks reason grant", "code", "role policy ticket"),
    EventType.GRANT_ENDED: _shape("done", "grant", "target subject subject_name reason", "why"),
    EventType.CERTIFICATE_ISSUED: _shape(
        "allowed",
        "target key_id serial",
        "grant session checks",
        "kind ca digest fingerprint valid_after# valid_before#",
        "principals role policy setting",
    ),
    EventType.CERTIFICATE_REFUSED: _shape(
        "refused", "", "target grant session checks reason", "code", "kind ca fingerprint role policy setting"
    ),
    EventType.CERTIFICATE_UNRELEASED: _shape(
        "done", "serial", "target grant key_id checks", "ca digest", "kind why principals fingerprint valid_before#"
    ),
    # `revocation`: its id; `serials`, `keys`: how many; `counter`: the state that hosts have when they know of it.
    EventType.REVOCATION_MADE: _shape(
        "done",
        "",
        "target subject subject_name grant reason",
        "revocation what serials# keys# counter#",
        "ca first last fingerprint",
    ),
    EventType.CA_KEY_FOUND: _shape("done", detail="ca kind file", detail_may="signs"),
    EventType.CA_KEY_ADDED: _shape("done", "", "reason", "ca kind", "phase"),
    EventType.CA_KEY_USED: _shape("done", "", "reason", "ca kind", "previous"),
    EventType.CA_KEY_RETIRED: _shape("done", "", "reason", "ca kind"),
    EventType.CA_KEY_MOVED: _shape("done", detail="ca kind file before"),
    EventType.CA_KEY_REFUSED: _shape("refused", detail="file why"),
    EventType.CA_KEY_LOST: _shape("done", detail="ca kind", detail_may="why"),
    # `rotation`: the plan's id; `old`, `new`: fingerprints; `step`: the one that begins, or where it was aborted.
    EventType.CA_ROTATION_STARTED: _shape("done", "", "reason", "rotation kind old new step", "emergency#"),
    EventType.CA_ROTATION_ADVANCED: _shape("done", "", "reason", "rotation kind step"),
    EventType.CA_ROTATION_WAIVED: _shape("done", "target", "reason", "rotation kind step"),
    EventType.CA_ROTATION_ABORTED: _shape("done", "", "reason", "rotation kind step"),
    EventType.CA_BACKUP_DRILLED: _shape("done", "", "reason", "ca kind"),
    EventType.REALM_ADDED: _shape("done", "target", "reason"),
    EventType.REALM_LEFT: _shape("done", "subject", "subject_name reason"),
    EventType.REALM_RETURNED: _shape("done", "subject", "subject_name reason"),
    # `port`: the gateway's own towards the host, as sshd logs it; `up` and `down`: bytes to the host and from it.
    EventType.SESSION_OPENED: _shape(
        "allowed", "person target grant session", "", "kind node port# ends_at#", "role policy key"
    ),
    EventType.SESSION_REFUSED: _shape("refused", "", "target grant session checks", "code", "kind key why"),
    EventType.SESSION_KILLED: _shape("done", "target grant session", "subject subject_name reason"),
    EventType.SESSION_ENDED: _shape(
        "done", "target grant session", "subject subject_name", "why up# down# opened_at#", "kind node"
    ),
    # `setting`: the one that let it happen. Paths are of the surface; a refused one is kept only of who holds a token.
    EventType.VAULT_MOUNTED: _shape("done", "target", "", "path type setting"),
    EventType.VAULT_UNMOUNTED: _shape("done", "target", "", "path type setting"),
    # `login`: the agent's id of it, also where it ends.
    EventType.LOGIN_BEGAN: _shape(
        "done", "target", "grant session key_id serial subject subject_name", "login how port# verified#"
    ),
    EventType.LOGIN_ENDED: _shape("done", "target", "grant session", "login why processes#"),
    EventType.LOGIN_LEFT_BEHIND: _shape("done", "target", "grant key_id", "login items"),
    EventType.LOGIN_ALARM: _shape("done", "target", "grant session key_id serial", "code why", "login"),
    EventType.VAULT_WRITTEN: _shape("done", "", "target", "path what setting", "digest warnings#"),
    EventType.VAULT_DELETED: _shape("done", "", "target", "path what setting"),
    EventType.VAULT_TOKEN_MADE: _shape(
        "allowed", "", "subject subject_name", "token path policies expires_at# setting", "parent"
    ),
    EventType.VAULT_TOKEN_RENEWED: _shape("done", "", "", "token expires_at# setting"),
    EventType.VAULT_TOKEN_ENDED: _shape("done", "", "", "token why setting"),
    EventType.VAULT_REFUSED: _shape("refused", "", "", "code operation path setting"),
    EventType.REQUEST_REFUSED: _shape("refused", "", "target grant checks", "code", "method route fingerprint"),
}
