"""One look into the directory, by ldap3: is this person there, and in which groups?

ldap3 verifies no certificate unless told to, and its own comparison of names is old: TLS is Python's, by name and
authority. A look has a connection of its own, which ends with it. Referrals are not followed.
"""

import re
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jitgate.adapters.ldap.settings import DirectorySettings
from jitgate.core.errors import BadInput, Denied, Unreachable
from jitgate.core.secret import Secret

GROUPS_MAX = 2_000  # of one person; more is a mistaken filter

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # ldap3 2.9.1 uses names that pyasn1 has renamed
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.utils.conv import escape_filter_chars


class _VerifiedTls(ldap3.Tls):
    """Python's own TLS with the certificate and its name verified."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context, self._host = context, host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ANN401, ARG002, FBT001, FBT002  # ldap3's
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


def ssl_context(settings: DirectorySettings) -> ssl.SSLContext:
    """Raises `BadInput` for a `ca_file` that is none."""
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:  # an SSLError too
        raise BadInput(f"{settings.ca_file} holds no TLS authority: {error}", "a PEM file") from None


def look(
    settings: DirectorySettings, context: ssl.SSLContext, password: Secret[str], name: str
) -> tuple[str, ...] | None:
    """The groups of the person `name`; None if nobody enabled is called so. Blocks; raises `Unreachable`, `Denied`.

    1. exactly one entry fits `person_filter` and not `disabled_filter`; several are refused, not chosen from
    2. its groups are those that fit `group_filter`, at most `GROUPS_MAX`
    3. every step succeeds as a whole: a partial answer could lack a group that a rule denies
    """
    try:
        with _connected(settings, context, password) as connection:
            return _look(settings, connection, name)
    except (LDAPException, OSError, ssl.SSLError) as error:
        raise Unreachable(f"the directory {settings.host} does not answer: {_words(error)}") from None


@contextmanager
def _connected(
    settings: DirectorySettings, context: ssl.SSLContext, password: Secret[str]
) -> Iterator[ldap3.Connection]:
    server = ldap3.Server(
        settings.host,
        port=settings.port,
        use_ssl=settings.ldaps,
        tls=_VerifiedTls(context, settings.host),
        get_info=ldap3.NONE,
        connect_timeout=settings.timeout_s,
    )
    connection = ldap3.Connection(
        server,
        user=settings.bind_dn or None,
        password=password.reveal() or None,
        authentication=ldap3.SIMPLE if settings.bind_dn else ldap3.ANONYMOUS,
        receive_timeout=settings.timeout_s,
        read_only=True,
        auto_referrals=False,
        raise_exceptions=True,
    )
    try:
        connection.open()
        if settings.start_tls:
            connection.start_tls()
        connection.bind()
        yield connection
    finally:
        opened = connection.socket
        with suppress(LDAPException, OSError):
            connection.unbind()
        if opened is not None:
            opened.close()  # ldap3 leaves it to the garbage collector when something went wrong


def _look(settings: DirectorySettings, connection: ldap3.Connection, name: str) -> tuple[str, ...] | None:
    wanted = _filled(settings.person_filter, name=name)
    if settings.disabled_filter:
        wanted = f"(&{wanted}(!{settings.disabled_filter}))"
    found = _entries(settings, connection, settings.person_base, wanted, None, most=2)
    if not found:
        return None
    if len(found) > 1:
        what = "the directory has several persons of your name there"
        raise Denied(what, "person_filter has to find exactly one", code="directory_ambiguous")
    wanted, attribute = _filled(settings.group_filter, name=name, dn=found[0]["dn"]), settings.group_attribute
    groups = _entries(settings, connection, settings.group_base, wanted, attribute, most=GROUPS_MAX + 1)
    if len(groups) > GROUPS_MAX:
        what = f"you have more than {GROUPS_MAX} groups in the directory"
        raise Denied(what, "group_filter has to find those that roles name", code="directory_groups")
    return tuple(sorted({value for entry in groups for value in _values(entry, attribute)}))


def _filled(text: str, **known: str) -> str:
    """The filter with its places filled, at once: what is filled in is never looked into again (RFC 4515, 3)."""
    return re.sub(r"\{(name|dn)\}", lambda place: escape_filter_chars(known[place[1]]), text)


def _entries(
    settings: DirectorySettings,
    connection: ldap3.Connection,
    base: str,
    wanted: str,
    attribute: str | None,
    *,
    most: int,
) -> list[Any]:
    connection.search(
        base,
        wanted,
        search_scope=ldap3.SUBTREE,
        attributes=[attribute] if attribute else ldap3.NO_ATTRIBUTES,
        size_limit=most,
        time_limit=settings.timeout_s,
    )
    response: list[Any] = connection.response or []
    if any(each["type"] != "searchResEntry" for each in response):
        raise Unreachable("the directory refers to another one, which is not followed")
    return response


def _values(entry: Any, attribute: str) -> list[str]:  # noqa: ANN401  # ldap3's
    """As UTF-8; a value that is none could not be named by a role."""
    raw: list[bytes] = next((v for k, v in entry["raw_attributes"].items() if k.lower() == attribute.lower()), [])
    return [value.decode(errors="replace") for value in raw]


def _words(error: Exception) -> str:
    """What went wrong, without what was sent."""
    return f"{type(error).__name__.removeprefix('LDAP')} {error}".strip()[:200]
