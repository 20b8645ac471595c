"""Our bytes read by ssh-keygen, and its by us: every key type; SSHSIG by AsyncSSH as well."""

import re
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given, settings
from tests.unit.ssh.bodies import bodies
from tests.unit.ssh.made import SOFTWARE, made, software_key
from tests.unit.ssh.test_cert import body, signed

from jitgate.ssh import sshsig
from jitgate.ssh.cert import CertificateBody, CertType, parse_certificate, parse_certificate_line
from jitgate.ssh.options import USER_EXTENSIONS
from jitgate.ssh.private import dump_private_key, load_private_key
from jitgate.ssh.pubkey import Algorithm, BadSignature, parse_public_key_line
from jitgate.ssh.wire import FormatError, to_base64

Run = Callable[..., str]
MESSAGE = b"what is signed\n"
SPACE = "request@example.org"
PERMITS = tuple((name, "") for name in sorted(USER_EXTENSIONS - {"no-touch-required"}))


class Refused(Exception):  # a finding of the oracle, not an error of ours
    pass


@pytest.fixture
def keygen(programs: Mapping[str, Path], tmp_path: Path) -> Run:
    """`keygen("-L", "-f", ...)`: what ssh-keygen prints, in a folder of its own; raises Refused when it fails."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [programs["ssh-keygen"], *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )
        if done.returncode:
            raise Refused(done.stderr.decode())
        return done.stdout.decode()

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def put(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
        path.chmod(0o600)
        return path

    return put


# ssh-keygen

KEYGEN_TYPES = {
    Algorithm.ED25519: ("-t", "ed25519"),
    Algorithm.ECDSA_256: ("-t", "ecdsa", "-b", "256"),
    Algorithm.ECDSA_384: ("-t", "ecdsa", "-b", "384"),
    Algorithm.ECDSA_521: ("-t", "ecdsa", "-b", "521"),
    Algorithm.RSA: ("-t", "rsa", "-b", "3072"),
}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_fingerprints_are_those_of_ssh_keygen(keygen, write, algorithm):
    key = made(algorithm).public
    shown = keygen("-l", "-f", write("id.pub", key.line("al@laptop")))
    assert shown.split()[1] == key.fingerprint
    assert "al@laptop" in shown
    assert keygen("-l", "-f", write("id-cert.pub", signed(body(key=key)).line())).split()[1] == key.fingerprint


@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_private_keys_of_ssh_keygen(keygen, tmp_path, algorithm):
    keygen("-q", *KEYGEN_TYPES[algorithm], "-N", "", "-C", "al at home", "-f", "id")
    key = load_private_key((tmp_path / "id").read_bytes())
    assert parse_public_key_line((tmp_path / "id.pub").read_text()) == (key.public, "al at home")
    key.public.verify(key.sign(MESSAGE), MESSAGE)


@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_private_keys_for_ssh_keygen(keygen, write, algorithm):
    key = software_key(algorithm, 0)
    file = write("id", dump_private_key(key, "al at home").reveal())
    assert parse_public_key_line(keygen("-y", "-f", file)) == (key.public, "al at home")


def listed(text: str) -> dict[str, object]:
    """What `ssh-keygen -L` prints, as the fields of a body."""

    def one(pattern: str) -> str:
        found = re.search(pattern, text)
        assert found, (pattern, text)
        return found[1]

    def several(title: str) -> tuple[str, ...]:
        found = re.search(rf"^ {{8}}{title}: (\(none\))?\n((?: {{16}}.*\n)*)", text, re.MULTILINE)
        assert found, (title, text)
        return tuple(line.strip() for line in found[2].splitlines())

    def second(moment: str) -> int:
        return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())

    return {
        "kind": one(r"Type: (\S+ (?:user|host)) certificate"),
        "key": one(r"Public key: \S+ (\S+)"),
        "ca": one(r"Signing CA: \S+ (\S+)"),
        "key_id": one(r'Key ID: "(.*)"'),
        "serial": int(one(r"Serial: (\d+)")),
        "valid": (second(one(r"from (\S+) to")), second(one(r"from \S+ to (\S+)"))),
        "principals": several("Principals"),
        "critical": several("Critical Options"),
        "extensions": several("Extensions"),
    }


def as_listed(this: CertificateBody) -> dict[str, object]:
    def unknown(value: str) -> str:
        data = len(value.encode()).to_bytes(4, "big") + value.encode() if value else b""
        return f" UNKNOWN OPTION: {data.hex()} (len {len(data)})" if value else " UNKNOWN FLAG OPTION"

    kind = this.key.algorithm.removesuffix("@openssh.com") + "-cert-v01@openssh.com"
    return {
        "kind": f"{kind} {this.type.name.lower()}",
        "key": this.key.fingerprint,
        "ca": this.ca.fingerprint,
        "key_id": this.key_id,
        "serial": this.serial,
        "valid": (this.valid_after, this.valid_before),
        "principals": this.principals,
        "critical": tuple(f"{name} {value}".strip() for name, value in this.critical_options),
        "extensions": tuple(name + unknown(value) if "@" in name else name for name, value in this.extensions),
    }


@pytest.mark.parametrize("ca", Algorithm)
@pytest.mark.parametrize("key", Algorithm)
def test_our_certificates_are_read_by_ssh_keygen(keygen, write, key, ca):
    authority, holder = made(ca, 9), made(key).public
    for this in (
        body(
            key=holder,
            ca=authority.public,
            serial=2**63 - 1,
            principals=("root@host:web1", "deploy@env:prod"),
            critical_options=(
                ("force-command", "echo 'a, b'; exit 3"),
                ("source-address", "192.0.2.0/24,2001:db8::/32"),
                *((("verify-required", ""),) if key.is_sk else ()),
            ),
            extensions=(
                ("grant@example.org", "01J"),
                *((("no-touch-required", ""),) if key.is_sk else ()),
                *PERMITS,
                ("x@example.org", ""),
            ),
        ),
        body(key=holder, ca=authority.public, type=CertType.HOST, principals=("web1.example.org", "web1")),
    ):
        cert = signed(this, authority)
        assert listed(keygen("-L", "-f", write("id-cert.pub", cert.line()))) == as_listed(this)


@settings(max_examples=15)
@given(pair=bodies())
def test_any_certificate_is_read_by_ssh_keygen(programs, tmp_path_factory, pair):
    this, authority = pair
    folder = tmp_path_factory.mktemp("any")
    (folder / "c.pub").write_text(signed(this, authority).line() + "\n")
    done = subprocess.run(
        [programs["ssh-keygen"], "-L", "-f", folder / "c.pub"], check=True, capture_output=True, env={"TZ": "UTC"}
    )
    text = done.stdout.decode()
    assert f"Serial: {this.serial}\n" in text
    assert this.key.fingerprint in text
    assert this.ca.fingerprint in text
    assert set(this.principals) <= {line.strip() for line in text.splitlines()}


@pytest.mark.parametrize("ca", Algorithm)
def test_a_signature_that_we_refuse_ssh_keygen_refuses(keygen, write, ca):
    authority = made(ca, 9)
    blob = bytearray(signed(body(ca=authority.public), authority).blob)
    blob[blob.index(b"jitgate")] ^= 1  # in the key id
    with pytest.raises(BadSignature):
        parse_certificate(bytes(blob))
    with pytest.raises(Refused):
        keygen("-L", "-f", write("id-cert.pub", f"ssh-ed25519-cert-v01@openssh.com {to_base64(bytes(blob))}"))


@pytest.mark.parametrize("ca", SOFTWARE)
@pytest.mark.parametrize("key", Algorithm)
def test_certificates_of_ssh_keygen_are_read_by_us(keygen, write, tmp_path, key, ca):
    authority, holder = software_key(ca, 9), made(key).public
    write("ca", dump_private_key(authority).reveal())
    write("id.pub", holder.line())
    common = {
        "key": holder,
        "ca": authority.public,
        "serial": 77,
        "valid_after": 0x6B000000,
        "valid_before": 0x6B00FFFF,
    }
    arguments = ("-q", "-s", "ca", "-I", "al 1", "-z", "77", "-V", "0x6b000000:0x6b00ffff")
    given_options = [
        "force-command=uptime -p",
        "source-address=192.0.2.0/24,2001:db8::/32",
        "extension:grant@example.org=01J",
        *(("verify-required", "no-touch-required") if key.is_sk else ()),
    ]
    keygen(*arguments, "-n", "root,deploy@env:prod", *(x for o in given_options for x in ("-O", o)), "id.pub")
    line = (tmp_path / "id-cert.pub").read_text()
    found = parse_certificate_line(line)
    assert found.body == body(
        **common,
        key_id="al 1",
        principals=("root", "deploy@env:prod"),
        critical_options=(
            ("force-command", "uptime -p"),
            ("source-address", "192.0.2.0/24,2001:db8::/32"),
            *((("verify-required", ""),) if key.is_sk else ()),
        ),
        extensions=(("grant@example.org", "01J"), *((("no-touch-required", ""),) if key.is_sk else ()), *PERMITS),
    )
    assert line.split()[:2] == found.line().split()
    keygen(*arguments, "-h", "-n", "web1.example.org", "id.pub")
    host = parse_certificate_line((tmp_path / "id-cert.pub").read_text())
    assert host.body == body(**common, type=CertType.HOST, key_id="al 1", principals=("web1.example.org",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", "root", "-V", "+5m"), "serial"),  # its default is 0
        (("-z", "1", "-V", "+5m"), "0 principals"),
        (("-z", "1", "-n", "root"), "no end"),
        (("-z", "1", "-n", "root", "-V", "always:forever"), "no end"),
        (("-z", "1", "-n", "web*", "-V", "+5m"), "principal"),
        (("-z", "1", "-h", "-n", "localhost", "-V", "+5m"), "own machine"),
        (("-z", "1", "-n", "root", "-V", "+5m", "-O", "critical:new@example.org=x"), "critical option"),
        (("-z", "1", "-n", "root", "-V", "+5m", "-O", "source-address=192.0.2.1"), "networks"),
        (("-z", "1", "-n", "root", "-V", "+5m", "-O", "no-touch-required"), "no effect"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_ssh_keygen_signs_and_we_refuse(keygen, write, tmp_path, arguments, words):
    write("ca", dump_private_key(software_key(Algorithm.ED25519, 9)).reveal())
    write("id.pub", made(Algorithm.ED25519).public.line())
    keygen("-q", "-s", "ca", "-I", "al", *arguments, "id.pub")
    with pytest.raises(FormatError, match=words):
        parse_certificate_line((tmp_path / "id-cert.pub").read_text())


def test_a_certificate_signed_with_sha1_is_refused(keygen, write, tmp_path):
    write("ca", dump_private_key(software_key(Algorithm.RSA, 0)).reveal())
    write("id.pub", made(Algorithm.ED25519).public.line())
    arguments = ("-q", "-s", "ca", "-I", "al", "-z", "1", "-n", "root", "-V", "+5m")
    try:
        keygen(*arguments, "-t", "ssh-rsa", "id.pub")
    except Refused:
        pytest.skip("this ssh-keygen makes no SHA-1 signatures any more")
    with pytest.raises(BadSignature, match="SHA-2"):
        parse_certificate_line((tmp_path / "id-cert.pub").read_text())
    keygen(*arguments, "-t", "rsa-sha2-256", "id.pub")
    parse_certificate_line((tmp_path / "id-cert.pub").read_text())


# SSHSIG


@pytest.mark.parametrize("algorithm", Algorithm)
def test_our_signatures_are_taken_by_ssh_keygen_and_asyncssh(keygen, write, algorithm):
    key = made(algorithm)
    blob = sshsig.encode(key.public, SPACE, key.sign(sshsig.signed_bytes(SPACE, MESSAGE)))
    signature = write("sig", sshsig.armor(blob).encode())
    allowed = f'al namespaces="{SPACE}" {key.public.line()}'
    known = ("-f", write("allowed", allowed), "-I", "al", "-n", SPACE, "-s", signature)
    assert key.public.fingerprint in keygen("-Y", "verify", *known, stdin=MESSAGE)
    assert key.public.fingerprint in keygen("-Y", "check-novalidate", "-n", SPACE, "-s", signature, stdin=MESSAGE)
    with pytest.raises(Refused):
        keygen("-Y", "verify", *known, stdin=MESSAGE + b".")
    with pytest.raises(Refused):
        keygen("-Y", "check-novalidate", "-n", "file", "-s", signature, stdin=MESSAGE)
    assert asyncssh.validate_sshsig(MESSAGE, blob, "al", allowed.encode())
    assert not asyncssh.validate_sshsig(MESSAGE + b".", blob, "al", allowed.encode())


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
@pytest.mark.parametrize("algorithm", SOFTWARE)
def test_signatures_of_ssh_keygen_and_asyncssh_are_taken_by_us(keygen, write, tmp_path, algorithm, hash_name):
    key = software_key(algorithm, 0)
    file = dump_private_key(key).reveal()
    write("message", MESSAGE)
    keygen("-q", "-Y", "sign", "-O", f"hashalg={hash_name}", "-n", SPACE, "-f", write("id", file), "message")
    text = (tmp_path / "message.sig").read_text()
    assert sshsig.armor(sshsig.dearmor(text)) == text
    theirs = asyncssh.create_sshsig(asyncssh.import_private_key(file), MESSAGE, hash_name=hash_name, namespace=SPACE)
    for blob in (sshsig.dearmor(text), sshsig.dearmor(theirs.decode())):
        assert sshsig.verify(blob, SPACE, MESSAGE) == key.public
        with pytest.raises(BadSignature):
            sshsig.verify(blob, SPACE, MESSAGE + b".")
        with pytest.raises(BadSignature):
            sshsig.verify(blob, "file", MESSAGE)
