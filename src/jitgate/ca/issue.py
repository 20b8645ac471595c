"""Turning a spec into a certificate that says exactly that.

Rules, in order:
1. The body is built from the spec and nothing else; its type refuses what no certificate may say.
2. The signer signs the bytes, or refuses; a refusal is `Denied` with the signer's own words, or `SerialUsed`.
3. The signature must hold by the key that the spec names; another key's signature is a crash, not a certificate.
4. What was signed is parsed again and compared with the spec, field by field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jitgate.ca.model import CertSpec, IssuedCert, Signer, SignerRefusal, SignRequest
from jitgate.core.errors import BadInput, Conflict, Denied, Error
from jitgate.core.outcome import failed
from jitgate.ssh.cert import CertificateBody, join, to_be_signed


class NotWhatWasAsked(Error):
    """The signer answered with something else than a signature over what it was given. Nothing may leave."""

    http_status = 503
    default_code = "signer_wrong"


class SerialUsed(Conflict):
    """The signer has seen this serial, or may have before it was restarted: take another one and ask again."""

    default_code = "serial_used"


@dataclass(frozen=True, slots=True)
class Order:
    """One certificate to be made. `nonce`: 32 random bytes."""

    spec: CertSpec
    serial: int
    nonce: bytes


async def issue(spec: CertSpec, serial: int, nonce: bytes, signer: Signer) -> IssuedCert:
    """Raises `FormatError` (the spec), `Denied` (the signer), `SerialUsed`, `Unreachable`, `NotWhatWasAsked`."""
    (result,) = await issue_many([Order(spec, serial, nonce)], signer)
    if isinstance(result, Error):
        raise result
    return result


async def issue_many(orders: Sequence[Order], signer: Signer) -> list[IssuedCert | Error]:
    """One message to the signer for all. A spec that is wrong raises before anything is signed."""
    bodies = [each.spec.body(each.serial) for each in orders]
    requests = [
        SignRequest(each.spec.realm, to_be_signed(body, each.nonce)) for each, body in zip(orders, bodies, strict=True)
    ]
    answers = await signer.sign(requests)
    if len(answers) != len(orders):
        raise NotWhatWasAsked("the signer gave another number of answers than it was asked for")
    return [
        _finished(order, body, request.tbs, answer)
        for order, body, request, answer in zip(orders, bodies, requests, answers, strict=True)
    ]


def _finished(order: Order, body: CertificateBody, tbs: bytes, answer: bytes | SignerRefusal) -> IssuedCert | Error:
    if isinstance(answer, SignerRefusal):
        if answer.code == "serial":
            return SerialUsed(f"the signer refuses: {answer.why}", answer.hint)
        return Denied(
            f"the signer refuses: {answer.why}", answer.hint, checks=(failed(answer.code, answer.why, answer.hint),)
        )
    try:
        certificate = join(tbs, answer)
    except BadInput as error:
        return NotWhatWasAsked(f"the signer's signature is not taken: {error.what}")
    if (certificate.body, certificate.nonce) != (body, order.nonce):
        return NotWhatWasAsked("the signed certificate differs from what was asked for")
    return IssuedCert(certificate, order.spec.realm, order.spec.grant_id)
