"""A real Dex on loopback: the OIDC provider of demo and tests, with an OpenLDAP behind it."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.demo import daemon
from jitgate.app.demo.daemon import Daemon
from jitgate.app.demo.openldap import GROUPS, PEOPLE, READER, Directory
from jitgate.app.local_sshd import ADDRESS
from jitgate.core.secret import Secret

HINT = "it is built by: make demo-dex"
CLIENT_FILE = "service-client-secret"
PUBLIC_CLIENT, SERVICE_CLIENT, OTHER_CLIENT = "jitctl", "jitgate", "wiki"
OTHER_REDIRECT = "http://127.0.0.1/wiki"
"""Of jitctl (no secret, a loopback redirect), of the service (device flow), and of a program that is none of ours."""


@dataclass(frozen=True, slots=True)
class Dex:
    """A running Dex. Its storage is memory: after `restart` it has new keys, and everybody's session is gone."""

    daemon: Daemon
    folder: Path
    issuer: str
    service_secret: Secret[str]

    def stop(self) -> None:
        self.daemon.stop()


def start(
    folder: Path, directory: Directory, *, life: str = "10m", port: int = 0, tls: tuple[Path, Path] | None = None
) -> Dex:
    """A Dex whose people are those of the directory; returns when it listens.

    `life`: of an ID token, as Dex writes durations. `port`: of one that has been stopped, to stand in its place with
    new keys. `tls`: files of certificate and key; else it speaks plain HTTP. Raises NotFound when it is missing,
    Unreachable when it does not start.
    """
    program = str(daemon.find("dex", HINT))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret_file = folder / CLIENT_FILE
    if not secret_file.exists():
        secret_file.touch(0o600)
        secret_file.write_text(secrets.token_urlsafe(24) + "\n")
    secret = Secret(secret_file.read_text().strip())
    config = folder / "dex.json"
    config.touch(0o600)

    def command(free: int) -> list[str]:
        at = port or free
        config.write_text(json.dumps(_config(_issuer(at, tls), _web(at, tls), directory, secret, life), indent=2))
        return [program, "serve", str(config)]

    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH"}}
    started = daemon.start("dex", folder / "dex.log", command, environment, port=port)
    return Dex(started, folder, _issuer(started.port, tls), secret)


def restart(dex: Dex, directory: Directory, *, life: str = "10m") -> Dex:
    """The same Dex with new keys, as after a rotation that nobody announced."""
    dex.stop()
    return start(dex.folder, directory, life=life, port=dex.daemon.port)


def _issuer(port: int, tls: tuple[Path, Path] | None) -> str:
    return f"http{'s' if tls else ''}://{ADDRESS}:{port}"  # with a path, Dex would send the device flow astray


def _web(port: int, tls: tuple[Path, Path] | None) -> dict[str, str]:
    where = f"{ADDRESS}:{port}"
    return {"https": where, "tlsCert": str(tls[0]), "tlsKey": str(tls[1])} if tls else {"http": where}


def _config(
    issuer: str, web: dict[str, str], directory: Directory, secret: Secret[str], life: str
) -> dict[str, object]:
    return {
        "issuer": issuer,
        "storage": {"type": "memory"},
        "web": web,
        "oauth2": {"skipApprovalScreen": True},
        "expiry": {"idTokens": life, "deviceRequests": "5m"},
        "logger": {"level": "info"},
        "staticClients": [
            # without redirect URIs Dex takes any port of this machine, as RFC 8252 section 7.3 has it
            {"id": PUBLIC_CLIENT, "name": "jitctl", "public": True},
            {
                "id": SERVICE_CLIENT,
                "name": "jitgate",
                "secret": secret.reveal(),
                "redirectURIs": ["/device/callback"],
            },
            {"id": OTHER_CLIENT, "name": "a wiki", "public": True, "redirectURIs": [OTHER_REDIRECT]},
        ],
        "connectors": [
            {
                "type": "ldap",
                "id": "ldap",
                "name": "OpenLDAP",
                "config": {
                    "host": directory.url.partition("://")[2],
                    "insecureNoSSL": True,
                    "bindDN": READER,
                    "bindPW": directory.reader_password.reveal(),
                    "usernamePrompt": "name",
                    "userSearch": {
                        "baseDN": PEOPLE,
                        "filter": "(objectClass=inetOrgPerson)",
                        "username": "uid",
                        "idAttr": "uid",
                        "emailAttr": "mail",
                        "nameAttr": "cn",
                        "preferredUsernameAttr": "uid",
                    },
                    "groupSearch": {
                        "baseDN": GROUPS,
                        "filter": "(objectClass=groupOfNames)",
                        "userMatchers": [{"userAttr": "DN", "groupAttr": "member"}],
                        "nameAttr": "cn",
                    },
                },
            }
        ],
    }


def settings_of(dex: Dex, name: str = "dex", *, people: str = "create", more: str = "") -> str:
    """The `[[provider]]` table for jitgate.toml. `more`: further lines of it."""
    return f"""
[[provider]]
name = "{name}"
issuer = "{dex.issuer}"
client_id = "{PUBLIC_CLIENT}"
service_client_id = "{SERVICE_CLIENT}"
client_secret_file = "{dex.folder / CLIENT_FILE}"
scopes = ["openid", "profile", "email", "groups"]
people = "{people}"
{more}
"""
