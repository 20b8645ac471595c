"""Roles of an SSH mount and path policies, read from a running Vault or OpenBao: to be brought over once."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

import httpx2

from jitgate.core.addresses import is_loopback
from jitgate.core.errors import BadInput, Denied, NotFound, Unreachable
from jitgate.core.secret import Secret
from jitgate.core.text import shown

ANSWER_MAX: Final = 1 << 20  # bytes; a list of some ten thousand names
COUNT_MAX: Final = 2000
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Found:
    """Fields by role, text by policy, as that Vault gave them: nothing is checked yet."""

    roles: Mapping[str, Mapping[str, object]]
    policies: Mapping[str, str]


def read_roles(address: str, token: Secret[str], mount: str, *, ca_file: str = "", namespace: str = "") -> Found:
    """Raises `BadInput` (address), `Denied` (the token may not), `NotFound` (no such mount), `Unreachable`."""
    with _client(address, token, ca_file, namespace) as client:
        roles = {
            name: _data(client, f"{mount}/roles/{quote(name, safe='')}") for name in _names(client, f"{mount}/roles")
        }
        policies = {
            name: str(_data(client, f"sys/policies/acl/{quote(name, safe='')}").get("policy", ""))
            for name in _names(client, "sys/policies/acl")
        }
    return Found(roles, policies)


@contextmanager
def _client(address: str, token: Secret[str], ca_file: str, namespace: str) -> Iterator[httpx2.Client]:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise BadInput(f"not the address of a Vault: {shown(address)}", "https://vault.example.org:8200")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise BadInput("plain HTTP beyond this machine", "https://..., with --ca-file if it is your own CA")
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise BadInput(f"{ca_file}: {error.strerror or error}", "a CA's certificate in PEM") from None
    headers = {"x-vault-request": "true", "x-vault-token": token.reveal(), "accept-encoding": "identity"}
    if namespace:
        headers["x-vault-namespace"] = namespace
    with httpx2.Client(
        base_url=address.rstrip("/") + "/v1/",
        verify=context,
        headers=headers,
        trust_env=False,
        follow_redirects=False,
        timeout=TIMEOUT_S,
    ) as client:
        yield client


def _names(client: httpx2.Client, path: str) -> list[str]:
    """An empty list is not found, as Vault says it."""
    try:
        found = _data(client, f"{path}?list=true").get("keys")
    except NotFound:
        return []
    names = found if isinstance(found, list) else []
    if len(names) > COUNT_MAX:
        raise BadInput(f"{len(names)} names at {path}", f"at most {COUNT_MAX} are brought over")
    return [each for each in names if isinstance(each, str) and not each.endswith("/")]


def _data(client: httpx2.Client, path: str) -> Mapping[str, object]:
    try:
        with client.stream("GET", path) as answer:
            content = bytearray()
            for part in answer.iter_bytes():
                content += part
                if len(content) > ANSWER_MAX:
                    raise Unreachable(f"that Vault answered with more than {ANSWER_MAX} bytes")
        found = json.loads(content) if content else {}
    except (httpx2.HTTPError, OSError, ValueError, RecursionError) as error:
        raise Unreachable(f"that Vault does not answer: {shown(str(error), 200)}", "is its address right?") from None
    if answer.status_code == httpx2.codes.NOT_FOUND:
        raise NotFound(f"nothing at {path} there", "is the mount's path right?")
    if answer.status_code == httpx2.codes.FORBIDDEN:
        raise Denied(f"that Vault's token may not read {path}", "it has to read roles and policies")
    data = found.get("data") if isinstance(found, dict) else None
    if answer.status_code != httpx2.codes.OK or not isinstance(data, dict):
        raise Unreachable(f"that Vault answered {answer.status_code} to {path}")
    return data
