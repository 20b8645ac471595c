"""docs/audit.md has every event type with all that it carries, and every field of a leaf."""

import json
import re
from pathlib import Path

from tests.unit.audit.samples import an_event

from jitgate.audit.events import EventType
from jitgate.audit.log import EMPTY, append, decode_personal
from jitgate.audit.shapes import ALWAYS_DETAIL, SHAPES

DOCUMENT = Path(__file__).parents[3] / "docs/audit.md"


def table() -> str:
    """The table of the types, as it has to stand in the document."""
    rows = ["| type | outcome | fields | details |", "|---|---|---|---|"]
    for kind, shape in SHAPES.items():
        fields = [*sorted(shape.must), *(f"({name})" for name in sorted(shape.may))]
        details = [*shape.detail_must, *(f"({name})" for name in shape.detail_may if name not in ALWAYS_DETAIL)]
        rows.append(f"| `{kind}` | {shape.outcome} | {', '.join(fields)} | {', '.join(details)} |")
    return "\n".join(rows)


def test_the_types():
    assert DOCUMENT.read_text().endswith(f"{table()}\n")


def test_the_fields():
    named = set(re.findall(r"`([a-z_]+)`", DOCUMENT.read_text()))
    for kind in EventType:
        entry = append(EMPTY, [an_event(kind)], random=bytes)[1][0]
        assert set(json.loads(entry.leaf)) <= named
        assert set(decode_personal(entry.personal)) <= named
