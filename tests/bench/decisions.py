"""One decision among 1,000 roles, and a person's list over 10,000 hosts."""

import os
from collections.abc import Iterator

from tests.bench.rows import Row, median, timed

from jitgate.core.ids import new_id
from jitgate.identity.model import Factor, Kind, VerifiedIdentity
from jitgate.policy.bundle import load_files
from jitgate.policy.decide import decide
from jitgate.policy.model import Ask, Facts, HostFacts, Permit
from jitgate.policy.reach import reachable

NOW = 1_800_000_000_000_000
ROLES, HOSTS = 1_000, 10_000
SOURCE = "192.0.2.1"


def decision() -> Iterator[Row]:
    bundle = load_files({f"r{at}.yaml": _role(at) for at in range(ROLES)})
    hosts = [HostFacts(f"h{at}", "default", {"team": f"t{at % ROLES}"}, ("ubuntu",)) for at in range(HOSTS)]
    identifier = new_id(NOW, os.urandom)
    who = VerifiedIdentity(identifier, "alice", Kind.PERSON, "local", identifier, ("g7",), False, ((Factor.TOTP, NOW),))
    facts = Facts(hosts[7], NOW, SOURCE)
    assert isinstance(decide(who, Ask("h7", reason="x"), facts, bundle), Permit)
    one = median(timed(lambda: decide(who, Ask("h7", reason="x"), facts, bundle), 100) for _ in range(5))
    yield Row("decision", "ms", one, None, "", "<= 1")
    everything = median(timed(lambda: reachable(who, hosts, bundle, now=NOW, source=SOURCE)) for _ in range(5))
    yield Row("list", "ms", everything, None, "", "<= 200")


def _role(at: int) -> bytes:
    return (
        f"role: r{at}\neffect: allow\nwho: {{groups: [g{at}]}}\nwhat: {{labels: {{team: t{at}}}}}\nas: [ubuntu]\n"
        "how_long: {grant: 1h, certificate: 15m}\nreason: required\n"
    ).encode()
