"""Groups from a real OpenLDAP: who is found, what a name cannot do, and every way in which it may not answer."""

import json
import os
import signal
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, sleep

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.client import Connection
from tests.providers import CLIENT, FakeProvider
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.adapters.ldap import directory
from jitgate.adapters.ldap.cache import CachedDirectory, open_directory
from jitgate.adapters.ldap.directory import look, ssl_context
from jitgate.adapters.ldap.settings import DirectorySettings
from jitgate.app.demo import openldap
from jitgate.app.demo.openldap import BASE, GROUPS, PEOPLE, READER, Directory, Human
from jitgate.core.clock import system_clock
from jitgate.core.errors import Denied, Unreachable
from jitgate.core.secret import Secret
from jitgate.identity.nonce import nonce_for

SALT = "5a" * 32
PASSWORD = Secret("correct horse")
HUMANS = (Human("alice", PASSWORD, ("engineers", "dba")), Human("bob", PASSWORD, ("dba",)), Human("nora", PASSWORD))
STRANGE = f"cn=eve (x\\2C *) \\5C y,{PEOPLE}"
WAIT_S = 20


@pytest.fixture
def slapd(programs: Mapping[str, Path], tmp_path: Path) -> Iterator[Directory]:
    assert programs
    started = openldap.start(tmp_path / "ldap", HUMANS)
    yield started
    started.stop()


def settings_of(slapd: Directory, **more: object) -> DirectorySettings:
    password = slapd.folder / "reader-password"
    password.touch(0o600)
    password.write_text(slapd.reader_password.reveal() + "\n")
    given = {
        "url": slapd.url,
        "bind_dn": READER,
        "bind_password_file": str(password),
        "person_base": PEOPLE,
        "group_base": GROUPS,
        "timeout_s": 2,
    }
    return DirectorySettings(**(given | more))  # type: ignore[arg-type]  # of several types


def groups(slapd: Directory, name: str, **more: object) -> tuple[str, ...] | None:
    settings = settings_of(slapd, **more)
    return look(settings, ssl_context(settings), slapd.reader_password, name)


def test_who_is_there_and_in_which_groups(slapd: Directory):
    assert groups(slapd, "alice") == ("dba", "engineers")
    assert groups(slapd, "nora") == ()
    assert groups(slapd, "nobody") is None
    assert groups(slapd, "alice@example.test", person_filter="(mail={name})") == ("dba", "engineers")


@pytest.mark.parametrize(
    "name",
    ["*", "a*", "alice)(uid=*", "*)(objectClass=*", "alice\\", "(", ")", "\\2a", "", "{dn}", "alice,ou=x"],
)
def test_a_name_is_a_name_and_never_a_part_of_the_filter(slapd: Directory, name: str):
    assert groups(slapd, name) is None


def test_an_entry_whose_name_means_something_in_a_filter(slapd: Directory):
    slapd.change(
        f"dn: {STRANGE}\nobjectClass: inetOrgPerson\nuid: eve\nsn: E\n\n"
        f"dn: cn=odd,{GROUPS}\nobjectClass: groupOfNames\ncn: odd\nmember: {STRANGE}\n"
    )
    assert groups(slapd, "eve") == ("odd",)


def test_who_is_disabled_there_is_nobody(slapd: Directory):
    slapd.change(f"dn: uid=bob,{PEOPLE}\nchangetype: modify\nadd: employeeType\nemployeeType: left\n")
    assert groups(slapd, "bob") == ("dba",)
    assert groups(slapd, "bob", disabled_filter="(employeeType=left)") is None
    assert groups(slapd, "alice", disabled_filter="(employeeType=left)") == ("dba", "engineers")


def test_two_of_one_name_are_not_chosen_from(slapd: Directory):
    slapd.change(f"dn: ou=more,{PEOPLE}\nobjectClass: organizationalUnit\nou: more\n")
    slapd.change(f"dn: uid=alice,ou=more,{PEOPLE}\nobjectClass: inetOrgPerson\nuid: alice\ncn: A\nsn: A\n")
    with pytest.raises(Denied) as raised:
        groups(slapd, "alice")
    assert raised.value.code == "directory_ambiguous"


