"""`jitgate audit verify` on a real installation whose files somebody has edited: each kind of change is found."""

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.service import ROLES, Nursery, Service, new_service

from jitgate.app.main import run
from jitgate.app.verify import verify_installation
from jitgate.audit.checkpoint import verifier_key
from jitgate.audit.report import Kind
from jitgate.audit.tree import EMPTY, hash_leaf
from jitgate.ca.model import SignedEntry
from jitgate.ca.signed import parse_line
from jitgate.core.clock import MINUTE, system_clock


@pytest.fixture(scope="module")
def lived(nursery: Nursery) -> Iterator[tuple[Service, str]]:
    """An installation with some life in its log, stopped, and a checkpoint from its middle that was kept elsewhere."""
    with new_service(nursery) as service:
        service.start()
        service.apply(ROLES)
        service.add_host("web1")
        alice = service.enter("alice", "engineers")
        for minutes in range(5, 12):
            grant = alice.post("/v1/grants", {"host": "web1", "minutes": minutes, "reason": "why not"}).json["grant"]
            assert alice.post("/v1/certificates", {"grant": grant["id"], "host": "web1"}).status == 201
        service.stop()
        service.start()  # a stop signs the log as it stands
        kept = service.connect().get("/v1/checkpoint").body.decode()
        service.act("user disable", name="alice")
        service.stop()
        yield service, kept


@dataclass
class Copy:
    """A copy of the installation, to be spoilt."""

    service: Service
    folder: Path
    config: Path
    kept: Path

    @property
    def signed(self) -> Path:
        return self.folder / "state/signed/signed.list"

    def again(self) -> Service:
        """The service on this copy."""
        settings = replace(self.service.settings, state=self.folder / "state")
        return Service(self.service._nursery, self.folder, settings, self.config, "")

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.folder / "state/jitgate.db")) as database, database:
            for statement in statements:
                assert database.execute(statement).rowcount != 0, statement

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "state/jitgate.db")) as database:
            return database.execute(query).fetchall()

    def verify(self, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
        """What the command says."""
        capsys.readouterr()
        status = run(["audit", "verify", "--config", str(self.config), "-o", "json", *more])
        said = capsys.readouterr()
        report: dict[str, Any] = json.loads(said.out)
        assert status == (0 if report["ok"] else 1)
        assert "Traceback" not in said.err
        return report

    def kinds(self, capsys: pytest.CaptureFixture[str], *more: str) -> set[str]:
        return {finding["kind"] for finding in self.verify(capsys, *more)["findings"]}


@pytest.fixture
def copy(lived: tuple[Service, str], tmp_path: Path) -> Copy:
    service, kept = lived
    folder = tmp_path / "copy"
    shutil.copytree(service.folder, folder, ignore=shutil.ignore_patterns("*.sock", "notify"))
    config = folder / "jitgate.toml"
    config.write_text(config.read_text().replace(str(service.folder), str(folder)))
    (folder / "kept.txt").write_text(kept)
    return Copy(service, folder, config, folder / "kept.txt")


Capture = pytest.CaptureFixture[str]


def test_a_log_that_nobody_touched_is_whole(copy: Copy, capsys: Capture):
    report = copy.verify(capsys, "--checkpoint", str(copy.kept))
    assert report["ok"]
    assert report["entries"] == report["covered_by_checkpoints"] > 20
    assert (report["certificates"], report["signed_never_released"], report["in_flight"]) == (8, 0, 0)
    assert run(["audit", "verify", "--config", str(copy.config)]) == 0
    assert "the log is whole" in capsys.readouterr().out


def test_verifying_changes_nothing(copy: Copy, capsys: Capture):
    before = {path: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}
    copy.verify(capsys)
    after = {path: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} <= {"jitgate.db-shm", "jitgate.db-wal"}
    assert {path: after[path] for path in before} == before


LEAF = "UPDATE event SET leaf = CAST(replace(CAST(leaf AS TEXT), 'ubuntu@', 'root@') AS BLOB)"
EDITS: dict[str, tuple[str, set[Kind]]] = {
    "a leaf": (LEAF, {Kind.EDITED, Kind.COLUMN}),
    "who did it": ("UPDATE event SET person = '01ARZ3NDEKTSV4RRFFQ69G5FAV' WHERE type = 'grant.opened'", {Kind.COLUMN}),
    "what it was": ("UPDATE event SET outcome = 'refused' WHERE type = 'grant.opened'", {Kind.COLUMN}),
    "which serial": ("UPDATE event SET serial = '7' WHERE type = 'certificate.issued'", {Kind.COLUMN}),
    "a reason": ("UPDATE event SET personal = replace(personal, 'why not', 'because')", {Kind.PERSONAL}),
    "a name": ("UPDATE event SET personal = replace(personal, 'alice', 'mallo')", {Kind.PERSONAL}),
    "no row to read": ("UPDATE event SET leaf = CAST('x' AS BLOB) WHERE \"index\" = 5", {Kind.UNREADABLE, Kind.EDITED}),
    "another type": ('UPDATE event SET leaf = 5 WHERE "index" = 5', {Kind.UNREADABLE, Kind.EDITED}),
    "one entry gone": ('DELETE FROM event WHERE "index" = 5', {Kind.REMOVED, Kind.EDITED}),
    "the first gone": ('DELETE FROM event WHERE "index" = 0', {Kind.REMOVED, Kind.EDITED}),
    "the last gone": ('DELETE FROM event WHERE "index" = (SELECT max("index") FROM event)', {Kind.REMOVED}),
    "certificates gone": ("DELETE FROM event WHERE type = 'certificate.issued'", {Kind.REMOVED, Kind.EDITED}),
    "a checkpoint's signature": ("UPDATE checkpoint SET text = replace(text, 'A', 'B')", {Kind.CHECKPOINT}),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "expected"), EDITS.values(), ids=EDITS)
