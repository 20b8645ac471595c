"""`[directory]` of the settings."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from jitgate.core.addresses import is_loopback
from jitgate.core.errors import BadInput
from jitgate.core.text import shown

PORTS = {"ldap": 389, "ldaps": 636}


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    url: str = ""
    """`ldaps://HOST[:PORT]`, or `ldap://` with StartTLS; plain only to this machine. Empty: there is no directory."""
    ca_file: str = ""
    """PEM file of the authority that its TLS certificate is from; empty: the system's."""
    bind_dn: str = ""
    """Who asks: an account that may read persons and groups, and nothing else. Empty: nobody (anonymous)."""
    bind_password_file: str = ""
    """File with its password, 0600."""
    person_base: str = ""
    """Below which entry the persons are."""
    person_filter: str = "(uid={name})"
    """Which of them one is; `{name}` is what the ID token's `directory_claim` says."""
    disabled_filter: str = ""
    """Which of them are disabled, such as `(userAccountControl:1.2.840.113556.1.4.803:=2)`; empty: none."""
    group_base: str = ""
    """Below which entry the groups are."""
    group_filter: str = "(member={dn})"
    """Which of them one is in; `{dn}` is the person's entry, `{name}` as above."""
    group_attribute: str = "cn"
    """What roles call a group."""
    max_age_s: int = 60
    """How old an answer may become, in seconds: so much later at most a change there takes effect here."""
    timeout_s: int = 3
    """How long one look may take, in seconds; then it is as if the directory was down."""

    def __post_init__(self) -> None:
        if not self.url:
            return
        self._check_url()
        if bool(self.bind_dn) != bool(self.bind_password_file):
            raise BadInput("bind_dn and bind_password_file go together", "set both, or none to ask anonymously")
        if not self.person_base or not self.group_base:
            raise BadInput("person_base or group_base is empty", 'like person_base = "ou=people,dc=example,dc=com"')
        _check_filter("person_filter", self.person_filter, "{name}")
        _check_filter("group_filter", self.group_filter, "{dn}", "{name}")
        if self.disabled_filter:
            _check_filter("disabled_filter", self.disabled_filter)
        if not self.group_attribute.replace("-", "").isalnum():
            raise BadInput(f"not an attribute: {shown(self.group_attribute)}", "like cn")
        for setting, value, most in (("max_age_s", self.max_age_s, 3600), ("timeout_s", self.timeout_s, 30)):
            if not 1 <= value <= most:
                raise BadInput(f"{setting} is out of range", f"1 to {most}")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or PORTS[parts.scheme]

    @property
    def ldaps(self) -> bool:
        return self.url.startswith("ldaps:")

    @property
    def start_tls(self) -> bool:
        """Plain LDAP only where nobody else hears it, and no authority is named to check."""
        return not self.ldaps and (not is_loopback(self.host) or bool(self.ca_file))

    @property
    def look_s(self) -> float:
        """Seconds between two looks for leavers: answers stay young enough for who asks in between."""
        return self.max_age_s / 2

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in PORTS and parts.hostname and parts.port != 0 and parts.path in ("", "/")
        except ValueError:
            whole = False
        if not whole or parts.query or parts.fragment or parts.username is not None:
            raise BadInput(f"not a directory's address: {shown(self.url)}", "ldaps://HOST, or ldap://HOST for StartTLS")


def _check_filter(setting: str, text: str, *places: str) -> None:
    """A filter of RFC 4515 in its outermost form, with at least one of the places that it must have."""
    if not (text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")") and text.isprintable()):
        raise BadInput(f"{setting} is no filter: {shown(text)}", "in brackets, like (uid={name})")
    rest = text
    for place in places:
        rest = rest.replace(place, "")
    if "{" in rest or "}" in rest or (places and rest == text):
        raise BadInput(f"{setting} names nobody: {shown(text)}", f"it has {' or '.join(places) or 'no braces'}")
