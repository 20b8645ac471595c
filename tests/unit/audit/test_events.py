import sys
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.samples import ALICE, BOB, an_event

from jitgate.audit.events import Actor, Event, EventType, check_text, escape
from jitgate.audit.shapes import SHAPES
from jitgate.core.errors import BadInput

EACH = pytest.mark.parametrize("kind", list(EventType))


@EACH
def test_every_type_has_a_shape_and_takes_what_the_shape_says(kind):
    assert kind.value.count(".") == 1
    an_event(kind)
    an_event(kind, everything=False)


@EACH
def test_each_thing_that_it_must_carry_is_needed(kind):
    event = an_event(kind, everything=False)
    for name in SHAPES[kind].must:
        without = {"actor": Actor("service")} if name == "person" else {name: None if name == "serial" else ""}
        with pytest.raises(BadInput, match="without"):
            replace(event, **without)
    for key in SHAPES[kind].detail_must:
        with pytest.raises(BadInput, match="needs the details"):
            replace(event, detail=tuple(pair for pair in event.detail if pair[0] != key))


@EACH
def test_nothing_else_is_carried(kind):
    event, full = an_event(kind), an_event(EventType.CERTIFICATE_REFUSED)
    shape = SHAPES[kind]
    for name in {"target", "grant", "session", "checks", "reason"} - shape.must - shape.may:
        with pytest.raises(BadInput, match="with"):
            replace(event, **{name: getattr(full, name)})
    key = event.detail[0][0]
    for pairs in ([("unheard_of", "x")], [event.detail[0]]):
        with pytest.raises(BadInput):
            replace(event, detail=(*event.detail, *pairs))
    for value in (True, 1.5, None, "x\n", 2**53):
        with pytest.raises(BadInput):
            replace(event, detail=((key, value), *event.detail[1:]))  # type: ignore[arg-type]  # that is the point


def test_the_outcome_is_the_type_s():
    with pytest.raises(BadInput, match="always allowed"):
        replace(an_event(EventType.GRANT_OPENED), outcome="refused")


def test_a_type_is_one_of_ours():
    with pytest.raises(BadInput, match="not an event type"):
        replace(an_event(EventType.GRANT_OPENED), type="grant.opened")  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("serial", 0),
        ("serial", -1),
        ("serial", 2**63),
        ("serial", True),
        ("time", -1),
        ("time", 2**53),
        ("time", 1.5),
        ("realm", "Default"),
        ("target", "web1"),
        ("target", "host:web1\n"),
        ("target", "ubuntu@host:web1 root@host:db1"),
        ("target", "ubuntu@role:x"),
        ("grant", "01k5grant00000000000000000"),
        ("request", "1"),
        ("session", "x" * 26),
        ("key_id", "jitgate\x1b[2J"),
        ("source", "192.0.2.7\n"),
        ("key_id", "x" * 257),
        ("checks", ("no check",)),
    ],
)
def test_values_that_could_not_be_stored_or_shown_are_refused(name, value):
    with pytest.raises(BadInput):
        replace(an_event(EventType.CERTIFICATE_ISSUED), **{name: value})


@pytest.mark.parametrize("text", ["a\nb", "\x1b]0;x\x07", "a\u202eb", "a\u200bb", "\ud800", "x" * 501])
def test_a_reason_is_one_readable_line(text):
    with pytest.raises(BadInput):
        replace(an_event(EventType.GRANT_OPENED), reason=text)


def test_the_largest_numbers():
    event = replace(an_event(EventType.CERTIFICATE_ISSUED), serial=2**63 - 1, time=2**53 - 1)
    assert isinstance(event, Event)


@pytest.mark.parametrize(
    ("kind", "person", "name"),
    [
        ("person", "", "alice"),
        ("robot", "alice", ""),
        ("service", ALICE, ""),
        ("unknown", BOB, "bob"),
        ("admin", ALICE, "alice"),
        ("person", ALICE, "ali\u200fce"),
    ],
)
def test_an_actor_s_person_and_kind_belong_together(kind, person, name):
    with pytest.raises(BadInput):
        Actor(kind, person, name)


def test_invisible_and_control_characters_are_those_of_unicode():
    """What the reason's own check lets through must be recordable, and what it refuses must not be."""
    for number in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(number))
        refused = escape(chr(number), 20) != chr(number)
        if category in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
            assert refused, hex(number)
        elif category != "Cn":
            assert not refused, hex(number)


@given(st.text(st.characters(exclude_categories=()), max_size=40), st.integers(8, 50))
def test_an_escaped_text_is_always_recordable(text, limit):
    check_text("text", escape(text, limit), limit)