def test_an_edit_of_the_database_is_found(copy: Copy, capsys: Capture, statement: str, expected: set[Kind]):
    copy.sql(statement)
    assert copy.kinds(capsys) >= {kind.value for kind in expected}
    assert copy.verify(capsys)["found"] > 0
    assert run(["audit", "verify", "--config", str(copy.config)]) == 1
    assert "NOT WHOLE" in capsys.readouterr().out


def test_two_entries_that_changed_places_are_found(copy: Copy, capsys: Capture):
    swap = (
        'UPDATE event SET "index" = -1 WHERE "index" = 5',
        'UPDATE event SET "index" = 5 WHERE "index" = 6',
        'UPDATE event SET "index" = 6 WHERE "index" = -1',
    )
    copy.sql(*swap)
    assert copy.kinds(capsys) >= {"moved", "edited"}


def test_an_entry_that_was_put_in_twice_is_found(copy: Copy, capsys: Capture):
    last = copy.rows('SELECT max("index") FROM event')[0][0]
    names = (
        'time, realm, type, outcome, person, subject, target, host, request, "grant", session, serial, leaf, personal'
    )
    copy.sql(f'INSERT INTO event ("index", id, {names}) SELECT {last + 1}, \'x\', {names} FROM event WHERE "index" = 9')
    assert "moved" in copy.kinds(capsys)


# --- somebody who can write the database and knows how the log is made ---


def rewrite(copy: Copy, size: int) -> None:
    """Another history of the log from entry `size` on: whole in itself, as the program would have written it."""
    kept = [leaf for (leaf,) in copy.rows(f'SELECT leaf FROM event WHERE "index" < {size} ORDER BY "index"')]
    frontier = EMPTY.extend(map(hash_leaf, kept))
    with closing(sqlite3.connect(copy.folder / "state/jitgate.db")) as database, database:
        database.execute('DELETE FROM event WHERE "index" >= ?', (size,))
        database.execute("DELETE FROM checkpoint WHERE size > ?", (size,))
        database.execute("UPDATE log_state SET frontier = ?", (frontier.encode(),))


