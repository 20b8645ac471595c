"""`make bench`: one row a figure and peer, in the same run. ARGS="--json FILE --only NAME"."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from tests.bench.agents import agents
from tests.bench.audit import audit
from tests.bench.decisions import decision
from tests.bench.growth import growth
from tests.bench.issue import issue
from tests.bench.play import play
from tests.bench.rows import Row
from tests.bench.signer import signer
from tests.bench.ssh import ssh_true
from tests.bench.start import cli_start, memory
from tests.bench.tunnel import tunnel

BENCHES: tuple[tuple[Callable[[], Iterator[Row]], tuple[str, ...]], ...] = (
    (issue, ("issue", "issue-p99")),
    (signer, ("signer",)),
    (tunnel, ("tunnel", "memory")),
    (ssh_true, ("ssh-true",)),
    (play, ("ansible",)),
    (cli_start, ("cli-start",)),
    (memory, ("memory",)),
    (decision, ("decision", "list")),
    (audit, ("audit",)),
    (growth, ("growth",)),
    (agents, ("revocation", "memory", "storm")),
)
WIDTHS = (10, 14, 10, 10, 28, 6, 9)


def main() -> None:
    names = dict.fromkeys(name for _, rows in BENCHES for name in rows)
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to FILE too")
    parser.add_argument("--only", action="append", choices=names, help="only this row (and what comes with it)")
    given = parser.parse_args()
    _show("name", "unit", "ours", "peer", "peer name", "ratio", "target")
    rows = []
    for bench, told in BENCHES:
        if given.only and not set(given.only) & set(told):
            continue
        for row in bench():
            if not given.only or row.name in given.only:
                rows.append(row)
                _show(*_cells(row))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=2) + "\n")


def _cells(row: Row) -> tuple[str, ...]:
    peer = "-" if row.peer is None else _number(row.peer)
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return row.name, row.unit, _number(row.ours), peer, row.peer_name or "-", ratio, row.target


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"  # as many digits as say something


def _show(*cells: str) -> None:
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True)


if __name__ == "__main__":
    main()
