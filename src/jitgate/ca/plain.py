"""What a Vault mount's grant becomes as a certificate: plain logins, and nothing that the grant does not say."""

from jitgate.ca.model import CertSpec
from jitgate.ca.names import user_key_id
from jitgate.ca.shape import BACKDATE_S
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput, Conflict, Denied
from jitgate.grants.lifecycle import is_active
from jitgate.grants.model import ANY_HOST, MOUNT_REALM, Grant
from jitgate.ssh.cert import CertType
from jitgate.ssh.pubkey import PublicKey


def shape_plain(grant: Grant, key: PublicKey, ca: PublicKey, now: Micros, *, backdate_s: int = BACKDATE_S) -> CertSpec:
    """The one certificate of a plain grant, to the grant's end.

    Raises `Denied` for a grant of hosts by name, or of a realm that is no mount's; `Conflict` when it is not running.
    """
    if not grant.realm.startswith(MOUNT_REALM) or any(target.host != ANY_HOST for target in grant.targets):
        raise Denied("the grant is not of a mount", "ask for a certificate of its host: jitctl vm connect")
    if now < grant.opened_at or not is_active(grant, now):
        raise Conflict("the grant is not running", "sign again")
    if not 0 <= backdate_s <= BACKDATE_S:
        raise BadInput(f"a certificate that begins {backdate_s} s ago", f"at most {BACKDATE_S}")
    return CertSpec(
        realm=grant.realm,
        type=CertType.USER,
        key=key,
        key_id=user_key_id(grant.id, grant.holder.name),
        principals=tuple(target.login for target in grant.targets),
        valid_after_s=now // SECOND - backdate_s,
        valid_before_s=grant.ends_at // SECOND,
        critical_options=grant.options,
        extensions=tuple((name, "") for name in grant.extensions),
        ca=ca,
        grant_id=grant.id,
    )
