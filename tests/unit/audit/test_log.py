import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.samples import ALICE, BOB, GRANT, START, an_event, make_log

from jitgate.audit.events import Event, EventType, check_text
from jitgate.audit.log import CHECKS_MAX, EMPTY, Entry, append, columns_of, decode_personal, erase
from jitgate.audit.tree import hash_leaf
from jitgate.core.ids import is_id
from jitgate.core.outcome import failed


def counting(count: int) -> bytes:
    return bytes(range(count))


def entry_of(event: Event) -> Entry:
    return append(EMPTY, [event], random=counting)[1][0]


def test_the_bytes_of_a_leaf():
    """These bytes are for ever: a change here makes every log that exists unreadable."""
    entry = entry_of(replace(an_event(EventType.GRANT_ENDED, everything=False), reason='naïve "q" \\ 日本'))
    first, second = bytes(range(16)).hex(), bytes(range(16, 32)).hex()
    assert entry.leaf.decode() == (
        '{"actor":{"kind":"person","person":"' + ALICE + '"},"detail":{"why":"some why"},"grant":"' + GRANT + '",'
        '"id":"' + entry.id + '","index":0,"outcome":"done","personal":{'
        '"actor":"' + hashlib.sha256(f"{first} actor alice".encode()).hexdigest() + '",'
        '"reason":"' + hashlib.sha256(f'{second} reason naïve "q" \\ 日本'.encode()).hexdigest() + '"},'
        f'"realm":"default","time":{START},"type":"grant.ended","v":1}}'
    )
    assert entry.leaf_hash == hash_leaf(entry.leaf)
    assert is_id(entry.id)


@pytest.mark.parametrize("kind", list(EventType))
def test_nothing_personal_is_in_the_leaf(kind):
    entry = entry_of(an_event(kind))
    for text in ("alice", "bob", "192.0.2.7", "ticket 42", "label env=prod", "ask the owner"):
        assert text.encode() not in entry.leaf
    assert "alice" in entry.personal


def test_numbers_that_javascript_would_round_are_texts():
    leaf = json.loads(entry_of(an_event(EventType.CERTIFICATE_ISSUED, serial=2**63 - 1)).leaf)
    assert leaf["serial"] == "9223372036854775807"
    assert all(value < 2**53 for value in leaf["detail"].values() if isinstance(value, int))


def test_columns():
    columns = entry_of(an_event(EventType.CERTIFICATE_ISSUED)).columns
    assert (columns.person, columns.subject, columns.host, columns.grant) == (ALICE, "", "web1", GRANT)
    assert columns.serial == str(1 << 62)
    assert entry_of(an_event(EventType.PERSON_DISABLED)).columns.subject == BOB
    assert entry_of(replace(an_event(EventType.HOST_ADDED), target="host:db1")).columns.host == "db1"
    assert entry_of(replace(an_event(EventType.HOST_ADDED), target="role:x")).columns.host == ""


def test_indexes_go_on_where_the_log_ended():
    frontier, first = append(EMPTY, [an_event(EventType.HOST_REMOVED)] * 3, random=counting)
    _, second = append(frontier, [an_event(EventType.HOST_REMOVED)] * 2, random=counting)
    assert [entry.columns.index for entry in (*first, *second)] == [0, 1, 2, 3, 4]
    assert json.loads(second[0].leaf)["index"] == 3


def test_every_text_has_a_salt_of_its_own():
    log = make_log([EventType.CERTIFICATE_ISSUED] * 5)
    salts = [salt for entry in log.entries for salt, _ in decode_personal(entry.personal).values()]
    assert len(set(salts)) == len(salts) == 5 * 4
    assert all(len(salt) == 16 for salt in salts)


@given(st.text(st.characters(exclude_categories=()), max_size=600))
def test_words_of_checks_are_made_safe_and_short_instead_of_refused(text):
    event = replace(an_event(EventType.GRANT_REFUSED), checks=(failed(text, text, text),) * 2)
    entry = entry_of(event)
    (_, stored) = decode_personal(entry.personal)["checks"]
    check_text("checks", stored, 10_000)
    assert len(json.loads(stored)) == len(json.loads(entry.leaf)["checks"]) == 2


def test_a_decision_with_very_many_checks_says_how_many_it_leaves_out():
    event = replace(an_event(EventType.GRANT_REFUSED), checks=(failed("role", "no"),) * 1000)
    entry = entry_of(event)
    words = json.loads(decode_personal(entry.personal)["checks"][1])
    assert len(words) == CHECKS_MAX
    assert words[-1][0].startswith("937 more")


def test_erasing_takes_salt_and_text_and_nothing_else():
    entry = entry_of(an_event(EventType.CERTIFICATE_ISSUED))
    before = decode_personal(entry.personal)
    after = erase(entry.personal, {"actor", "key_id"})
    assert decode_personal(after) == {field: before[field] for field in before if field not in {"actor", "key_id"}}
    assert "alice" not in after.replace("alice is in ops", "")
    assert erase(entry.personal, set(before)) == ""


def test_columns_are_read_back_from_the_leaf():
    for kind in EventType:
        entry = entry_of(an_event(kind))
        assert columns_of(json.loads(entry.leaf)) == entry.columns
