from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.samples import CA, ORIGIN, PUBLIC, START, make_log

from jitgate.audit import signed
from jitgate.audit.events import EventType
from jitgate.audit.report import Kind, Report
from jitgate.audit.signed import Difference, LoggedItem, Serials, SignedItem
from jitgate.audit.verify import Row, verify
from jitgate.core.clock import HOUR, MINUTE, SECOND, Micros

ISSUED = EventType.CERTIFICATE_ISSUED
LOG = make_log([ISSUED, EventType.GRANT_ENDED, ISSUED, EventType.CERTIFICATE_UNRELEASED, ISSUED])
NOW = START + 3 * MINUTE


def compare(items: list[SignedItem], rows: list[Row] = LOG.rows, copied: Micros | None = None) -> Report:
    return verify(rows, origin=ORIGIN, public=PUBLIC, now=NOW, signed=items, copied=copied)


def kinds(report: Report) -> list[Kind]:
    return [finding.kind for finding in report.findings]


@given(st.permutations(LOG.signed))
def test_the_same_in_any_order(items):
    report = compare(items)
    assert report.ok
    assert (report.certificates, report.unreleased, report.compared) == (4, 1, True)


def test_without_the_lists_it_says_so():
    report = verify(LOG.rows, origin=ORIGIN, public=PUBLIC, now=NOW)
    assert report.ok
    assert not report.compared


def test_signed_and_never_logged():
    report = compare([*LOG.signed, SignedItem(CA, 77, "00", START)])
    assert kinds(report) == [Kind.UNLOGGED]
    assert "serial 77" in report.findings[0].words


def test_signed_a_moment_before_the_log_was_read_may_come_yet():
    for ago, flying in ((59 * SECOND, 1), (61 * SECOND, 0)):
        report = compare([*LOG.signed, SignedItem(CA, 77, "00", NOW - ago)])
        assert report.in_flight == flying
        assert report.ok == bool(flying)


def test_logged_and_never_signed():
    report = compare(LOG.signed[1:])
    assert [(finding.kind, finding.index) for finding in report.findings] == [(Kind.UNSIGNED, 0)]


def test_a_copy_of_a_list_does_not_have_what_was_logged_after_it():
    """And is believed about all else: an hour before it, there is no excuse."""
    for copied, uncompared in ((START - HOUR, 1), (NOW + HOUR, 0)):
        report = compare(LOG.signed[1:], copied=copied)
        assert (report.ok, report.uncompared) == (bool(uncompared), uncompared)


def test_a_serial_of_another_authority_is_another_serial():
    items = [LOG.signed[0]._replace(ca="SHA256:other"), *LOG.signed[1:]]
    assert kinds(compare(items)) == [Kind.UNSIGNED, Kind.UNLOGGED]


def test_another_content_under_the_same_serial():
    items = [LOG.signed[0]._replace(digest="00"), *LOG.signed[1:]]
    report = compare(items)
    assert kinds(report) == [Kind.UNSIGNED]
    assert "not what the log says" in report.findings[0].words


def test_one_serial_twice():
    assert kinds(compare([*LOG.signed, LOG.signed[0]])) == [Kind.SERIAL]
    assert Kind.SERIAL in kinds(compare(LOG.signed, [*LOG.rows, LOG.rows[0]]))


def test_a_list_that_has_nothing_to_do_with_the_log_stops_the_comparison(monkeypatch):
    monkeypatch.setattr(signed, "WAITING_MAX", 10)
    report = Report()
    difference = Difference(report, (SignedItem(CA, serial, "", 0) for serial in range(1, 10**9)))
    for serial in range(100, 120):
        difference.logged(serial, LoggedItem("SHA256:other", serial, "", released=True, time=NOW))
    difference.finish(NOW)
    assert kinds(report) == [Kind.UNSIGNED]
    assert "differ so much" in report.findings[0].words


def test_words_of_a_list_are_escaped():
    report = compare([*LOG.signed, SignedItem("\x1b[2J", 77, "00", START)])
    assert report.findings[0].words.isprintable()


@given(st.lists(st.integers(0, 5000) | st.integers(2**63 - 2000, 2**63 - 1)))
def test_serials_are_a_set(numbers):
    serials, known = Serials(), set()
    for number in numbers:
        assert serials.add(number) == (number not in known)
        known.add(number)
