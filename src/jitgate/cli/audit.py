"""jitctl audit: the log as far as one may see it; live with --follow."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from jitgate.audit.show import as_line
from jitgate.cli.answers import Row, rows, text, whole
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, yaml_lines
from jitgate.cli.profile import current
from jitgate.cli.service import LIST_MAX, Service, signed_in
from jitgate.cli.times import parse, since
from jitgate.core.clock import Micros, system_clock
from jitgate.core.ids import is_id
from jitgate.core.text import check_name

_EXAMPLES = """
    jitctl audit
    jitctl audit --since 2h --outcome refused
    jitctl audit --follow
    jitctl audit --serial 8812734 -o json
"""
_PAGE = 200  # entries
_WAIT = 25  # seconds that the service holds an empty answer back; below the usual 30 of proxies
_ALL = 1 << 62


@click.command(cls=Command, examples=_EXAMPLES)
@click.option("--follow", is_flag=True, help="Go on with what is logged from now on, until interrupted.")
@click.option("--type", metavar="TYPE", help="Only events of this type: grant.refused, or grant for all of them.")
@click.option("--person", metavar="NAME", help="Only what this person did, or what was done to them.")
@click.option("--host", metavar="NAME", help="Only what is about this host.")
@click.option("--grant", metavar="ID", help="Only what happened under this grant.")
@click.option("--serial", metavar="N", help="Only what is about this certificate, as in sshd's log.")
@click.option("--outcome", type=click.Choice(["allowed", "refused", "done"]), help="Only these.")
@click.option("--search", "q", metavar="TEXT", help="Only where this text stands in the target, a name or a reason.")
@click.option("--since", "start", metavar="TIME", help="From then on: 30m, 2h, 7d, a date or an RFC 3339 time.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), help="At most so many, the newest. Default: 100, or all since."
)
@click.pass_obj
def audit(
    options: Options,
    /,
    person: str | None,
    start: str | None,
    limit: int | None,
    *,
    follow: bool,
    **filters: str | None,
) -> None:
    """Show what was decided, for whom and why: your own events, all of them for an administrator.

    A line leaves out what is for programs, such as digests: -o json has it all. With --follow, that is one object a
    line.
    """
    begin = since(start, system_clock()) if start else None
    query = {name: value for name, value in filters.items() if value is not None}
    if person and is_id(person):
        query["person"] = person
    elif person:
        query.setdefault("q", check_name("person", person))  # the service knows ids; the name is compared here
    with signed_in(current(options), options) as service:
        log = Log(service, query, person or "")
        found = newest(log, limit or (_ALL if start else 100), begin)
        if not follow:
            data(options, found, map(as_line, found))
            if not found:
                say(options, "nothing in the log fits, as far as you may read it")
            return
        for event in found:
            _print(options, event)
        for event in new(log):
            _print(options, event)


@dataclass(slots=True)
class Log:
    """The log through the filters. `last` is the highest index that was read."""

    service: Service
    query: dict[str, str]
    person: str = ""
    last: int = -1

    def page(self, after: int | None, limit: int = _PAGE, wait: int = 0) -> list[Row]:
        asked = self.query | {"limit": str(limit)}
        asked |= {"after": str(after)} if after is not None else {}
        asked |= {"wait": str(wait)} if wait else {}
        found = rows(self.service.get("/v1/audit", asked, wait=wait, limit=LIST_MAX), "events")
        self.last = max([self.last, *map(_index, found)])
        return found

    def wanted(self, event: Row) -> bool:
        return not self.person or self.person in (_name(event, "actor"), _name(event, "subject"))


def newest(log: Log, limit: int, begin: Micros | None) -> list[Row]:
    """The newest `limit` entries that are wanted, none before `begin`; in the order of the log."""
    page = log.page(None)
    found = [event for event in page if log.wanted(event)]
    oldest, step = (_index(page[0]) if page else 0), _PAGE
    # The log is asked forwards only: it is read from ever further back, each time twice as far, until it is enough.
    while oldest > 0 and len(found) < limit and (begin is None or _time(page[0]) >= begin):
        start = max(0, oldest - step)
        page = _between(log, start, oldest) or page
        found = [event for event in page if log.wanted(event) and _index(event) < oldest] + found
        oldest, step = start, 2 * step
    return [event for event in found if begin is None or _time(event) >= begin][-limit:]


def new(log: Log) -> Iterator[Row]:
    """What is logged from now on, without an end."""
    while True:
        yield from filter(log.wanted, log.page(log.last, wait=_WAIT))


def _between(log: Log, start: int, end: int) -> list[Row]:
    """The entries with an index from `start` up to `end`, `end` left out."""
    found: list[Row] = []
    after = start - 1
    while after < end - 1 and (page := log.page(after)):
        found += [event for event in page if _index(event) < end]
        after = _index(page[-1])
    return found


def _name(event: Row, field: str) -> str:
    value = event.get(field)
    return text(value, "name", "") if isinstance(value, dict) else ""


def _index(event: Row) -> int:
    return whole(event, "index")


def _time(event: Row) -> Micros:
    return parse(text(event, "time"))


def _print(options: Options, event: Row) -> None:
    match options.output:
        case "json":
            lines = [json.dumps(event)]
        case "yaml":
            lines = ["---", *yaml_lines(event)]
        case _:
            lines = [as_line(event)]
    sys.stdout.write("".join(f"{each}\n" for each in lines))
    sys.stdout.flush()
