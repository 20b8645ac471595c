"""Whom a TLS connection is believed: the profile's own authority, or what the system trusts."""

import ssl

from jitgate.cli.files import read_private
from jitgate.cli.profile import Profile
from jitgate.core.errors import BadInput


def trusted(profile: Profile) -> ssl.SSLContext:
    """The profile's own trust anchor, if it is pinned; else what the system trusts; on plain HTTP, nothing."""
    if profile.url.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return trust(read_private(profile.folder / "tls-ca.pem") if profile.pinned else b"")


def trust(ca: bytes) -> ssl.SSLContext:
    """`ca`: the only trust anchor, in PEM; empty for public trust."""
    if not ca:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no other anchor, and the name is checked
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca.decode())
    except (ssl.SSLError, ValueError):
        raise BadInput("the service's TLS authority kept here cannot be read", "jitctl login URL#sha256=HEX") from None
    return context


def no_trust() -> ssl.SSLContext:
    """Only for fetching what a pin will check; such a connection never carries a token or a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
