"""`make bench`: one row a figure, beside its peer. ARGS="--json FILE --only NAME"."""

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from tests.bench.rows import BENCHES, Row

WIDTHS = (12, 6, 10, 10, 26, 8, 8)


def main() -> None:
    names = [name for _, rows in BENCHES.values() for name in rows]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to FILE too")
    parser.add_argument("--only", action="append", choices=names, help="only this row (and what comes with it)")
    given = parser.parse_args()
    bao = shutil.which("bao", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if bao is None:
        print("no bao here: rows without their peer (make bench installs it)", file=sys.stderr)
    _show("name", "unit", "ours", "peer", "peer name", "ratio", "target")
    rows = []
    for bench, told in BENCHES.values():
        if given.only and not set(given.only) & set(told):
            continue
        for row in bench(bao):
            if not given.only or row.name in given.only:
                rows.append(row)
                _show(*_cells(row))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=2) + "\n")


def _cells(row: Row) -> tuple[str, ...]:
    peer = "-" if row.peer is None else f"{row.peer:.1f}"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return row.name, row.unit, f"{row.ours:.1f}", peer, row.peer_name or "-", ratio, row.target


def _show(*cells: str) -> None:
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True)


if __name__ == "__main__":
    main()
