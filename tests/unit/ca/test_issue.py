"""A certificate leaves only as it was asked for, whatever the signer answers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from tests.unit.ca.samples import GRANT, NOW, WEB1, MemorySigner, finish, private, public

from jitgate.ca import issue as module
from jitgate.ca.issue import NotWhatWasAsked, SerialUsed, issue
from jitgate.ca.model import CertSpec, SignerRefusal, SignRequest
from jitgate.ca.shape import shape
from jitgate.core.errors import Denied
from jitgate.ssh.cert import CertificateBody, join, to_be_signed
from jitgate.ssh.wire import FormatError, put_string

SPEC = shape(GRANT, WEB1, public("laptop"), public("user"), NOW)


class WrongSigner(MemorySigner):
    def __init__(self, answer: Callable[[SignRequest], bytes | SignerRefusal], times: int = 1) -> None:
        super().__init__()
        self._wrong, self._times = answer, times

    async def sign(self, requests: Sequence[SignRequest]) -> list[bytes | SignerRefusal]:
        return [self._wrong(request) for request in requests] * self._times


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: private("user").sign(request.tbs) + b"\0",
        lambda request: private("user").sign(request.tbs)[:-1],
        lambda request: put_string("ssh-ed25519") + put_string(private("user").sign(request.tbs)[-63:]),
        lambda request: put_string("rsa-sha2-512") + private("user").sign(request.tbs)[15:],
        lambda _: b"",
    ],
    ids=["more bytes", "fewer bytes", "a short one", "another type", "nothing"],
)
def test_an_answer_that_is_no_signature_gives_nothing(answer):
    with pytest.raises(NotWhatWasAsked):
        finish(issue(SPEC, 7, bytes(32), WrongSigner(answer)))


@pytest.mark.parametrize("field", ["body", "nonce"])
def test_a_codec_that_reads_something_else_than_it_wrote_gives_nothing(field, monkeypatch):
    other = replace(SPEC, principals=("root@host:web1",)) if field == "body" else SPEC
    tbs = to_be_signed(other.body(7), bytes(32) if field == "body" else b"n" * 32)
    wrong = join(tbs, private("user").sign(tbs))
    monkeypatch.setattr(module, "join", lambda *_, **__: wrong)
    with pytest.raises(NotWhatWasAsked, match="differs"):
        finish(issue(SPEC, 7, bytes(32), MemorySigner()))


def test_another_number_of_answers_gives_nothing():
    with pytest.raises(NotWhatWasAsked, match="number of answers"):
        finish(issue(SPEC, 7, bytes(32), WrongSigner(lambda request: private("user").sign(request.tbs), times=2)))


def test_the_signers_words_reach_the_person():
    refusal = SignerRefusal("lifetime", "it ends 90000 s from now", "raise it")
    with pytest.raises(Denied, match="the signer refuses: it ends 90000 s from now") as raised:
        finish(issue(SPEC, 7, bytes(32), WrongSigner(lambda _: refusal)))
    assert raised.value.hint == "raise it"
    assert [check.name for check in raised.value.checks] == ["lifetime"]


def test_a_used_serial_is_an_error_of_its_own_so_that_another_can_be_taken():
    signer = MemorySigner()
    finish(issue(SPEC, 7, bytes(32), signer))
    with pytest.raises(SerialUsed):
        finish(issue(SPEC, 7, bytes(32), signer))


def test_what_comes_back_is_the_spec_in_every_field():
    body = finish(issue(SPEC, 7, b"n" * 32, MemorySigner())).certificate.body
    assert body == CertificateBody(
        SPEC.type,
        SPEC.key,
        7,
        SPEC.key_id,
        SPEC.principals,
        SPEC.valid_after_s,
        SPEC.valid_before_s,
        SPEC.critical_options,
        SPEC.extensions,
        SPEC.ca,
    )


# CVE-2024-7594, GHSA-59w7-v8rr-pr4p, CVE-2026-35414: empty principals, and those that a list or a pattern reads as more
@pytest.mark.parametrize(
    "principals", [(), ("",), (" ",), ("a,b",), ("*",), ("a?",), ("!a",), ("a b",), ("ü",), ("a\n",)]
)
def test_no_principal_or_an_unsafe_one_is_not_even_sent(principals: tuple[str, ...]):
    signer = MemorySigner()
    before = len(signer.lines)
    with pytest.raises(FormatError):
        finish(issue(replace(SPEC, principals=principals), 7, bytes(32), signer))
    assert len(signer.lines) == before


@pytest.mark.parametrize("serial", [0, -1, 1 << 63])
def test_a_serial_that_cannot_be_revoked_is_not_even_sent(serial: int):
    with pytest.raises(FormatError):
        finish(issue(SPEC, serial, bytes(32), MemorySigner()))


def test_a_spec_cannot_be_made_to_last_for_ever():
    endless: CertSpec = replace(SPEC, valid_before_s=(1 << 64) - 1)
    with pytest.raises(FormatError):
        finish(issue(endless, 7, bytes(32), MemorySigner()))
