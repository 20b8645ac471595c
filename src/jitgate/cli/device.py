"""The device flow (RFC 8628), which the service runs: the person signs in with any browser, on any machine."""

import re
import time

from jitgate.cli.answers import Row, check_id, text, whole
from jitgate.cli.command import Options
from jitgate.cli.out import say, tell
from jitgate.cli.providers import Provider, check_url
from jitgate.cli.service import Service
from jitgate.cli.signing import Signer
from jitgate.cli.times import parse, until
from jitgate.core.clock import SECOND, system_clock
from jitgate.core.errors import BadInput, NotSignedIn
from jitgate.core.text import shown
from jitgate.identity.nonce import proof_subject

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 -]{2,31}")
_INTERVALS = range(1, 61)  # seconds between two questions
_LONGEST_S = 3600


def sign_in_elsewhere(service: Service, provider: Provider, signer: Signer, key_line: str, options: Options) -> Row:
    """The service's answer to the sign-in. `NotSignedIn` when the time is over and nobody came."""
    subject = proof_subject(provider.name)
    begun = service.post(
        "/v1/sign-in/device", {"provider": provider.name, "key": key_line}, subject=subject, signer=signer
    )
    path = f"/v1/sign-in/device/{check_id(text(begun, 'id'))}"
    ends, interval = parse(text(begun, "expires_at")), _seconds(begun)
    code = text(begun, "user_code")
    if not _CODE.fullmatch(code):
        raise BadInput(f"not a code to type: {shown(code)}", "tell the service's owner")
    address = check_url("the page of the device flow", text(begun, "verification_uri"))
    whole_address = text(begun, "verification_uri_complete", "")
    say(options, "open this address in a browser on any machine, and type the code if it asks for one:")
    tell(f"  {check_url('the page of the device flow', whole_address) if whole_address else address}")
    tell(f"  code  {code}")
    say(options, f"waiting for you there until {until(ends, system_clock())}")
    last = min(ends, system_clock() + _LONGEST_S * SECOND)
    while (now := system_clock()) < last:
        time.sleep(min(interval, max(0.0, (last - now) / SECOND)))
        answer = service.post(path, {}, subject=subject, signer=signer)
        if answer.get("state") != "pending":
            return answer
        interval = max(interval, _seconds(answer))
    raise NotSignedIn("the sign-in was not finished in time", "begin again: jitctl login --device")


def _seconds(answer: Row) -> int:
    return min(max(whole(answer, "interval"), _INTERVALS.start), _INTERVALS.stop - 1)
