"""What the tests of the real signer process share: its files, and certificates of this very moment."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from tests.unit.ca.samples import GRANT, ORIGIN, WEB1, private, public

from jitgate.adapters.signers.files import write_key, write_new
from jitgate.adapters.signers.process import SignerSettings
from jitgate.ca.agent_keys import agents_text
from jitgate.ca.model import SignRequest
from jitgate.ca.rules import default_rules
from jitgate.ca.shape import shape
from jitgate.core.clock import HOUR, system_clock
from jitgate.ssh.cert import to_be_signed

_serials: Iterator[int] = count(1)


def signer_files(folder: Path) -> SignerSettings:
    """Keys, rules and an empty state below `folder`, as a new installation has them."""
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    for name in ("user", "host", "log", "root", "online"):
        write_key(keys, name, private(name))
    rules = folder / "signer.toml"
    text = default_rules(ORIGIN, "default", user_key="user", host_key="host", log_key="log")
    write_new(rules, (text + agents_text("root", "online")).encode())
    return SignerSettings(keys, rules, folder / "state")


def request(*, realm: str = "default", subject: str = "laptop", ca: str = "user") -> SignRequest:
    """A certificate that the default rules allow, with the next serial."""
    now = system_clock()
    spec = shape(replace(GRANT, opened_at=now, ends_at=now + HOUR), WEB1, public(subject), public("user"), now)
    body = replace(spec, ca=public(ca)).body(next(_serials))
    return SignRequest(realm, to_be_signed(body, bytes(32)))
