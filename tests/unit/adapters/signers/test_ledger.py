"""The file of the list: no valid line is ever lost, a torn one hides nothing, and a start does not read it all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.ca.samples import NOW

from jitgate.adapters.signers import ledger as module
from jitgate.adapters.signers.ledger import NAME, Ledger
from jitgate.ca.model import LogHead, SignedEntry
from jitgate.ca.signed import Summary, entry_line, head_line, mark_line, parse_line
from jitgate.core.errors import BadInput, Conflict, Unsafe
from jitgate.ssh.cert import CertType


def entry(serial: int, ca: str = "SHA256:a") -> bytes:
    return entry_line(
        SignedEntry(NOW, "default", ca, CertType.USER, serial, "id", "SHA256:k", ("u@host:web1",), 1, "00")
    )


def serials(ledger: Ledger) -> list[int]:
    lines, _ = ledger.page(0, 1 << 20)
    found = [parse_line(line) for line in lines.splitlines()]
    return [each.serial for each in found if isinstance(each, SignedEntry)]


def reopened(ledger: Ledger, folder: Path) -> Ledger:
    ledger.close()
    return Ledger(folder)


def test_what_was_appended_is_there_after_a_restart(tmp_path):
    ledger = Ledger(tmp_path / "new" / "state")
    ledger.append([entry(1), entry(2)])
    ledger = reopened(ledger, tmp_path / "new" / "state")
    ledger.append([entry(3)])
    assert (tmp_path / "new" / "state" / NAME).read_bytes() == entry(1) + entry(2) + entry(3)
    assert (tmp_path / "new" / "state" / NAME).stat().st_mode & 0o777 == 0o600
    assert ledger.summary() == Summary({"SHA256:a": 3}, None)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_list_torn_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path, data):
    path = tmp_path / NAME
    path.unlink(missing_ok=True)
    ledger = Ledger(tmp_path)
    ledger.append([mark_line(Summary({}, None), NOW), entry(1), head_line(LogHead(4, "r"), NOW), entry(2), entry(3)])
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    os.truncate(path, cut)
    ledger = reopened(ledger, tmp_path)
    ledger.append([entry(9)])
    try:
        assert path.read_bytes().startswith(whole[:cut])
        kept = [serial for serial in (1, 2, 3) if whole.index(entry(serial)[:-1]) + len(entry(serial)) - 1 <= cut]
        assert serials(ledger) == [*kept, 9]
        assert ledger.summary().serials == {"SHA256:a": 9}
    finally:
        ledger.close()


def test_a_start_reads_back_to_the_last_mark_only(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SPAN", 64)
    ledger = Ledger(tmp_path)
    ledger.append([entry(99)])  # before the mark, and not in it: not read
    ledger.append([mark_line(Summary({"SHA256:a": 5, "SHA256:old": 7}, LogHead(3, "r3")), NOW)])
    ledger.append([entry(n) for n in range(6, 40)] + [head_line(LogHead(4, "r4"), NOW), entry(1, "SHA256:b")])
    assert ledger.summary() == Summary({"SHA256:a": 39, "SHA256:old": 7, "SHA256:b": 1}, LogHead(4, "r4"))
    ledger.append([mark_line(Summary({"SHA256:a": 50}, None), NOW)[:-9] + b"\n"])  # a torn mark is passed over
    assert ledger.summary().serials["SHA256:a"] == 39


def test_one_signer_for_one_list(tmp_path):
    first = Ledger(tmp_path)
    with pytest.raises(Conflict, match="another signer"):
        Ledger(tmp_path)
    reopened(first, tmp_path)


def test_a_signer_that_is_about_to_end_is_waited_for(tmp_path):
    first = Ledger(tmp_path)
    first.append([entry(1)])
    with ThreadPoolExecutor(1) as other:
        second = other.submit(Ledger, tmp_path, patience_s=30)
        first.append([entry(2)])  # after the other one looked for the first time, or before: it is in its list
        first.close()
    assert second.result().summary().serials == {"SHA256:a": 2}
    second.result().close()


def test_pages_hold_whole_lines(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append([entry(n) for n in range(1, 6)])
    size = len(entry(1))
    assert ledger.page(0, 2 * size + 5) == (entry(1) + entry(2), 2 * size)
    assert ledger.page(4 * size, 1 << 20) == (entry(5), 5 * size)
    assert ledger.page(5 * size, 1 << 20) == (b"", 5 * size)
    for offset in (1, size - 1, 5 * size + 1):
        with pytest.raises(BadInput):
            ledger.page(offset, 1 << 20)
    with pytest.raises(BadInput, match="endless"):
        ledger.page(0, size - 1)


def test_a_list_that_others_can_reach_is_refused(tmp_path):
    Ledger(tmp_path).close()
    (tmp_path / NAME).chmod(0o644)
    with pytest.raises(Unsafe):
        Ledger(tmp_path)
    (tmp_path / NAME).chmod(0o600)
    tmp_path.chmod(0o777)
    with pytest.raises(Unsafe):
        Ledger(tmp_path)
    tmp_path.chmod(0o700)


def test_a_list_of_another_user_is_refused(tmp_path, monkeypatch):
    Ledger(tmp_path).close()
    if os.geteuid() == 0:
        os.chown(tmp_path / NAME, 12345, -1)
    else:
        monkeypatch.setattr(module, "check_folder", lambda folder: folder)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Unsafe, match="signer's own"):
        Ledger(tmp_path)


def test_a_pipe_is_no_list(tmp_path):
    os.mkfifo(tmp_path / NAME, 0o600)
    with pytest.raises(Unsafe, match="signer's own"):
        Ledger(tmp_path)


def test_a_link_is_no_list(tmp_path):
    (tmp_path / "elsewhere").touch(0o600)
    (tmp_path / NAME).symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Ledger(tmp_path)