def test_a_log_that_was_rolled_back_is_found_by_the_signers_list(copy: Copy, capsys: Capture):
    """An old copy of the database is whole in itself; what the signer signed since then says otherwise."""
    rewrite(copy, 12)
    assert copy.kinds(capsys) >= {"removed"}


def test_a_log_that_was_rolled_back_is_found_by_a_checkpoint_kept_elsewhere(copy: Copy, capsys: Capture):
    """Even when the signer's list was rolled back with it."""
    rewrite(copy, 12)
    lines = copy.signed.read_bytes().splitlines(keepends=True)
    logged = {serial for (serial,) in copy.rows("SELECT serial FROM event WHERE serial <> ''")}

    def stays(line: bytes) -> bool:
        said = parse_line(line)
        return str(said.serial) in logged if isinstance(said, SignedEntry) else b'"checkpoint":{"size":' not in line

    copy.signed.write_bytes(b"".join(line for line in lines if stays(line)))
    assert copy.verify(capsys)["ok"]  # nothing in the folder says otherwise
    report = copy.verify(capsys, "--checkpoint", str(copy.kept))
    assert not report["ok"]
    assert {finding["kind"] for finding in report["findings"]} == {"removed"}


def test_a_service_that_goes_on_from_a_rolled_back_log_is_found(copy: Copy, capsys: Capture):
    """The log grows beyond what was signed before: a longer history that is not a continuation."""
    rewrite(copy, 12)
    going_on = copy.again()
    going_on.start()
    for _ in range(40):
        going_on.apply(ROLES)
    going_on.stop()
    assert copy.rows("SELECT count(*) FROM event WHERE type = 'checkpoint.refused'")[0][0] > 0  # it did say so
    assert copy.kinds(capsys) >= {"edited"}
    report = copy.verify(capsys, "--checkpoint", str(copy.kept))
    assert {finding["kind"] for finding in report["findings"]} >= {"edited"}


# --- the signer's list ---


def lines(copy: Copy) -> list[bytes]:
    return copy.signed.read_bytes().splitlines(keepends=True)


def test_a_line_that_is_gone_from_the_signers_list_is_found(copy: Copy, capsys: Capture):
    whole = lines(copy)
    at = max(at for at, line in enumerate(whole) if isinstance(parse_line(line), SignedEntry))
    other_content = whole[at].replace(b'"tbs_sha256":"', b'"tbs_sha256":"0')
    for line in (b"", other_content, b"\0" * 300 + b"\n"):
        copy.signed.write_bytes(b"".join([*whole[:at], line, *whole[at + 1 :]]))
        assert copy.kinds(capsys) == {"unsigned"}


def extra(copy: Copy, serial: int, time: int) -> bytes:
    """A certificate that the signer signed and the log does not know."""
    said = next(entry for line in lines(copy) if isinstance(entry := parse_line(line), SignedEntry))
    body = json.loads(next(line for line in lines(copy) if isinstance(parse_line(line), SignedEntry)))
    body |= {"serial": str(serial or said.serial), "time": time, "tbs_sha256": "0" * 64}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def test_a_line_that_the_log_does_not_know_is_found(copy: Copy, capsys: Capture):
    whole = copy.signed.read_bytes()
    copy.signed.write_bytes(whole + extra(copy, 4711, system_clock() - 2 * MINUTE))
    report = copy.verify(capsys)
    assert [finding["kind"] for finding in report["findings"]] == ["unlogged"]
    assert "4711" in report["findings"][0]["words"]
    copy.signed.write_bytes(whole + extra(copy, 4711, system_clock()))  # of this moment: it may be on its way
    report = copy.verify(capsys)
    assert (report["ok"], report["in_flight"]) == (True, 1)
    copy.signed.write_bytes(whole + extra(copy, 0, system_clock() - 2 * MINUTE))
    assert copy.kinds(capsys) == {"serial"}


