"""Every way to change a log that somebody with the whole database has, and that it is found."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.audit.samples import KEY, ORIGIN, PUBLIC, START, Sample, an_event, make_log, seal_at

from jitgate.audit.checkpoint import Checkpoint, checkpoint_body, seal
from jitgate.audit.events import EventType
from jitgate.audit.log import EMPTY, append, columns_of, decode_personal, erase
from jitgate.audit.report import FINDINGS_MAX, Kind, Report
from jitgate.audit.verify import Row, verify
from jitgate.core.clock import HOUR

NOW = START + HOUR
KINDS = st.lists(st.sampled_from(list(EventType)), min_size=3, max_size=12)
LOG = make_log([EventType.GRANT_OPENED, EventType.CERTIFICATE_ISSUED, EventType.GRANT_ENDED] * 4)


def check(rows: list[Row], log: Sample, *, stored: list[str] | None = None, outside: bool = True) -> Report:
    kept = [log.outside] if outside else []
    return verify(rows, origin=ORIGIN, public=PUBLIC, now=NOW, stored=stored or [], outside=kept, signed=log.signed)


def kinds_of(report: Report) -> set[Kind]:
    return {finding.kind for finding in report.findings}


def rewritten(row: Row, **changes: object) -> Row:
    """The row with its leaf changed and its columns made to fit, as somebody would who knows the format."""
    body = json.loads(row[1]) | changes
    leaf = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return columns_of(body), leaf, row[2]


def renumbered(rows: list[Row]) -> list[Row]:
    return [rewritten(row, index=index) for index, row in enumerate(rows)]


@given(KINDS, st.integers())
def test_a_log_as_it_was_written_is_in_order(kinds, seed):
    log = make_log(kinds, seed)
    report = check(log.rows, log, stored=[seal_at(log.entries, size) for size in range(len(kinds) + 1)])
    assert report.ok, report.findings
    assert report.covered == report.frontier.size == len(kinds)
    assert report.certificates == len(log.signed)
    assert not report.erased


@given(KINDS, st.data())
def test_one_byte_of_a_leaf(kinds, data):
    log = make_log(kinds)
    rows = log.rows
    at = data.draw(st.integers(0, len(rows) - 1))
    columns, leaf, personal = rows[at]
    place = data.draw(st.integers(0, len(leaf) - 1))
    flipped = bytes([leaf[place] ^ data.draw(st.integers(1, 255))])
    rows[at] = columns, leaf[:place] + flipped + leaf[place + 1 :], personal
    assert Kind.EDITED in kinds_of(check(rows, log))


@given(KINDS, st.data(), st.booleans())
def test_a_change_that_fits_everywhere_but_in_the_tree(kinds, data, remake):
    log = make_log(kinds)
    rows = log.rows
    act = data.draw(st.sampled_from(["edit", "remove", "swap", "again", "insert"]))
    at = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(st.integers(0, len(rows) - 1).filter(lambda number: number != at))
    if act == "edit":
        rows[at] = rewritten(rows[at], time=START - 1)
    elif act == "remove":
        del rows[at]
    elif act == "swap":
        rows[at], rows[other] = rows[other], rows[at]
    elif act == "again":
        rows.insert(other, rows[at])
    else:
        _, made = append(EMPTY, [an_event(EventType.PERSON_ENABLED)], random=bytes)
        rows.insert(at, (made[0].columns, made[0].leaf, made[0].personal))
    report = check(renumbered(rows) if remake else rows, log)
    assert kinds_of(report) & {Kind.EDITED, Kind.REMOVED, Kind.FORKED}


@given(KINDS, st.data())
def test_a_column_for_searching(kinds, data):
    log = make_log(kinds)
    rows = log.rows
    at = data.draw(st.integers(0, len(rows) - 1))
    columns, leaf, personal = rows[at]
    name = data.draw(st.sampled_from(columns._fields[1:]))
    value = data.draw(st.sampled_from(["", "x", 7, None]).filter(lambda value: value != getattr(columns, name)))
    rows[at] = columns._replace(**{name: value}), leaf, personal
    report = check(rows, log, outside=False)
    assert [(finding.kind, finding.index) for finding in report.findings] == [(Kind.COLUMN, at)]
    assert name in report.findings[0].words


@given(KINDS, st.data())
def test_a_personal_text(kinds, data):
    log = make_log(kinds)
    rows = log.rows
    at = data.draw(st.integers(0, len(rows) - 1))
    columns, leaf, personal = rows[at]
    line = data.draw(st.sampled_from(personal.split("\n")))
    rows[at] = columns, leaf, personal.replace(line, line + "x")
    report = check(rows, log)
    assert [(finding.kind, finding.index) for finding in report.findings] == [(Kind.PERSONAL, at)]


def test_a_text_under_another_field_or_twice_or_with_another_salt():
    rows = LOG.rows
    salt, _ = decode_personal(rows[0][2])["reason"]
    for personal in (
        rows[0][2].replace(" actor ", " reason "),
        rows[0][2] + "\n" + rows[0][2],
        rows[0][2].replace(f"{salt.hex()} reason disk", f"{salt.hex()}20 reason disk"),
    ):
        assert Kind.PERSONAL in kinds_of(check([(rows[0][0], rows[0][1], personal), *rows[1:]], LOG))


@given(KINDS, st.data())
def test_erasing_any_texts_of_any_entries_leaves_all_in_order(kinds, data):
    log = make_log(kinds)
    rows = []
    erased = 0
    for columns, leaf, personal in log.rows:
        fields = data.draw(st.sets(st.sampled_from(sorted(decode_personal(personal)))))
        erased += bool(fields)
        rows.append((columns, leaf, erase(personal, fields)))
    report = check(rows, log, stored=[log.checkpoint])
    assert report.ok, report.findings
    assert report.erased == erased
    assert report.covered == len(rows)


def test_a_missing_entry_is_named():
    report = check(LOG.rows[:4] + LOG.rows[6:], LOG, outside=False)
    assert report.findings[0].words == "entry 4 to 5 is missing"
    assert report.findings[0].kind is Kind.REMOVED


def test_a_log_that_was_cut_off():
    assert kinds_of(check(LOG.rows[:-1], LOG)) >= {Kind.REMOVED}
    assert check(LOG.rows[:-2], replace(LOG, signed=LOG.signed[:-1]), outside=False).ok  # nothing else can tell


def test_an_entry_that_stands_elsewhere_is_named():
    rows = LOG.rows
    rows[3], rows[5] = (rows[3][0], *rows[5][1:]), (rows[5][0], *rows[3][1:])
    report = check(rows, LOG, outside=False)
    assert [(each.kind, each.index) for each in report.findings if each.kind is Kind.MOVED] == [
        (Kind.MOVED, 3),
        (Kind.MOVED, 5),
    ]


def test_the_edit_is_narrowed_down_by_the_checkpoints_around_it():
    rows = LOG.rows
    rows[5] = rewritten(rows[5], time=START)
    report = check(rows, LOG, stored=[seal_at(LOG.entries, size) for size in (2, 4, 7, 9, 12)], outside=False)
    assert [each.words for each in report.findings] == [
        "entries 4 to 6 are not what a signed checkpoint vouches for at size 7"
    ]
    assert report.covered == 4
    words = "entries 0 to 11 are not what the checkpoint from outside vouches for at size 12"
    assert words in [finding.words for finding in check(rows, LOG).findings]


def test_two_histories_that_the_log_key_both_signed():
    other = make_log([EventType.GRANT_OPENED] * 12)
    report = verify(other.rows, origin=ORIGIN, public=PUBLIC, now=NOW, stored=[other.checkpoint], outside=[LOG.outside])
    assert kinds_of(report) == {Kind.FORKED}


def test_the_signer_s_list_remembers_what_the_database_was_made_to_forget():
    rows = LOG.rows
    rows[5] = rewritten(rows[5], time=START)
    heads = [Checkpoint(ORIGIN, size, root_at(size)) for size in (3, 6, 12)]
    report = verify(rows, origin=ORIGIN, public=PUBLIC, now=NOW, listed=heads)
    words = "entries 3 to 5 are not what the signer's own list vouches for at size 6"
    assert [finding.words for finding in report.findings] == [words]
    again = seal(checkpoint_body(ORIGIN, report.frontier), ORIGIN, KEY.sign, PUBLIC)
    both = verify(rows, origin=ORIGIN, public=PUBLIC, now=NOW, stored=[again], listed=heads[2:])
    assert kinds_of(both) == {Kind.FORKED}
    assert verify(LOG.rows, origin=ORIGIN, public=PUBLIC, now=NOW, listed=heads).covered == 12


def root_at(size: int) -> bytes:
    return EMPTY.extend(entry.leaf_hash for entry in LOG.entries[:size]).root()


def test_a_log_from_an_older_backup():
    older = replace(LOG, entries=LOG.entries[:6])
    report = verify(older.rows, origin=ORIGIN, public=PUBLIC, now=NOW, outside=[LOG.outside])
    assert [finding.words for finding in report.findings] == [
        "the log has 6 entries, and its key has signed that it had 12"
    ]


def forged(size: int, text: Callable[[str], str]) -> str:
    return text(seal(checkpoint_body(ORIGIN, EMPTY.extend([bytes(32)] * size)), ORIGIN, KEY.sign, PUBLIC))


@pytest.mark.parametrize(
    "stored",
    [
        ["nonsense"],
        [forged(5, lambda text: text.replace("\n5\n", "\n6\n"))],
        [forged(20, lambda text: text.replace("\n20\n", "\n21\n"))],
        [seal_at(LOG.entries, 6), seal_at(LOG.entries, 4)],
        [LOG.checkpoint.replace("+", "A").replace("/", "A")],
        [None],
    ],
)
def test_a_stored_checkpoint_is_only_a_claim(stored):
    report = check(LOG.rows, LOG, stored=stored)
    assert kinds_of(report) == {Kind.CHECKPOINT}
    assert report.covered == 12  # the one from outside still holds


def test_without_a_checkpoint_nothing_is_vouched_for():
    report = check(LOG.rows, LOG, outside=False)
    assert (report.ok, report.covered) == (True, 0)
    assert check([], replace(LOG, signed=[]), outside=False).ok


JUNK = st.one_of(st.none(), st.integers(), st.binary(max_size=9), st.text(max_size=9), st.just(b"[" * 100_000))


@given(JUNK, JUNK, JUNK, st.integers(0, 11))
def test_a_row_of_anything_is_a_finding(leaf, personal, column, at):
    rows = LOG.rows
    for junk in ((rows[at][0], leaf, rows[at][2]), (rows[at][0], rows[at][1], personal)):
        report = check([*rows[:at], junk, *rows[at + 1 :]], LOG)
        assert report.ok == (junk[1] == rows[at][1] and not junk[2])  # no texts at all: all were erased
    report = check([*rows[:at], (rows[at][0]._replace(index=column), *rows[at][1:]), *rows[at + 1 :]], LOG)
    assert report.ok == (column == at)


@pytest.mark.parametrize(
    "leaf",
    [
        b"{}",
        b"[]",
        b'{"v":2}',
        LOG.entries[1].leaf.replace(b"certificate.issued", b"certificate.minted"),
        LOG.entries[1].leaf.replace(b'"digest"', b'"digets"'),
        LOG.entries[1].leaf.replace(b'"ca":"', b'"ca":7,"a":"'),
        LOG.entries[1].leaf + b" ",
    ],
)
def test_a_leaf_of_another_form_is_unreadable(leaf):
    rows = LOG.rows
    rows[1] = rows[1][0], leaf, rows[1][2]
    found = [finding for finding in check(rows, LOG).findings if finding.kind is Kind.UNREADABLE]
    assert [finding.index for finding in found] == [1]
    assert found[0].words.startswith("entry 1 ")


def test_findings_are_told_up_to_a_limit_and_counted():
    rows = [(columns._replace(host="db9"), leaf, personal) for columns, leaf, personal in LOG.rows] * 20
    report = check(rows, LOG)
    assert len(report.findings) == FINDINGS_MAX
    assert report.found > 2 * FINDINGS_MAX
