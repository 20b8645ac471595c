"""Critical options and extensions of certificates: which there are, what they may hold, how they are written.

Sources: draft-miller-ssh-cert 2.1 and 2.2; OpenSSH auth-options.c (`cert_option_list`), addrmatch.c.
"""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from jitgate.core.text import shown
from jitgate.ssh.wire import FormatError, Reader, put_string

Options = tuple[tuple[str, str], ...]
"""Name and value, in the order of the names' bytes, each name once; the value of a flag is empty."""

MAX_OPTIONS: Final = 32
MAX_VALUE: Final = 4096  # bytes; a command line or a list of networks, not a script

USER_EXTENSIONS: Final = frozenset(
    {
        "no-touch-required",
        "permit-X11-forwarding",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        "permit-user-rc",
    }
)
SK_ONLY: Final = frozenset({"no-touch-required", "verify-required"})
_OWN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}@[a-z0-9][a-z0-9.-]{0,62}")


# Certificates carry the same few sets of options again and again: pure functions, whose answers are kept.


@lru_cache(maxsize=256)
def put_options(options: Options) -> bytes:
    """The string of packed options. A value is an SSH string inside the data string; a flag's data is empty."""
    packed = [put_string(name) + put_string(put_string(value) if value else b"") for name, value in options]
    return put_string(b"".join(packed))


@lru_cache(maxsize=256)
def parse_options(data: bytes) -> Options:
    """What `put_options` wrote, taken out of its string; else `FormatError`.

    Names and values are not checked here, and it is the caller who compares what `put_options` makes of them with the
    bytes: that refuses a value with something behind it, and a flag that holds an empty value.
    """
    reader = Reader(data)
    found: list[tuple[str, str]] = []
    while reader.more:
        if len(found) == MAX_OPTIONS:
            raise FormatError(f"more options to read than {MAX_OPTIONS}")
        name, inner = reader.text(), Reader(reader.string())
        found.append((name, inner.text() if inner.more else ""))
    return tuple(found)


@lru_cache(maxsize=256)
def check_options(critical: Options, extensions: Options, user: bool, sk: bool) -> None:  # noqa: FBT001  # a name costs as much as the look-up
    """`FormatError` unless every option is one that we know, for that kind of certificate and key, and well-formed.

    A host certificate has no options but extensions of somebody's own (`name@domain`). What only a security key obeys
    is refused for other keys: sshd would pass over it.
    """
    for options in (critical, extensions):
        names = [name for name, _ in options]
        if names != sorted(set(names)):
            raise FormatError("options are not in order, or stand twice")
        if len(names) > MAX_OPTIONS:
            raise FormatError(f"a certificate has {len(names)} options of one kind, more than {MAX_OPTIONS}")
    for name, value in critical:
        if not user or name not in _CRITICAL:
            raise FormatError(f"not a critical option that is taken: {shown(name)}")
        _CRITICAL[name](name, value)
    for name, value in extensions:
        if user and name in USER_EXTENSIONS:
            _flag(name, value)
        elif _OWN_NAME.fullmatch(name):
            _printable(name, value)
        else:
            raise FormatError(f"not an extension that is taken: {shown(name)}", "one of your own is called name@domain")
    if not sk and (wrong := SK_ONLY.intersection(name for name, _ in critical + extensions)):
        raise FormatError(f"{', '.join(sorted(wrong))} on a key that is no security key, where it has no effect")


def _flag(name: str, value: str) -> None:
    if value:
        raise FormatError(f"the option {name} takes no value")


def _printable(name: str, value: str) -> None:
    if len(value.encode("utf-8", "replace")) > MAX_VALUE or not value.isprintable():
        raise FormatError(f"the option {name} is too long or holds a control character: {shown(value)}")


def _force_command(name: str, value: str) -> None:
    _printable(name, value)
    if not value.strip():
        raise FormatError(f"the option {name} is empty")


def _source_address(name: str, value: str) -> None:
    """sshd refuses the whole certificate for host bits, spaces, names or an empty item in the list."""
    items = value.split(",")
    if len(value) > MAX_VALUE or len(items) != len(set(items)) or not all(map(_is_network, items)):
        raise FormatError(
            f"the option {name} is not a list of networks: {shown(value)}",
            "write each as 192.0.2.0/24 or 2001:db8::/32, without host bits, a comma between",
        )


@lru_cache(maxsize=1024)  # roles name the same few networks again and again
def _is_network(item: str) -> bool:
    try:
        network = ipaddress.ip_network(item)  # refuses host bits
    except ValueError:
        return False
    # sshd compares an IPv4-mapped address as IPv4, so such a network would never match
    mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None
    return str(network) == item and not mapped and "%" not in item


_CRITICAL: Final[dict[str, Callable[[str, str], None]]] = {
    "force-command": _force_command,
    "source-address": _source_address,
    "verify-required": _flag,
}