def test_the_service_tells_of_a_line_that_it_does_not_know(copy: Copy, capsys: Capture):
    with copy.signed.open("ab") as file:
        file.write(extra(copy, 4711, system_clock() - 2 * MINUTE))
    again = copy.again()
    again.start()
    assert again.stop() == 0
    assert copy.rows("SELECT count(*) FROM event WHERE type = 'certificate.unreleased' AND serial = '4711'") == [(1,)]
    report = copy.verify(capsys)
    assert (report["ok"], report["signed_never_released"]) == (True, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"garbage\n", b"{}\n", b"\xff\xfe\n", b"torn", b"[" * 100_000 + b"\n", b'{"mark":{}}\n',
        b'{"checkpoint":null,"time":1}\n', b'{"checkpoint":{"size":3,"root":"!"},"time":1}\n',
        b'{"checkpoint":{"size":-1,"root":""},"time":1}\n',
        b'{"checkpoint":{"size":' + b"9" * 5000 + b',"root":"AAAA"},"time":1}\n',
    ],
)  # fmt: skip
def test_no_line_of_the_list_crashes_the_command(copy: Copy, capsys: Capture, line: bytes):
    whole = lines(copy)
    copy.signed.write_bytes(b"".join([*whole[:5], line, *whole[5:]] if line.endswith(b"\n") else [*whole, line]))
    copy.verify(capsys)


# --- what the command is given ---


def test_a_checkpoint_of_another_log_or_of_nobody_is_refused(copy: Copy, capsys: Capture):
    text = copy.kept.read_text()
    body, _, signature = text.partition("\n\n")
    origin, size, root = body.split("\n")
    forged = base64.b64encode(bytes(32)).decode()
    for bad in (
        text.replace(root, forged),
        text.replace(f"\n{size}\n", f"\n{int(size) + 1}\n", 1),
        text.replace(origin, "other.example/log"),
        body,
        f"{body}\n\n{signature[:-8]}\n",
        "",
        "garbage",
    ):
        copy.kept.write_text(bad)
        assert run(["audit", "verify", "--config", str(copy.config), "--checkpoint", str(copy.kept)]) == 1
        said = capsys.readouterr()
        assert said.err.startswith("jitgate: error:")
        assert "Traceback" not in said.err
        assert not said.out


def test_another_log_key_vouches_for_nothing(copy: Copy, capsys: Capture):
    """Who writes the folder could put another key there: the key noted elsewhere decides."""
    noted = (copy.folder / "state/log.key").read_text().strip()
    assert copy.verify(capsys, "--log-key", noted)["ok"]
    name = noted.partition("+")[0]
    other = verifier_key(name, bytes(31) + b"\1")
    assert copy.kinds(capsys, "--log-key", other) >= {"checkpoint"}
    assert run(["audit", "verify", "--config", str(copy.config), "--log-key", "nonsense"]) == 1


@pytest.mark.parametrize("url", ["sqlite:////nowhere/jitgate.db", "sqlite:///", "nonsense", "postgresql://x/y"])
def test_a_database_that_is_none_is_said(copy: Copy, capsys: Capture, url: str):
    assert run(["audit", "verify", "--config", str(copy.config), "--database", url]) != 0
    said = capsys.readouterr()
    assert said.err.startswith("jitgate: error:")
    assert not said.out


@pytest.mark.databases
def test_it_may_run_beside_the_service(install: Callable[..., Service]):
    service = install()
    service.start()
    service.apply(ROLES)
    service.add_host("web1")
    alice = service.enter("alice", "engineers")
    grant = alice.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    for _ in range(5):
        for _ in range(10):
            alice.begin(alice.signer.call("POST", "/v1/certificates", {"grant": grant, "host": "web1"}))
            assert alice.answer().status == 201
        report = verify_installation(service.settings, [])
        assert report.ok, report.findings