def test_too_many_groups_are_refused_and_not_cut(slapd: Directory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(directory, "GROUPS_MAX", 1)
    with pytest.raises(Denied) as raised:
        groups(slapd, "alice")
    assert raised.value.code == "directory_groups"
    assert groups(slapd, "bob") == ("dba",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"person_base": f"ou=nowhere,{BASE}"},
        {"group_base": f"ou=nowhere,{BASE}"},
        {"bind_dn": f"cn=stranger,{BASE}"},
        {"bind_dn": "", "bind_password_file": ""},
        {"person_filter": "(&(uid={name})())"},
    ],
    ids=str,
)
def test_settings_that_fit_another_directory_find_nobody_and_no_gap(slapd: Directory, wrong: dict[str, str]):
    """No error is taken for "in no group"."""
    with pytest.raises(Unreachable):
        groups(slapd, "alice", **wrong)


def test_a_wrong_password_is_told_without_it(slapd: Directory):
    settings = settings_of(slapd)
    with pytest.raises(Unreachable, match="InvalidCredentials") as raised:
        look(settings, ssl_context(settings), Secret("guessed-secret"), "alice")
    assert "guessed" not in raised.value.what


def test_one_that_is_stopped_or_down(slapd: Directory):
    os.kill(slapd.daemon.process.pid, signal.SIGSTOP)
    began = monotonic()
    with pytest.raises(Unreachable):
        groups(slapd, "alice")
    assert monotonic() - began < WAIT_S
    os.kill(slapd.daemon.process.pid, signal.SIGCONT)
    assert groups(slapd, "alice")
    slapd.stop()
    with pytest.raises(Unreachable, match="refused"):
        groups(slapd, "alice")


async def test_one_that_hangs_holds_nobody_up_for_long(slapd: Directory):
    async with open_directory(settings_of(slapd, timeout_s=1), system_clock) as opened:
        assert isinstance(opened, CachedDirectory)
        os.kill(slapd.daemon.process.pid, signal.SIGSTOP)
        with pytest.raises(Unreachable):
            await opened.groups("alice", system_clock())
        os.kill(slapd.daemon.process.pid, signal.SIGCONT)


