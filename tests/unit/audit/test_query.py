import pytest
from tests.unit.audit.samples import ALICE, GRANT

from jitgate.audit.events import EventType
from jitgate.audit.query import Query, parse_query
from jitgate.core.errors import BadInput


def test_what_a_person_types_becomes_a_query():
    words = {
        "after": "-1",
        "limit": "10",
        "type": "certificate",
        "person": ALICE,
        "host": "web1",
        "grant": GRANT,
        "serial": "9223372036854775807",
        "outcome": "refused",
        "q": "ticket 42",
    }
    query = parse_query(words)
    assert query.types == (
        EventType.CERTIFICATE_ISSUED,
        EventType.CERTIFICATE_REFUSED,
        EventType.CERTIFICATE_UNRELEASED,
    )
    assert (query.after, query.limit, query.serial, query.outcome) == (-1, 10, 2**63 - 1, "refused")
    assert parse_query({"type": "grant.opened"}).types == (EventType.GRANT_OPENED,)
    assert parse_query({}) == Query()


@pytest.mark.parametrize(
    "words",
    [
        {"after": "x"},
        {"after": "-2"},
        {"after": "1.0"},
        {"after": "٣"},
        {"after": "9" * 5000},
        {"limit": "0"},
        {"limit": "1001"},
        {"type": "cert"},
        {"person": "alice"},
        {"host": "web1' OR 1=1"},
        {"grant": "1"},
        {"serial": "0"},
        {"serial": str(2**63)},
        {"outcome": "maybe"},
        {"q": "x" * 101},
        {"q": "a\x00b"},
        {"order": "x"},
    ],
)
def test_what_is_no_filter_is_refused(words):
    with pytest.raises(BadInput):
        parse_query(words)
