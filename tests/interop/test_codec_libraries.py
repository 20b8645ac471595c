"""Our bytes read by AsyncSSH and cryptography, and theirs by us: every key type each of them knows."""

import ipaddress

import asyncssh
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
)
from hypothesis import given
from tests.unit.ssh.bodies import bodies
from tests.unit.ssh.made import SOFTWARE, SecurityKey, made, software_key
from tests.unit.ssh.raw import option, sound
from tests.unit.ssh.test_cert import body, signed

from jitgate.ssh.cert import CertType, join, parse_certificate, parse_certificate_line, to_be_signed
from jitgate.ssh.options import USER_EXTENSIONS
from jitgate.ssh.private import dump_private_key, load_private_key
from jitgate.ssh.pubkey import Algorithm, BadSignature, parse_public_key_line
from jitgate.ssh.wire import FormatError

PLAIN = tuple(SOFTWARE)  # what cryptography knows: of a security key it would drop the application
MESSAGE = b"what is signed\n"
PERMITS = tuple((name, "") for name in sorted(USER_EXTENSIONS - {"no-touch-required"}))

# cryptography


@given(pair=bodies(PLAIN))
def test_any_certificate_is_read_by_cryptography(pair):
    this, authority = pair
    cert = signed(this, authority)
    found = serialization.load_ssh_public_identity(cert.line().encode())
    assert isinstance(found, SSHCertificate)
    found.verify_cert_signature()
    assert found.type.value == this.type.value
    assert (found.serial, found.key_id.decode(), found.nonce) == (this.serial, this.key_id, cert.nonce)
    assert (found.valid_after, found.valid_before) == (this.valid_after, this.valid_before)
    assert tuple(p.decode() for p in found.valid_principals) == this.principals
    assert {n.decode(): v.decode() for n, v in found.critical_options.items()} == dict(this.critical_options)
    assert {n.decode(): v.decode() for n, v in found.extensions.items()} == dict(this.extensions)
    for theirs, ours in ((found.public_key(), this.key), (found.signature_key(), this.ca)):
        assert theirs.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() == ours.line()
    assert found.public_bytes().decode() == cert.line()


@given(pair=bodies(PLAIN))
def test_any_certificate_of_cryptography_is_read_by_us(pair):
    this, authority = pair
    holder = serialization.load_ssh_public_key(this.key.line().encode())
    builder = (
        SSHCertificateBuilder()
        .public_key(holder)  # type: ignore[arg-type]  # one of those it takes
        .serial(this.serial)
        .type(SSHCertificateType(this.type.value))
        .key_id(this.key_id.encode())
        .valid_principals([p.encode() for p in this.principals])
        .valid_after(this.valid_after)
        .valid_before(this.valid_before)
    )
    for name, value in this.critical_options:
        builder = builder.add_critical_option(name.encode(), value.encode())
    for name, value in this.extensions:
        builder = builder.add_extension(name.encode(), value.encode())
    theirs = builder.sign(software_key(authority.public.algorithm, 9)._private)
    assert parse_certificate_line(theirs.public_bytes().decode()).body == this


# AsyncSSH


@pytest.mark.parametrize("algorithm", Algorithm)
def test_keys_both_ways_with_asyncssh(algorithm):
    key = made(algorithm)
    theirs = asyncssh.import_public_key(key.public.line("al"))
    assert theirs.get_fingerprint() == key.public.fingerprint
    assert parse_public_key_line(theirs.export_public_key().decode()) == (key.public, "al")
    assert theirs.verify(MESSAGE, key.sign(MESSAGE))
    assert not theirs.verify(MESSAGE + b".", key.sign(MESSAGE))


@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_private_keys_both_ways_with_asyncssh(algorithm):
    theirs = asyncssh.import_private_key(dump_private_key(software_key(algorithm, 0), "al").reveal())
    assert theirs.get_comment() == "al"
    for form in ("openssh", "pkcs8-pem"):
        assert load_private_key(theirs.export_private_key(form)).public == software_key(algorithm, 0).public


