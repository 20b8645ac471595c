"""Turning a spec into a certificate that says exactly that.

Rules, in order:
1. The body is built from the spec and nothing else; its type refuses what no certificate may say.
2. The signer signs the bytes, or refuses; a refusal is `Denied` with the signer's own words, or `SerialUsed`.
3. That the signature holds, by the key that the spec names, the signer has verified before it answered: it is there
   that a fault while signing has to be noticed, and what does not hold opens nothing. Here its form is checked.
4. What was signed is parsed again and compared with the spec, field by field.
"""

from jitgate.ca.model import CertSpec, IssuedCert, Signer, SignerRefusal, SignRequest
from jitgate.core.errors import BadInput, Conflict, Denied, Error, Unreachable
from jitgate.core.outcome import failed
from jitgate.ssh.cert import join, to_be_signed


class NotWhatWasAsked(Error):
    """The signer answered with something else than a signature over what it was given. Nothing may leave."""

    http_status = 503
    default_code = "signer_wrong"


class SerialUsed(Conflict):
    """The signer has seen this serial, or may have before it was restarted: take another one and ask again."""

    default_code = "serial_used"


async def issue(spec: CertSpec, serial: int, nonce: bytes, signer: Signer) -> IssuedCert:
    """`nonce`: 32 random bytes.

    Raises `FormatError` (the spec), `Denied` (the signer), `SerialUsed`, `Unreachable`, `NotWhatWasAsked`.
    """
    body = spec.body(serial)
    tbs = to_be_signed(body, nonce)
    answers = await signer.sign([SignRequest(spec.realm, tbs)])
    if len(answers) != 1:
        raise NotWhatWasAsked("the signer gave another number of answers than it was asked for")
    answer = answers[0]
    if isinstance(answer, SignerRefusal):
        raise _refused(answer)
    try:
        certificate = join(tbs, answer, vouched=True)
    except BadInput as error:
        raise NotWhatWasAsked(f"the signer's signature is not taken: {error.what}") from None
    if certificate.body != body or certificate.nonce != nonce:
        raise NotWhatWasAsked("the signed certificate differs from what was asked for")
    return IssuedCert(certificate, spec.realm, spec.grant_id)


def _refused(answer: SignerRefusal) -> Error:
    why = f"the signer refuses: {answer.why}"
    if answer.code == "serial":
        return SerialUsed(why, answer.hint)
    if answer.code == "custody":  # nothing is wrong with what was asked
        return Unreachable(f"the key that signs is out of reach: {answer.why}", answer.hint)
    return Denied(why, answer.hint, checks=(failed(answer.code, answer.why, answer.hint),))
