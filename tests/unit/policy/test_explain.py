import json

import pytest
from tests.unit.policy.given import WEB, facts, person, policy

from jitgate.core.errors import BadInput
from jitgate.policy.decide import decide
from jitgate.policy.explain import explain
from jitgate.policy.model import MINUTES_MAX, Ask, NeedsApproval

DENY = "role: freeze\neffect: deny\nwho: {groups: [contractors]}\n"


def test_an_explanation_shows_every_role_and_check():
    bundle, ask = policy(WEB + "reason: required\n", DENY), Ask("web1")
    said = explain(decide(person("ops"), ask, facts(), bundle, complete=True), ask, ("ubuntu@host:web1",))
    assert (said["decision"], said["code"], said["role"]) == ("deny", "reason_needed", "web")
    assert (said["why"], said["hint"]) == ("a reason is required", "say why you need it")
    assert said["principals"] == []  # a refusal promises none
    assert [(role["role"], role["effect"], role["matched"]) for role in said["roles"]] == [
        ("freeze", "deny", False),
        ("web", "allow", False),
    ]
    failed = [check["name"] for check in said["roles"][1]["checks"] if check["outcome"] != "passed"]
    assert failed == ["reason"]
    json.dumps(said)


def test_a_permit_and_an_approval_are_explained():
    bundle, ask = policy(WEB), Ask("web1")
    said = explain(decide(person("ops"), ask, facts(), bundle), ask, ("ubuntu@host:web1",))
    assert (said["decision"], said["login"], said["principals"]) == ("permit", "ubuntu", ["ubuntu@host:web1"])
    assert said["policy_digest"] == bundle.digest
    waiting = NeedsApproval(bundle.rules["web"].role, "ubuntu", bundle.digest, ())
    assert explain(waiting, ask, ("ubuntu@host:web1",))["principals"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "web1,web2"},
        {"login": "root\n"},
        {"role": "*"},
        {"minutes": 0},
        {"minutes": -5},
        {"minutes": MINUTES_MAX + 1},
        {"reason": "a\x1b[31mb"},
        {"reason": "x" * 501},
        {"ticket": "a\u202eb"},
        {"ticket": "for Alice Miller"},  # it stands in the log for ever: a word, not people's text
        {"ticket": "x" * 65},
    ],
)
def test_a_malformed_ask_is_refused(wrong):
    with pytest.raises(BadInput):
        Ask(**{"host": "web1", **wrong})