# --- TLS ---


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, for 127.0.0.1 or a host's name; files of it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ldap")]), datetime.now(UTC)
    named = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.touch(0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


@pytest.fixture
def over_tls(programs: Mapping[str, Path], tmp_path: Path) -> Iterator[Callable[[str], tuple[Directory, Path]]]:
    assert programs
    running: list[Directory] = []

    def start(name: str) -> tuple[Directory, Path]:
        certificate, key = make_certificate(tmp_path / name, name)
        running.append(openldap.start(tmp_path / f"ldap-{name}", HUMANS, tls=(certificate, key)))
        return running[-1], certificate

    yield start
    for each in running:
        each.stop()


def test_tls_is_by_authority_and_by_name(over_tls: Callable[[str], tuple[Directory, Path]], tmp_path: Path):
    slapd, authority = over_tls("127.0.0.1")
    assert slapd.url.startswith("ldaps://")
    assert groups(slapd, "alice", ca_file=str(authority)) == ("dba", "engineers")
    other, _ = make_certificate(tmp_path / "other", "127.0.0.1")
    with pytest.raises(Unreachable, match="certificate verify failed"):
        groups(slapd, "alice", ca_file=str(other))
    with pytest.raises(Unreachable, match="certificate verify failed"):
        groups(slapd, "alice")  # the system's authorities


def test_a_certificate_for_another_name_is_refused(over_tls: Callable[[str], tuple[Directory, Path]]):
    slapd, authority = over_tls("ldap.example.test")
    with pytest.raises(Unreachable, match="certificate verify failed"):
        groups(slapd, "alice", ca_file=str(authority))


def test_a_directory_without_start_tls_is_not_spoken_to_in_the_clear(slapd: Directory):
    """A named authority asks for TLS, and this slapd has none."""
    with pytest.raises(Unreachable):
        groups(
            slapd,
            "alice",
            ca_file=ssl.get_default_verify_paths().openssl_cafile or "/etc/ssl/certs/ca-certificates.crt",
        )


# --- the whole service ---


@pytest.fixture
def service(nursery: Nursery, slapd: Directory) -> Iterator[tuple[Service, FakeProvider]]:
    """`jitgate serve` with a provider that makes any token and this directory behind it."""
    fake = FakeProvider()
    settings = settings_of(slapd, max_age_s=1)
    with fake.serve() as issuer, new_service(nursery) as made:
        with made.config.open("a") as file:
            file.write(
                f'\n[[provider]]\nname = "corp"\nissuer = "{issuer}"\nclient_id = "{CLIENT}"\n'
                'people = "create"\ngroups = "directory"\n\n[directory]\nmax_age_s = 1\n'
            )
            for name in ("url", "bind_dn", "bind_password_file", "person_base", "group_base"):
                file.write(f"{name} = {json.dumps(getattr(settings, name))}\n")
        made.start()
        made.apply(ROLES)
        made.add_host("web1")
        yield made, fake


def enter(service: Service, fake: FakeProvider, name: str) -> Connection:
    connection = service.connect()
    signer = connection.signer
    nonce = nonce_for(service.url, "corp", signer.key.public.fingerprint, SALT)
    token = fake.token(nonce=nonce, sub=f"sub-{name}", preferred_username=name)
    body = {"provider": "corp", "id_token": token, "salt": SALT, "key": signer.key.public.line("a@b")}
    answer = connection.post("/v1/sign-in/oidc", body, subject="oidc:corp")
    assert answer.status == 201, answer
    signer.signed_in(answer)
    return connection


def until(said: str, ask: Callable[[], str]) -> None:
    """Ask until that is the answer: it has to come within the time that the settings state, and a busy machine's."""
    deadline = monotonic() + WAIT_S
    while (answer := ask()) != said:
        assert monotonic() < deadline, answer
        sleep(0.05)


def asking(connection: Connection) -> Callable[[], str]:
    """What asking for web1 would get: a question, so that it may be asked often."""

    def ask() -> str:
        answer = connection.get("/v1/explain?host=web1")
        return answer.code or str(answer.json["code"])

    return ask


def test_what_changes_there_takes_effect_here(service: tuple[Service, FakeProvider], slapd: Directory):
    running, fake = service
    alice, bob = enter(running, fake, "alice"), enter(running, fake, "bob")
    assert alice.get("/v1/me").json["person"]["groups"] == ["dba", "engineers"]
    grant = alice.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    asked = {"grant": grant, "host": "web1"}
    assert alice.post("/v1/certificates", asked).status == 201
    assert bob.post("/v1/grants", {"host": "web1"}).code == "no_role"

    # a group given, a group taken: the grant that ran under it ends
    slapd.change(f"dn: cn=engineers,{GROUPS}\nchangetype: modify\nadd: member\nmember: uid=bob,{PEOPLE}\n")
    until("permitted", asking(bob))
    slapd.change(f"dn: cn=engineers,{GROUPS}\nchangetype: modify\ndelete: member\nmember: uid=alice,{PEOPLE}\n")
    until("no_role", asking(alice))
    until("[]", lambda: str(alice.get("/v1/grants").json["grants"]))
    assert alice.post("/v1/certificates", asked).status in (403, 409)

    # slow, and back
    os.kill(slapd.daemon.process.pid, signal.SIGSTOP)
    until("directory_unreachable", asking(bob))
    refused = bob.post("/v1/grants", {"host": "web1"})
    assert (refused.status, refused.code) == (503, "directory_unreachable")
    os.kill(slapd.daemon.process.pid, signal.SIGCONT)
    until("permitted", asking(bob))

    # gone
    slapd.change(f"dn: uid=bob,{PEOPLE}\nchangetype: delete\n")
    until("not_signed_in", asking(bob))
    assert running.stop() == 0, running.words()
