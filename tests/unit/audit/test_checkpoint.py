import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.samples import KEY, ORIGIN, PUBLIC

from jitgate.audit.checkpoint import (
    checkpoint_body,
    open_checkpoint,
    open_note,
    parse_body,
    parse_verifier_key,
    seal,
    sign_note,
    unverified_checkpoint,
    verifier_key,
)
from jitgate.audit.tree import EMPTY, hash_leaf
from jitgate.core.errors import BadInput

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/audit/notes.json").read_text())
THREE = EMPTY.extend(hash_leaf(leaf) for leaf in (b"a", b"b", b"c"))
SEALED = seal(checkpoint_body(ORIGIN, THREE), ORIGIN, KEY.sign, PUBLIC)
ROOT = base64.b64encode(THREE.root()).decode()


@pytest.mark.parametrize("vector", VECTORS["notes"], ids=lambda vector: vector["key"][:12])
def test_notes_that_others_published(vector):
    name, public = parse_verifier_key(vector["key"])
    assert verifier_key(name, public) == vector["key"]
    assert open_note(f"{vector['text']}\n{vector['signatures']}", name, public).decode() == vector["text"]
    with pytest.raises(BadInput, match="wrong"):
        open_note(f"{vector['text'].replace('e', 'E', 1)}\n{vector['signatures']}", name, public)


def test_our_signature_is_what_others_write():
    vector = VECTORS["notes"][0]
    name, public = parse_verifier_key(vector["key"])
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(VECTORS["seeds"][name]))
    assert sign_note(vector["text"].encode(), name, key.sign, public) == f"{vector['text']}\n{vector['signatures']}"


def test_what_was_sealed_opens():
    opened = open_checkpoint(SEALED, ORIGIN, PUBLIC)
    assert (opened.origin, opened.size, opened.root) == (ORIGIN, 3, THREE.root())
    assert unverified_checkpoint(SEALED) == opened


def test_other_signatures_and_extension_lines_are_left_alone():
    body = checkpoint_body(ORIGIN, THREE) + b"an extension\n"
    witness = "— witness.example.com/w1 " + base64.b64encode(bytes(76)).decode() + "\n"
    assert open_checkpoint(seal(body, ORIGIN, KEY.sign, PUBLIC) + witness, ORIGIN, PUBLIC).size == 3


def test_limits_hold_even_for_what_our_key_signed():
    witness = "— witness.example.com/w1 " + base64.b64encode(bytes(76)).decode() + "\n"
    assert open_checkpoint(SEALED + witness * 16, ORIGIN, PUBLIC).size == 3  # as many as the specification asks for
    with pytest.raises(BadInput):
        open_checkpoint(SEALED + witness * 64, ORIGIN, PUBLIC)
    for extension in (b"a \x1b[2J", b"a\rb", b"x" * 100_000):
        body = checkpoint_body(ORIGIN, THREE) + extension + b"\n"
        with pytest.raises(BadInput, match="not a checkpoint"):
            open_checkpoint(seal(body, ORIGIN, KEY.sign, PUBLIC), ORIGIN, PUBLIC)


@given(st.integers(0, len(SEALED) - 1), st.characters(codec="utf-8"))
def test_any_other_character_anywhere_is_refused(at, character):
    altered = SEALED[:at] + character + SEALED[at + 1 :]
    if altered != SEALED:
        with pytest.raises(BadInput):
            open_checkpoint(altered, ORIGIN, PUBLIC)


def test_another_key_another_name_another_log():
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = other.public_key().public_bytes_raw()
    body = checkpoint_body(ORIGIN, THREE)
    with pytest.raises(BadInput, match="not signed by"):
        open_checkpoint(seal(body, ORIGIN, other.sign, public), ORIGIN, PUBLIC)
    with pytest.raises(BadInput, match="not signed by"):
        open_checkpoint(SEALED, "jitgate.example.org/log", PUBLIC)
    with pytest.raises(BadInput, match="of the log"):
        open_checkpoint(seal(body, "other.example.com", KEY.sign, PUBLIC), "other.example.com", PUBLIC)


def test_a_signer_that_signs_something_else_is_noticed():
    with pytest.raises(BadInput, match="signature is wrong"):
        seal(checkpoint_body(ORIGIN, THREE), ORIGIN, lambda body: KEY.sign(body + b" "), PUBLIC)


@pytest.mark.parametrize(
    "body",
    [
        "",
        f"{ORIGIN}\n3\n{ROOT}",
        f"{ORIGIN}\n03\n{ROOT}\n",
        f"{ORIGIN}\n-3\n{ROOT}\n",
        f"{ORIGIN}\n٣\n{ROOT}\n",
        f"{ORIGIN}\n9007199254740992\n{ROOT}\n",
        f"{ORIGIN}\n3\n{ROOT[:-2]}\n",
        f"{ORIGIN}\n3\n{ROOT[:-2]}9=\n",  # the same bytes in another spelling
        f"{ORIGIN}\n3\n{base64.b64encode(bytes(31)).decode()}\n",
        f"\n3\n{ROOT}\n",
        f"a log\n3\n{ROOT}\n",
        f"{ORIGIN}\n3\n{ROOT}\n\n",
    ],
)
def test_a_body_in_another_form_is_refused(body):
    with pytest.raises(BadInput):
        parse_body(body.encode())


@pytest.mark.parametrize("text", ["", "\n\n", "a\n\n— b\n", f"{SEALED}\n", SEALED.replace("\n", "\r\n"), SEALED * 2000])
def test_a_text_in_another_form_is_refused(text):
    with pytest.raises(BadInput):
        open_checkpoint(text, ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "text", ["", "a", "a+b", "a+00000000+AA==", verifier_key(ORIGIN, PUBLIC)[:-1], verifier_key("b", PUBLIC)[1:]]
)
def test_a_verifier_key_in_another_form_is_refused(text):
    with pytest.raises(BadInput):
        parse_verifier_key(text)
