"""A proof is good for exactly what it was made for."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput
from jitgate.identity.proof import NAMESPACE, ProofClaim, make_proof, origin_of, verify_proof
from jitgate.ssh import sshsig
from jitgate.ssh.private import generate_ed25519
from jitgate.ssh.pubkey import parse_public_key
from jitgate.ssh.wire import put_string, put_uint32

NOW = 1_800_000_000 * SECOND
OURS = frozenset({"https://jit.example", "https://other.example:8443"})
KEY = generate_ed25519()
CLAIM = ProofClaim("https://jit.example", "alice", "POST", "/v1/grants?all=1", b'{"host":"web1"}', NOW)


def proof(claim: ProofClaim = CLAIM) -> bytes:
    return make_proof(claim, KEY.public, KEY.sign)


def test_a_proof_gives_the_key_that_made_it():
    assert verify_proof(proof(), CLAIM, origins=OURS, now=NOW) == KEY.public


def test_the_signed_text_is_the_documented_one():
    assert CLAIM.message() == (
        b"jitgate-proof-v1\nhttps://jit.example\nalice\nPOST /v1/grants?all=1\n1800000000000000\n"
        + hashlib.sha256(b'{"host":"web1"}').hexdigest().encode()
        + b"\n"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://other.example:8443"},
        {"subject": "bob"},
        {"method": "DELETE"},
        {"path": "/v1/grants"},
        {"body": b'{"host":"db1"}'},
        {"time": NOW + 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_proof_is_bound_to_each_field(change):
    with pytest.raises(BadInput, match="does not hold") as refused:
        verify_proof(proof(), replace(CLAIM, **change), origins=OURS, now=NOW)
    assert refused.value.code == "bad_proof"


def test_a_proof_made_for_another_service_is_refused_though_its_signature_holds():
    elsewhere = replace(CLAIM, origin="https://evil.example")
    with pytest.raises(BadInput, match="another service"):
        verify_proof(proof(elsewhere), elsewhere, origins=OURS, now=NOW)


@pytest.mark.parametrize("apart", [-60 * SECOND - 1, 60 * SECOND + 1])
def test_a_proof_outside_its_minute_is_refused(apart):
    with pytest.raises(BadInput, match="clock"):
        verify_proof(proof(), CLAIM, origins=OURS, now=NOW + apart)


@pytest.mark.parametrize("apart", [-60 * SECOND, 60 * SECOND])
def test_clocks_may_be_a_minute_apart(apart):
    assert verify_proof(proof(), CLAIM, origins=OURS, now=NOW + apart) == KEY.public


def test_a_signature_from_another_namespace_is_refused():
    other = sshsig.encode(KEY.public, "file", KEY.sign(sshsig.signed_bytes("file", CLAIM.message())))
    with pytest.raises(BadInput, match="does not hold"):
        verify_proof(other, CLAIM, origins=OURS, now=NOW)


def test_another_persons_key_does_not_pass_for_the_one_that_signed():
    signed = sshsig.signed_bytes(NAMESPACE, CLAIM.message())
    forged = sshsig.encode(KEY.public, NAMESPACE, generate_ed25519().sign(signed))
    with pytest.raises(BadInput, match="does not hold"):
        verify_proof(forged, CLAIM, origins=OURS, now=NOW)


@pytest.mark.parametrize(("flags", "holds"), [(1, True), (0, False)])
def test_a_security_key_must_have_been_touched(flags, holds):
    kind, application = "sk-ssh-ed25519@openssh.com", "ssh:"
    token = generate_ed25519()
    public = parse_public_key(put_string(kind) + token.public.blob[-36:] + put_string(application))

    def sign(data: bytes) -> bytes:
        end = bytes([flags]) + put_uint32(7)
        inner = hashlib.sha256(application.encode()).digest() + end + hashlib.sha256(data).digest()
        return put_string(kind) + token.sign(inner)[-68:] + end

    blob = make_proof(CLAIM, public, sign)
    if holds:
        assert verify_proof(blob, CLAIM, origins=OURS, now=NOW) == public
    else:
        with pytest.raises(BadInput, match="does not hold"):
            verify_proof(blob, CLAIM, origins=OURS, now=NOW)


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_bytes_that_are_no_proof_are_bad_input_and_nothing_else(blob):
    with pytest.raises(BadInput):
        verify_proof(blob, CLAIM, origins=OURS, now=NOW)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_proof_with_a_changed_byte_holds(data):
    blob = bytearray(proof())
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    try:
        signer = verify_proof(bytes(blob), CLAIM, origins=OURS, now=NOW)
    except BadInput:
        return
    pytest.fail(f"byte {at} may be changed; signed by {signer.fingerprint}")


@pytest.mark.parametrize("bad", ["\n", "\r", "\x00", "\x1b", "\x7f", " ", "é", "\u2028", "\ud800"])
@pytest.mark.parametrize("where", ["origin", "subject", "method", "path"])
def test_no_field_can_run_into_the_next(where, bad):
    for text in (getattr(CLAIM, where) + bad, bad + getattr(CLAIM, where), getattr(CLAIM, where) + bad + "x"):
        with pytest.raises(BadInput):
            replace(CLAIM, **{where: text})


_FIELDS = st.builds(
    ProofClaim,
    origin=st.sampled_from(sorted(OURS)),
    subject=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    method=st.sampled_from(["POST", "DELETE"]),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map("/".__add__),
    body=st.binary(max_size=10),
    time=st.integers(0, 2**63 - 1),
)


@given(_FIELDS, _FIELDS)
def test_two_claims_never_have_one_text(one, other):
    assert (one.message() == other.message()) == (one == other) == (one.digest() == other.digest())


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://jit.example:443"},
        {"origin": "http://jit.example:80"},
        {"origin": "https://jit.example:65536"},
        {"origin": "https://jit.example:0443"},
        {"origin": "https://JIT.example"},
        {"origin": "https://jit.example/"},
        {"origin": "https://user@jit.example"},
        {"origin": "ftp://jit.example"},
        {"subject": ""},
        {"subject": "x" * 129},
        {"method": "post"},
        {"method": ""},
        {"path": "v1/grants"},
        {"path": "/" + "x" * 2048},
        {"time": -1},
        {"time": 1 << 63},
    ],
    ids=str,
)
def test_fields_have_one_spelling_and_an_end(change):
    with pytest.raises(BadInput):
        replace(CLAIM, **change)


def test_a_subject_that_is_refused_is_not_repeated():
    with pytest.raises(BadInput) as refused:
        replace(CLAIM, subject="my secret password")
    assert "secret" not in f"{refused.value.what} {refused.value.hint}"


def test_the_body_is_not_in_the_repr():
    assert "hunter2" not in repr(replace(CLAIM, body=b'{"password":"hunter2"}'))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://jit.example", "https://jit.example"),
        ("https://jit.example:443/", "https://jit.example"),
        ("HTTPS://Jit.Example:8443/v1/me?x=1#sha256=00", "https://jit.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_origin_of_an_address(url, origin):
    assert origin_of(url) == origin
    assert replace(CLAIM, origin=origin).origin == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "jit.example",
        "https://",
        "ftp://jit.example",
        "https://a:b@jit.example",
        "https://a@jit.example",
        "https://x:99999",
        "https://[::1",
    ],
)
def test_an_address_that_is_none(url):
    with pytest.raises(BadInput):
        origin_of(url)


def test_the_base_install_is_enough():
    """jitctl imports it where argon2, pyotp and the rest of the server do not exist."""
    code = (
        "import sys; import jitgate.identity.proof; "
        "print({m.partition('.')[0] for m in sys.modules} & {'argon2', 'pyotp', 'pydantic', 'sqlalchemy', 'yaml'})"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
