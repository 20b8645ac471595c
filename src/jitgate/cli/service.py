"""Talking to the service: one origin, bounded answers, no redirects, every change signed by the person's key."""

import json
import re
import signal
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode

from jitgate import __version__
from jitgate.cli.answers import Row, as_row
from jitgate.cli.command import Options
from jitgate.cli.problems import raise_problem
from jitgate.cli.profile import Profile, Session, load_session
from jitgate.cli.signing import Signer, load_signer, make_blob
from jitgate.cli.trust import trusted
from jitgate.core.clock import SECOND, Micros, system_clock
from jitgate.core.errors import BadInput, Error, Unreachable
from jitgate.core.text import shown
from jitgate.identity.proof import ProofClaim

if TYPE_CHECKING:
    import httpx2

ANSWER_MAX = 1 << 20  # bytes
LIST_MAX = 16 << 20  # bytes of a list that grows with the installation: ten thousand hosts take a few MB
_SECONDS = 30.0  # for a whole answer; a service that drips is a service that is not there
_SKEW_MAX = 60  # seconds; the service refuses proofs that are further off
_REDIRECTS = range(300, 400)
_NO_CONTENT = 204
# what Python and OpenSSL put around the words that a person can use
_NOISE = re.compile(r"\[[^\]]*\] |certificate verify failed: | \(_ssl\.c:[0-9]+\)")


class Service:
    """The service of one profile. `session` is None before a sign-in; its token goes to this origin only."""

    def __init__(
        self, profile: Profile, options: Options, trust: ssl.SSLContext, session: Session | None = None
    ) -> None:
        import httpx2  # noqa: PLC0415  # a third of the time to start, and only needed here

        self.profile, self.options, self.session = profile, options, session
        self._client = httpx2.Client(
            verify=trust,
            # what goes to this machine in plain text must not be handed to a proxy
            trust_env=profile.url.startswith("https://"),
            follow_redirects=False,
            headers={
                "User-Agent": f"jitctl/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
        )
        self._signer: Signer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    @property
    def signer(self) -> Signer:
        if self._signer is None:
            self._signer = load_signer(self.profile.key_file, own=not self.profile.key)
        return self._signer

    def get(
        self, path: str, query: Mapping[str, str] | None = None, *, wait: float = 0, limit: int = ANSWER_MAX
    ) -> Row:
        """The answer's object. `wait`: how many seconds longer than usual the service may take; `limit`: bytes."""
        target = f"{path}?{urlencode(query)}" if query else path
        return self._exchange("GET", target, b"", {}, wait=wait, limit=limit)

    def post(
        self,
        path: str,
        document: Mapping[str, object],
        *,
        subject: str = "",
        signer: Signer | None = None,
        second: Signer | None = None,
    ) -> Row:
        """Sends the document with a proof by `signer`, or by this profile's key; `second` signs the same claim."""
        body = json.dumps(document).encode()
        claim = self._claim("POST", path, body, subject)
        headers = self._signed(claim, signer or self.signer)
        if second is not None:
            headers["Jitgate-Key-Proof"] = self._signed(claim, second)["Jitgate-Proof"]
        return self._exchange("POST", path, body, headers)

    def delete(self, path: str) -> None:
        self._exchange("DELETE", path, b"", self._signed(self._claim("DELETE", path, b"", ""), self.signer))

    def _claim(self, method: str, path: str, body: bytes, subject: str) -> ProofClaim:
        who = subject or (self.session.person_id if self.session else "")
        return ProofClaim(self.profile.url, who, method, path, body, system_clock())

    def _signed(self, claim: ProofClaim, signer: Signer) -> dict[str, str]:
        blob = make_blob(signer, claim, no_input=self.options.no_input)
        return {"Jitgate-Time": str(claim.time), "Jitgate-Proof": b64encode(blob).decode()}

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: dict[str, str],
        *,
        wait: float = 0,
        limit: int = ANSWER_MAX,
    ) -> Row:
        if self.session is not None:
            headers["Authorization"] = f"Bearer {self.session.token.reveal()}"
        if body:
            headers["Content-Type"] = "application/json"
        response, content = self.fetch(method, target, body, headers, wait=wait, limit=limit)
        document = _as_document(response, content, self.profile.url)
        if response.is_success:
            return document
        return raise_problem(response.status_code, document, self.profile.url)

    def fetch(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        wait: float = 0,
        limit: int = ANSWER_MAX,
    ) -> "tuple[httpx2.Response, bytes]":
        """The raw answer, at most `limit` bytes; `Unreachable`, or `BadInput` for what is no answer of ours."""
        import httpx2  # noqa: PLC0415  # as above

        url = self.profile.url
        try:
            with (
                at_most(_SECONDS + wait, url),
                self._client.stream(
                    method, url + target, content=body or None, headers=dict(headers or {}), timeout=_SECONDS + wait
                ) as response,
            ):
                content = read_bounded(response, limit, url, "is this the address of a jitgate service?")
        except httpx2.HTTPError as error:
            raise _unreachable(url, error) from None
        check_clock(response.headers.get("date", ""), system_clock())
        if response.status_code in _REDIRECTS:
            where = shown(response.headers.get("location", ""))
            raise BadInput(
                f"{url} sends elsewhere, to {where}; not followed", "give the service's own address: jitctl login URL"
            )
        return response, content


