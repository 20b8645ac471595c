"""Finding the newest entries in a log that can only be asked forwards."""

from collections.abc import Mapping

from hypothesis import example, given
from hypothesis import strategies as st

from jitgate.cli.answers import Row
from jitgate.cli.audit import Log, newest
from jitgate.core.clock import SECOND, rfc3339

START = 1_800_000_000 * SECOND
NAMES = ("alice", "bob")


class Entries:
    """Stands for the service: the entries of a log that its own filters let through."""

    def __init__(self, size: int, kept: frozenset[int]) -> None:
        self.entries: list[Row] = [
            {"index": i, "time": rfc3339(START + i * SECOND), "actor": {"name": NAMES[i % 3 == 0]}}
            for i in range(size)
            if i in kept
        ]
        self.asked = 0

    def get(self, path: str, query: Mapping[str, str], *, wait: float, limit: int) -> Row:
        assert (path, wait) == ("/v1/audit", 0)
        assert limit
        self.asked += 1
        count = int(query["limit"])
        if "after" not in query:
            return {"events": self.entries[-count:]}
        found = [entry for entry in self.entries if int(str(entry["index"])) > int(query["after"])]
        return {"events": found[:count]}


@given(
    st.integers(0, 3000),
    st.integers(1, 7),
    st.integers(1, 4000),
    st.none() | st.integers(-5, 3100),
    st.sampled_from(["", *NAMES]),
)
@example(size=3000, every=1, limit=1 << 62, begin=0, person="")
@example(size=450, every=1, limit=1 << 62, begin=249, person="")
@example(size=401, every=1, limit=300, begin=None, person="bob")
def test_newest_is_the_tail_of_the_whole_log(size: int, every: int, limit: int, begin: int | None, person: str):
    service = Entries(size, frozenset(range(0, size, every)))
    since = None if begin is None else START + begin * SECOND
    log = Log(service, {}, person)  # type: ignore[arg-type]  # it only gets
    whole = [
        entry
        for entry in service.entries
        if (begin is None or int(str(entry["index"])) >= begin) and (not person or entry["actor"] == {"name": person})
    ]
    assert newest(log, limit, since) == whole[-limit:]
    assert service.asked < 60
    assert log.last == (int(str(service.entries[-1]["index"])) if service.entries else -1)
