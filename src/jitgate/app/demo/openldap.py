"""A real OpenLDAP on loopback with throw-away contents: people, groups, and an account that may only read."""

import hashlib
import os
import secrets
import subprocess
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.demo import daemon
from jitgate.app.demo.daemon import Daemon
from jitgate.app.local_sshd import ADDRESS
from jitgate.core.errors import Unreachable
from jitgate.core.secret import Secret

HINT = "on Debian: apt-get install slapd ldap-utils"
BASE = "dc=example,dc=test"
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
READER, ADMIN = f"cn=reader,{BASE}", f"cn=admin,{BASE}"
READER_FILE = "reader-password"
_CONFIG = """\
include "{schema}/core.schema"
include "{schema}/cosine.schema"
include "{schema}/inetorgperson.schema"
modulepath "{modules}"
moduleload back_mdb
pidfile "{folder}/slapd.pid"
argsfile "{folder}/slapd.args"
{tls}
disallow bind_anon
database mdb
suffix "{base}"
directory "{folder}/data"
rootdn "{admin}"
rootpw {admin_hash}
index objectClass,uid,member eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by * none
"""


@dataclass(frozen=True, slots=True)
class Human:
    """Somebody in the directory: `uid=NAME,ou=people,...` with mail `NAME@example.test`."""

    name: str
    password: Secret[str]
    groups: tuple[str, ...] = ()

    @property
    def dn(self) -> str:
        return f"uid={self.name},{PEOPLE}"

    @property
    def mail(self) -> str:
        return f"{self.name}@example.test"


@dataclass(frozen=True, slots=True)
class Directory:
    """A running slapd. READER binds with `reader_password` and may read all but passwords."""

    daemon: Daemon
    folder: Path
    url: str
    reader_password: Secret[str]
    admin_password: Secret[str]

    def change(self, ldif: str) -> None:
        """What `ldapmodify` takes, as the directory's administrator: entries to add, `changetype: modify`, ..."""
        password_file = self.folder / "admin-password"
        command = [str(daemon.find("ldapmodify", HINT)), "-x", "-H", f"ldap://{ADDRESS}:{self.daemon.port}/", "-a"]
        command += ["-D", ADMIN, "-y", str(password_file)]
        done = subprocess.run(command, input=ldif, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unreachable(f"the directory did not take the change: {done.stderr.strip()}")

    def stop(self) -> None:
        self.daemon.stop()


def start(folder: Path, people: Iterable[Human], *, tls: tuple[Path, Path] | None = None) -> Directory:
    """A slapd with these people and their groups, its state in `folder`; returns when it listens.

    `tls`: files of certificate and key; then StartTLS is offered and `url` is `ldaps://` (a second port). Raises
    NotFound for a program that is missing, Unreachable when it does not start.
    """
    slapd = str(daemon.find("slapd", HINT))
    schema = daemon.find("core.schema", HINT, "/etc/ldap/schema").resolve().parent
    modules = daemon.find("back_mdb.so", HINT, "/usr/lib/ldap").resolve().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "data").mkdir(mode=0o700)
    reader, admin = Secret(secrets.token_urlsafe(18)), Secret(secrets.token_urlsafe(18))
    password_file = folder / "admin-password"
    password_file.touch(0o600)
    password_file.write_text(admin.reveal())  # without a line's end: ldapmodify -y takes the file as it is
    (folder / READER_FILE).touch(0o600)
    (folder / READER_FILE).write_text(reader.reveal() + "\n")
    config = folder / "slapd.conf"
    config.touch(0o600)
    words = {"schema": schema, "modules": modules, "folder": folder, "base": BASE, "admin": ADMIN, "reader": READER}
    files = f'TLSCertificateFile "{tls[0]}"\nTLSCertificateKeyFile "{tls[1]}"' if tls else ""
    config.write_text(_CONFIG.format(tls=files, admin_hash=_hashed(admin), **words))
    ldif = folder / "people.ldif"
    ldif.touch(0o600)
    ldif.write_text(_entries(tuple(people), reader))
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH"}}
    loaded = subprocess.run(
        [slapd, "-T", "add", "-q", "-f", str(config), "-l", str(ldif)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if loaded.returncode != 0:
        raise Unreachable(f"slapd did not take its entries: {loaded.stderr.strip()[-300:]}")
    started = daemon.start(
        "slapd",
        folder / "slapd.log",
        lambda port: [slapd, "-h", f"ldap{'s' * bool(tls)}://{ADDRESS}:{port}/", "-f", str(config), "-d", "none"],
        environment,
    )
    return Directory(started, folder, f"ldap{'s' * bool(tls)}://{ADDRESS}:{started.port}", reader, admin)


def settings_of(directory: Directory, *, max_age_s: int) -> str:
    """The `[directory]` table for jitgate.toml."""
    return f"""
[directory]
url = "{directory.url}"
bind_dn = "{READER}"
bind_password_file = "{directory.folder / READER_FILE}"
person_base = "{PEOPLE}"
group_base = "{GROUPS}"
max_age_s = {max_age_s}
"""


def _entries(people: tuple[Human, ...], reader: Secret[str]) -> str:
    entries = [
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n",
        f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n",
        f"dn: {GROUPS}\nobjectClass: organizationalUnit\nou: groups\n",
        (
            f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
            f"cn: reader\nuserPassword: {_hashed(reader)}\n"
        ),
        *(entry_of(human) for human in people),
    ]
    for group in sorted({group for human in people for group in human.groups}):
        members = "".join(f"member: {human.dn}\n" for human in people if group in human.groups)
        entries.append(f"dn: cn={group},{GROUPS}\nobjectClass: groupOfNames\ncn: {group}\n{members}")
    return "\n".join(entries)


def entry_of(human: Human) -> str:
    """The LDIF of one person."""
    return (
        f"dn: {human.dn}\nobjectClass: inetOrgPerson\nuid: {human.name}\ncn: {human.name.capitalize()} Example\n"
        f"sn: Example\nmail: {human.mail}\nuserPassword: {_hashed(human.password)}\n"
    )


def _hashed(password: Secret[str]) -> str:
    """{SSHA}, which every slapd knows without a module."""
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.reveal().encode() + salt).digest()  # noqa: S324  # a throw-away random password
    return "{SSHA}" + b64encode(digest + salt).decode()