def signed_in(profile: Profile, options: Options) -> Service:
    """The service with this profile's sign-in; `NotSignedIn` if there is none."""
    return Service(profile, options, trusted(profile), load_session(profile, system_clock()))


def check_clock(date: str, now: Micros) -> None:
    """`Error` if this machine's clock is so far from the service's `Date` that no proof can hold."""
    try:
        theirs = int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return  # no date, no comparison: the service itself checks the proof's time
    apart = now // SECOND - theirs
    if abs(apart) > _SKEW_MAX + 1:  # the header has whole seconds
        side = "ahead of" if apart > 0 else "behind"
        raise Error(
            f"this machine's clock is {abs(apart)} s {side} the service's",
            "set the clock (timedatectl set-ntp true), then try again",
            code="clock",
        )


@contextmanager
def at_most(seconds: float, url: str) -> Iterator[None]:
    """`Unreachable` after so long, however the service drips: time limits of the client are for one read only."""

    def late(*_: object) -> None:
        raise Unreachable(f"{url} takes too long to answer", "try again; if it stays: jitctl doctor")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read_bounded(response: "httpx2.Response", limit: int, url: str, hint: str) -> bytes:
    """The body; `BadInput` for an encoding that was not asked for, and with `hint` for more than `limit` bytes."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadInput(f"{url} answers in an encoding that was not asked for", "look at what stands before it")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > limit:
            raise BadInput(f"{url} answers with more than {limit} bytes", hint)
    return bytes(content)


def _as_document(response: "httpx2.Response", content: bytes, url: str) -> Row:
    if response.status_code == _NO_CONTENT or (not content and response.is_success):
        return {}
    try:
        return as_row(json.loads(content))
    except (ValueError, RecursionError, BadInput):
        if not response.is_success:
            return {}  # the status alone says enough
        raise BadInput(f"{url} does not answer like a jitgate service", "check the address: jitctl login URL") from None


def _unreachable(url: str, error: "httpx2.HTTPError") -> Unreachable:
    words = _NOISE.sub("", str(error)).rstrip(". ")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "use the address with the fingerprint that `jitgate init` printed: jitctl login URL#sha256=HEX"
        if "certificate is not valid for" in words:
            hint = "use the address exactly as `jitgate init` printed it: the certificate is for that name only"
        if "expired" in words or "not yet valid" in words:
            hint = "look at this machine's clock (date); if it is right, tell the service's owner"
        return Unreachable(f"the TLS certificate of {url} is not trusted: {words}", hint)
    why = "no answer in time" if "Timeout" in type(error).__name__ else words or type(error).__name__
    return Unreachable(
        f"{url} cannot be reached: {why[:1].lower()}{why[1:]}", "is the service running, and this machine online?"
    )
