"""The trust file: all that a host has to be told, public data only, written by `jitgate host add`.

It is JSON. Reading is strict, because what stands in it becomes an authority on somebody's server: a field that is
unknown, missing or twice there refuses the whole file, and so does a value that does not belong to the others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jitgate.ca.names import host_alias
from jitgate.core.errors import BadInput
from jitgate.core.text import check_name, shown
from jitgate.ssh.cert import Certificate, CertType, parse_certificate_line
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

VERSION: Final = 1
MAX_BYTES: Final = 64 * 1024  # 16 RSA keys of 16384 bits and a certificate stay under it
MAX_LOGINS: Final = 64
MAX_USER_CAS: Final = 16  # a rotation needs two, a realm's several active keys a few more
_HINT: Final = "make a new one on the server: jitgate host add"


@dataclass(frozen=True, slots=True)
class HostTrust:
    """What one host trusts. `scopes` are the right sides of the principals it accepts: `LOGIN@SCOPE` opens LOGIN.

    The constructor raises `BadInput` unless: every name is of its grammar; the only scope is `host:NAME`, so that no
    file opens this host to another's principals; the certificate is a host certificate, for the host's key, by none
    of the user CAs, and names nothing but the alias and the name; nothing stands twice.
    """

    realm: str
    host: str
    alias: str
    scopes: tuple[str, ...]
    logins: tuple[str, ...]
    user_ca: tuple[PublicKey, ...]
    host_key: PublicKey
    host_certificate: Certificate

    def __post_init__(self) -> None:
        check_name("realm", self.realm)
        check_name("host", self.host)
        if self.alias != host_alias(self.realm, self.host):
            raise BadInput(f"a trust file's alias is not the host's: {shown(self.alias)}", _HINT)
        if self.scopes != (f"host:{self.host}",):
            raise BadInput("a trust file's scopes are not just the host's own name", _HINT)
        _check_count("login", self.logins, MAX_LOGINS)
        for login in self.logins:
            check_name("login", login)
        _check_count("user CA key", self.user_ca, MAX_USER_CAS)
        if self.host_key in self.user_ca:
            raise BadInput("a trust file's host key is one of its user CA keys", _HINT)
        self._check_certificate()

    def _check_certificate(self) -> None:
        body = self.host_certificate.body
        if body.type is not CertType.HOST or body.key != self.host_key:
            raise BadInput("a trust file's certificate is not a host certificate for its host key", _HINT)
        if not set(body.principals) <= {self.alias, self.host}:
            raise BadInput("a trust file's host certificate names more than the host", _HINT)
        if body.ca in self.user_ca:
            raise BadInput("a trust file's host certificate is by a user CA key", "host and user CA are two keys")


def dump(trust: HostTrust) -> str:
    """The file's text; `parse(dump(trust)) == trust`."""
    fields = {
        "version": VERSION,
        "realm": trust.realm,
        "host": trust.host,
        "alias": trust.alias,
        "scopes": trust.scopes,
        "logins": trust.logins,
        "user_ca": [key.line() for key in trust.user_ca],
        "host_key": trust.host_key.line(),
        "host_certificate": trust.host_certificate.line(),
    }
    return json.dumps(fields, indent=2, ensure_ascii=True) + "\n"


def parse(data: bytes) -> HostTrust:
    """The trust file that `data` is; else `BadInput` (`FormatError` for a key or certificate)."""
    if len(data) > MAX_BYTES:
        raise BadInput(f"a trust file has {len(data)} bytes, more than {MAX_BYTES}", _HINT)
    try:
        found = json.loads(data.decode("ascii"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise BadInput("not a trust file: not JSON in ASCII", _HINT) from error
    if not isinstance(found, dict):
        raise BadInput("not a trust file: not a JSON object", _HINT)
    if found.get("version") != VERSION or isinstance(found["version"], bool):
        raise BadInput("a trust file of another version", f"this jitgate reads version {VERSION}")
    names = {"version", *HostTrust.__dataclass_fields__}
    if wrong := sorted(names ^ found.keys()):
        raise BadInput(f"a trust file with fields missing or unknown: {shown(', '.join(wrong))}", _HINT)
    return HostTrust(
        realm=_text(found, "realm"),
        host=_text(found, "host"),
        alias=_text(found, "alias"),
        scopes=_texts(found, "scopes"),
        logins=_texts(found, "logins"),
        user_ca=tuple(parse_public_key_line(line)[0] for line in _texts(found, "user_ca")),
        host_key=parse_public_key_line(_text(found, "host_key"))[0],
        host_certificate=parse_certificate_line(_text(found, "host_certificate")),
    )


def _check_count(what: str, values: tuple[object, ...], most: int) -> None:
    if not 1 <= len(values) <= most or len(set(values)) != len(values):
        raise BadInput(f"a trust file has {len(values)} {what}s, or one twice", f"1 to {most}, each once")


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("a trust file has a field twice", _HINT)
    return found


def _text(found: Mapping[str, object], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise BadInput(f"a trust file's {name} is not a text", _HINT)
    return value


def _texts(found: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = found[name]
    if not isinstance(values, list):
        raise BadInput(f"a trust file's {name} is not a list of texts", _HINT)
    texts = tuple(value for value in values if isinstance(value, str))
    if len(texts) != len(values):
        raise BadInput(f"a trust file's {name} is not a list of texts", _HINT)
    return texts
