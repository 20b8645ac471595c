"""jitctl grants: what was granted, until when, and ending it early."""

import click

from jitgate.cli.answers import check_id, rows, text
from jitgate.cli.certificate import clean
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, table_of
from jitgate.cli.profile import current
from jitgate.cli.service import LIST_MAX, signed_in
from jitgate.cli.times import parse, relative, until
from jitgate.core.clock import system_clock
from jitgate.core.text import check_reason


@click.command("ls", cls=Command, examples="jitctl grants ls\njitctl grants ls --all -o json")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option("--everybody", is_flag=True, help="Other people's too; for administrators.")
@click.pass_obj
def ls(options: Options, /, *, everything: bool, everybody: bool) -> None:
    """List your grants: those that run."""
    query = {"all": str(everything).lower(), "everybody": str(everybody).lower()}
    with signed_in(current(options), options) as service:
        found = rows(service.get("/v1/grants", query, limit=LIST_MAX), "grants")
    now = system_clock()
    lines = []
    several = len({text(row, "realm", "default") for row in found}) > 1
    for row in found:
        ended = text(row, "ended_at", "")
        when = relative(parse(ended), now) if ended else until(parse(text(row, "ends_at")), now)
        target = f"{text(row, 'login')}@{text(row, 'host')}"
        line = {"ID": text(row, "id")}
        if everybody:
            line["PERSON"] = text(row, "person", "")
        line |= {"TARGET": target, "ROLE": text(row, "role")}
        if several:
            line["REALM"] = text(row, "realm", "default")
        if everything:
            line["STATE"] = ": ".join(filter(None, (text(row, "state"), text(row, "end_reason", ""))))
        lines.append(line | {"UNTIL": when, "REASON": text(row, "reason", "")})
    data(options, found, table_of(lines))
    if not found:
        say(options, "no grant is active" if not everything else "there is no grant yet")


@click.command("end", cls=Command, examples="jitctl grants end 01J8Z0K3V4WQ2M5N6P7R8S9TAB --reason done")
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why, for the log.")
@click.pass_obj
def end(options: Options, id: str, reason: str | None) -> None:  # noqa: A002  # the argument's name in the help
    """End a grant now. Its certificates are revoked; says until when a host that is not told takes them."""
    check_id(id)
    profile = current(options)
    with signed_in(profile, options) as service:
        answer = service.post(f"/v1/grants/{id}/end", {"reason": check_reason(reason)} if reason else {})
    now = system_clock()
    clean(profile, now, [id])
    say(options, f"ended grant {id}")
    for row in rows(answer, "certificates"):
        ends = parse(text(row, "valid_before"))
        if ends > now:
            serial, until_then = text(row, "serial"), until(ends, now)
            say(options, f"certificate {serial} is revoked; hosts without an agent take it until {until_then}")
    data(options, answer, ())
