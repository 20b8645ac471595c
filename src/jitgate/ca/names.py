"""The texts that a certificate carries: written here, and recognised here by the signer."""

import re
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.ids import is_id
from jitgate.core.text import check_name

# What a resolver takes for a number: 127.0.0.1, but also 127.1, 2130706433 and 0x7f.1 (WHATWG URL, "ends in a number")
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def principal(login: str, host: str) -> str:
    """What the principals file of `login` on `host` lists."""
    return f"{login}@host:{host}"


def user_key_id(grant_id: str, person: str) -> str:
    """`BadInput` for a name that could be read as more than a name."""
    return f"jitgate grant={grant_id} person={check_name('person', person)}"


def is_user_key_id(text: str) -> bool:
    grant, _, person = text.removeprefix("jitgate grant=").partition(" person=")
    return text == f"jitgate grant={grant} person={person}" and is_id(grant) and is_name("person", person)


def host_alias(realm: str, name: str) -> str:
    """The name that a host's certificate carries: unique in the installation, and under the realm's own pattern."""
    return f"{name}.{realm}.jitgate"


def host_pattern(realm: str) -> str:
    """What a `@cert-authority` line names: the realm's hosts and nothing else."""
    return host_alias(realm, "*")


def host_key_id(realm: str, host: str) -> str:
    return f"jitgate host={host} realm={realm}"


def host_of_key_id(text: str, realm: str) -> str | None:
    """The host that a key id of `host_key_id` names, if it is one of that realm."""
    host = text.removeprefix("jitgate host=").removesuffix(f" realm={realm}")
    return host if text == host_key_id(realm, host) and is_name("host", host) else None


def interception_names(realm: str, host: str) -> tuple[str, str]:
    """What the gateway is called where it stands in for a host: short, and unique in the installation."""
    return f"{host}.rec", f"{host_alias(realm, host)}.rec"


def interception_key_id(realm: str, host: str) -> str:
    return f"jitgate interception={host} realm={realm}"


def intercepted_of_key_id(text: str, realm: str) -> str | None:
    """The host that a key id of `interception_key_id` names, if it is one of that realm."""
    host = text.removeprefix("jitgate interception=").removesuffix(f" realm={realm}")
    return host if text == interception_key_id(realm, host) and is_name("host", host) else None


def is_taken(host: str) -> bool:
    """A host's name that would be one of the gateway's, or another host's alias: no host has it."""
    return host.endswith((".rec", ".jitgate")) or host in {"rec", "jitgate"}


def is_name(kind: str, value: str) -> bool:
    try:
        check_name(kind, value)
    except BadInput:
        return False
    return True


def looks_like_address(host: str) -> bool:
    """A host name that some program would take for an IP address: no certificate may carry it."""
    return _ENDS_IN_NUMBER.fullmatch(host) is not None
