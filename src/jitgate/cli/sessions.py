"""jitctl sessions: connections that the gateway carries, and ending one."""

import click

from jitgate.cli.answers import check_id, rows, text, whole
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, table_of
from jitgate.cli.profile import current
from jitgate.cli.service import LIST_MAX, signed_in
from jitgate.cli.times import parse, relative, until
from jitgate.core.clock import system_clock
from jitgate.core.text import check_reason


@click.command("ls", cls=Command, examples="jitctl sessions ls\njitctl sessions ls --all -o json")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option("--everybody", is_flag=True, help="Other people's too; for administrators.")
@click.pass_obj
def ls(options: Options, /, *, everything: bool, everybody: bool) -> None:
    """List your open sessions through the gateway: when they end, and how much went through those that did."""
    query = {"all": str(everything).lower(), "everybody": str(everybody).lower()}
    with signed_in(current(options), options) as service:
        found = rows(service.get("/v1/sessions", query, limit=LIST_MAX), "sessions")
    now = system_clock()
    lines = []
    for row in found:
        line = {"ID": text(row, "id")}
        if everybody:
            line["PERSON"] = text(row, "person", "")
        line |= {"TARGET": f"{text(row, 'login')}@{text(row, 'host')}", "FROM": text(row, "source", "")}
        line["OPENED"] = relative(parse(text(row, "opened_at")), now)
        ended = text(row, "ended_at", "")
        line["ENDS"] = relative(parse(ended), now) if ended else until(parse(text(row, "ends_at")), now)
        if everything:
            line["WHY"] = text(row, "end_reason", "")
            line["BYTES"] = f"{whole(row, 'up')} up, {whole(row, 'down')} down" if ended else ""
        lines.append(line)
    data(options, found, table_of(lines))
    if not found:
        say(options, "no session is open" if not everything else "there was no session yet")


@click.command("kill", cls=Command, examples="jitctl sessions kill 01J8Z0K3V4WQ2M5N6P7R8S9TAB --reason 'wrong host'")
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why, for the log.")
@click.pass_obj
def kill(options: Options, id: str, reason: str | None) -> None:  # noqa: A002  # the argument's name in the help
    """End a session now: one of yours, or as an administrator anybody's. The grant goes on."""
    check_id(id, "jitctl sessions ls")
    with signed_in(current(options), options) as service:
        answer = service.post(f"/v1/sessions/{id}/end", {"reason": check_reason(reason)} if reason else {})
    say(options, f"session {id} ends now")
    data(options, answer, ())
