"""Trust files as the server would write them, for a host key that is given or made."""

import time

from jitgate.agent.trust import HostTrust
from jitgate.ssh.cert import Certificate, CertificateBody, CertType, join, to_be_signed
from jitgate.ssh.private import SoftwareKey, generate_ed25519
from jitgate.ssh.pubkey import PublicKey

NONCE = bytes(32)
USER_CA = generate_ed25519()
HOST_CA = generate_ed25519()


def certify(
    ca: SoftwareKey, kind: CertType, key: PublicKey, principals: tuple[str, ...], *, serial: int = 1, lasts: int = 3600
) -> Certificate:
    """A certificate that began a minute ago and lasts so many seconds from now."""
    now = int(time.time())
    options = (("permit-pty", ""),) if kind is CertType.USER else ()
    body = CertificateBody(
        type=kind,
        key=key,
        serial=serial,
        key_id="test",
        principals=principals,
        valid_after=now - 60,
        valid_before=now + lasts,
        critical_options=(),
        extensions=options,
        ca=ca.public,
    )
    tbs = to_be_signed(body, NONCE)
    return join(tbs, ca.sign(tbs))


def trust(
    host_key: PublicKey,
    *logins: str,
    host: str = "web1",
    realm: str = "default",
    user_ca: tuple[PublicKey, ...] = (USER_CA.public,),
    lasts: int = 3600,
) -> HostTrust:
    alias = f"{host}.{realm}.jitgate"
    return HostTrust(
        realm=realm,
        host=host,
        alias=alias,
        scopes=(f"host:{host}",),
        logins=logins,
        user_ca=user_ca,
        host_key=host_key,
        host_certificate=certify(HOST_CA, CertType.HOST, host_key, (alias, host), lasts=lasts),
    )