def test_an_untouched_security_key_is_refused_by_both():
    sk = SecurityKey(software_key(Algorithm.ED25519, 0)._private)  # type: ignore[arg-type]  # it is an Ed25519 key
    theirs = asyncssh.import_public_key(sk.public.line())
    theirs.set_touch_required(True)  # it asks for no touch of its own accord
    assert theirs.verify(MESSAGE, sk.sign(MESSAGE, 1))
    assert not theirs.verify(MESSAGE, sk.sign(MESSAGE, 0))
    with pytest.raises(BadSignature):
        sk.public.verify(sk.sign(MESSAGE, 0), MESSAGE)


@given(pair=bodies())
def test_any_certificate_is_read_by_asyncssh(pair):
    this, authority = pair
    if ("verify-required", "") in this.critical_options:
        return  # AsyncSSH refuses it
    found = asyncssh.import_certificate(signed(this, authority).line("al"))
    assert isinstance(found, asyncssh.public_key.SSHOpenSSHCertificate)
    assert (found._serial, found._key_id, found._cert_type) == (this.serial, this.key_id, this.type.value)
    assert (found._valid_after, found._valid_before) == (this.valid_after, this.valid_before)
    assert tuple(found.principals) == this.principals
    assert found.key.public_data == this.key.blob
    assert found.signing_key.public_data == this.ca.blob
    options: dict[str, object] = {n: v or True for n, v in this.critical_options + this.extensions if "@" not in n}
    if networks := options.get("source-address"):
        options["source-address"] = [ipaddress.ip_network(item) for item in str(networks).split(",")]
    assert found.options == options


@pytest.mark.parametrize("ca", SOFTWARE)
@pytest.mark.parametrize("key", Algorithm)
def test_certificates_of_asyncssh_are_read_by_us(key, ca):
    holder, authority = made(key).public, software_key(ca, 9)
    theirs = asyncssh.import_private_key(dump_private_key(authority).reveal())
    subject = asyncssh.import_public_key(holder.line())
    since, until = 1_800_000_000, 1_800_000_900
    common = {"serial": 77, "valid_after": since, "valid_before": until}
    user = theirs.generate_user_certificate(
        subject,
        "al 1",
        principals=["root", "deploy@env:prod"],
        force_command="uptime -p",
        source_address=["192.0.2.0/24", "2001:db8::/32"],
        serial=77,
        valid_after=since,
        valid_before=until,
    )
    assert parse_certificate_line(user.export_certificate().decode()).body == body(
        **common,
        key=holder,
        ca=authority.public,
        key_id="al 1",
        principals=("root", "deploy@env:prod"),
        critical_options=(("force-command", "uptime -p"), ("source-address", "192.0.2.0/24,2001:db8::/32")),
        extensions=PERMITS,
    )
    host = theirs.generate_host_certificate(
        subject, "web1", principals=["web1.example.org"], serial=77, valid_after=since, valid_before=until
    )
    assert parse_certificate_line(host.export_certificate().decode()).body == body(
        **common,
        key=holder,
        ca=authority.public,
        type=CertType.HOST,
        key_id="web1",
        principals=("web1.example.org",),
    )
    with pytest.raises(FormatError):  # its defaults: serial 0, any principal, for ever
        parse_certificate_line(theirs.generate_user_certificate(subject, "al").export_certificate().decode())


def test_an_extension_cannot_be_written_so_that_asyncssh_reads_another():
    """It passes over an unknown extension's name and reads the value as the next name."""
    raw = sound().but(extensions=option(b"aaa@x")[:-4] + option(b"permit-pty") + bytes(4))
    with pytest.raises(FormatError):
        parse_certificate(raw.blob())
    for value in ("permit-pty", "", "permit-agent-forwarding"):
        tbs = to_be_signed(body(extensions=(("aaa@x", value),)), bytes(32))
        cert = join(tbs, made(Algorithm.ED25519, 9).sign(tbs))
        found = asyncssh.import_certificate(cert.line("al"))
        assert isinstance(found, asyncssh.public_key.SSHOpenSSHCertificate)
        assert found.options == {}
