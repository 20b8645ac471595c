"""A ticket says what it was made from, under one key; every change of it says nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ca.samples import ID, NOW

from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret
from jitgate.sessions.ticket import PREFIX, TICKET_MAX, Ticket, make_ticket, open_ticket, ticket_key

KEY = ticket_key(Secret(bytes(32)))
TICKET = Ticket(ID, ID, ID, ID, "web1", "ubuntu", NOW)
MADE = make_ticket(TICKET, KEY)


def test_what_was_made_opens():
    other = replace(TICKET, host="h" * 63, login="l" * 32, expires_at=2**63)
    assert open_ticket(MADE, KEY) == TICKET
    assert open_ticket(make_ticket(other, KEY), KEY) == other
    assert len(make_ticket(other, KEY)) <= TICKET_MAX


def test_another_installations_key_opens_nothing():
    other = ticket_key(Secret(bytes(31) + b"\x01"))
    assert other.reveal() != KEY.reveal() != bytes(32)
    with pytest.raises(BadInput, match="none of this service"):
        open_ticket(MADE, other)


@given(st.integers(0, len(MADE) - 1), st.characters(codec="ascii"))
def test_each_changed_character_is_noticed(at: int, character: str):
    changed = MADE[:at] + character + MADE[at + 1 :]
    if changed != MADE:
        with pytest.raises(BadInput, match="none of this service"):
            open_ticket(changed, KEY)


@given(st.text(max_size=600) | st.text(alphabet="ABCabc-_=+/", max_size=300).map(PREFIX.__add__))
def test_any_text_is_refused_in_one_wording(text: str):
    with pytest.raises(BadInput) as refused:
        open_ticket(text, KEY)
    assert (refused.value.code, refused.value.what) == ("ticket_bad", "the ticket is none of this service's")


@pytest.mark.parametrize("wrong", [MADE[:-1], MADE + "A", MADE + "=", MADE[4:], MADE.upper(), MADE * 3, "", PREFIX])
def test_cut_and_stretched_ones_are_refused(wrong: str):
    with pytest.raises(BadInput, match="none of this service"):
        open_ticket(wrong, KEY)


@pytest.mark.parametrize("wrong", [{"grant_id": "x"}, {"host_id": ""}, {"host": "web1\n"}, {"login": "ubuntu,root"}])
def test_no_ticket_is_made_of_what_is_no_name(wrong: dict[str, str]):
    with pytest.raises(BadInput):
        replace(TICKET, **wrong)  # type: ignore[arg-type]  # texts
