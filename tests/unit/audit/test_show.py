import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.samples import ALICE, GRANT, START, an_event

from jitgate.audit.events import Actor, EventType
from jitgate.audit.log import EMPTY, Entry, append, erase
from jitgate.audit.show import LINE_MAX, as_json, as_line
from jitgate.core.clock import SECOND


def entry_of(kind: EventType, **changes: object) -> Entry:
    event = replace(an_event(kind), **changes)  # type: ignore[arg-type]  # chosen by name
    return append(EMPTY, [event], random=bytes)[1][0]


def shown(entry: Entry) -> dict[str, object]:
    return as_json(entry.columns.index, entry.leaf, entry.personal)


@pytest.mark.parametrize("kind", list(EventType))
def test_every_type_can_be_shown(kind):
    found = shown(entry_of(kind))
    assert json.loads(json.dumps(found)) == found
    assert kind.value in as_line(found)
    assert "alice" in as_line(found)


def test_the_object():
    found = shown(entry_of(EventType.GRANT_REFUSED, time=START + 12))
    assert found["time"] == "2025-10-09T08:53:20.000012Z"
    assert found["actor"] == {"kind": "person", "id": ALICE, "name": "alice"}
    assert found["checks"] == [
        {"name": "group", "outcome": "passed", "why": "alice is in ops", "hint": ""},
        {"name": "host", "outcome": "failed", "why": "web1 has no label env=prod", "hint": "ask the owner"},
    ]
    assert (found["reason"], found["serial"], found["erased"]) == ("disk full, ticket 42", "", [])


def test_the_line():
    line = as_line(shown(entry_of(EventType.GRANT_REFUSED, detail=(("code", "no_role"),))))
    assert line == (
        f"2025-10-09T08:53:20Z #0 grant.refused alice ubuntu@host:web1 grant={GRANT} source=192.0.2.7 code=no_role "
        "host: 'web1 has no label env=prod' reason='disk full, ticket 42'"
    )


def test_the_line_of_a_certificate_is_for_reading():
    found = shown(entry_of(EventType.CERTIFICATE_ISSUED)) | {
        "key_id": "jitgate grant=x person=alice",
        "serial": "7",
        "detail": {
            "ca": "SHA256:a",
            "digest": "d" * 64,
            "fingerprint": "SHA256:b",
            "kind": "user",
            "policy": "e" * 64,
            "principals": "ubuntu@host:web1",
            "role": "web-ops",
            "valid_after": START,
            "valid_before": START + 900 * SECOND,
        },
        "checks": [],
        "reason": "",
    }
    # Digests, the CA and what the target says already are in the JSON; a time is one that people read.
    assert as_line(found) == (
        f"2025-10-09T08:53:20Z #0 certificate.issued alice ubuntu@host:web1 serial=7 grant={GRANT} source=192.0.2.7 "
        "role=web-ops valid_before=2025-10-09T09:08:20Z"
    )


def test_the_digest_of_a_policy_that_was_applied_is_shown():
    line = as_line(shown(entry_of(EventType.POLICY_APPLIED, detail=(("digest", "d" * 64), ("roles", 3)))))
    assert f"digest={'d' * 64} roles=3" in line


@pytest.mark.parametrize("moment", [-1, 10**25, "soon", True, None])
def test_what_is_no_time_is_shown_as_it_is(moment):
    assert f"ends_at={moment}" in as_line({"type": "grant.opened", "detail": {"ends_at": moment}})


def test_an_actor_without_a_name_is_named_by_what_it_is():
    assert " service " in as_line(shown(entry_of(EventType.HOST_REMOVED, actor=Actor("service"))))
    assert " unknown:'no such one' " in as_line(
        shown(entry_of(EventType.SIGN_IN_REFUSED, actor=Actor("unknown", name="no such one")))
    )


def test_erased_and_altered_texts_are_called_so():
    entry = entry_of(EventType.GRANT_REFUSED)
    erased = as_json(0, entry.leaf, erase(entry.personal, {"actor", "checks"}))
    assert erased["erased"] == ["actor", "checks"]
    assert erased["actor"] == {"kind": "person", "id": ALICE, "name": "(erased)"}
    assert "host: (erased)" in as_line(erased).replace("'", "")
    altered = as_json(0, entry.leaf, entry.personal.replace("disk full", "hardly").replace("in ops", "in dev"))
    assert altered["reason"] == "(altered)"
    assert {check["why"] for check in altered["checks"]} == {"(altered)"}  # type: ignore[attr-defined]  # a list of dicts


@pytest.mark.parametrize(("leaf", "personal"), [(b"", ""), (b"{}", ""), (b"[" * 100_000, ""), (b'{"time":"x"}', "a")])
def test_a_row_that_cannot_be_read_hides_no_other(leaf, personal):
    assert as_line(as_json(7, leaf, personal)) == "-Z #7 unreadable"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**14, 10**25)
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["time", "index", "type", "actor", "subject", "target", "serial", "source", "reason", "detail", "checks"]


@given(st.data())
def test_a_leaf_with_one_value_replaced_is_shown_or_unreadable(data):
    entry = entry_of(EventType.GRANT_REFUSED)
    body = json.loads(entry.leaf)
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(VALUES)
    assert as_line(as_json(0, json.dumps(body).encode(), entry.personal)).isprintable()
    junk = data.draw(st.text(max_size=40))
    assert as_line(as_json(0, entry.leaf, junk)).isprintable()


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_whatever_a_server_sends_the_line_is_safe_for_a_terminal(entry):
    line = as_line(entry)
    assert line.isprintable()
    assert len(line) <= LINE_MAX


@pytest.mark.parametrize(
    "evil", ["\x1b]0;owned\x07", "\u202eecilA", "a\nfake line", "\x9b2J", "\u2066x", "\udcff", "\u200b"]
)
def test_nothing_in_a_text_reaches_the_terminal_as_control(evil):
    line = as_line(
        {
            "reason": evil,
            "target": evil,
            "actor": {"kind": evil, "name": evil},
            "detail": {evil: evil},
            "checks": [{"name": evil, "outcome": evil, "why": evil}],
        }
    )
    assert line.isprintable()
    assert evil not in line


def test_a_text_cannot_pass_as_other_fields():
    line = as_line({"reason": "x' serial=1 reason='y"})
    assert line.endswith(r"reason='x\u0027 serial=1 reason=\u0027y'")
