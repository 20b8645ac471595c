"""jitctl explain: why one may or may not."""

import click

from jitgate.cli.access import Wish, parse_wish
from jitgate.cli.answers import rows, text
from jitgate.cli.command import Command, Options, realm_option
from jitgate.cli.out import coloured, data, plain
from jitgate.cli.problems import as_checks
from jitgate.cli.profile import current
from jitgate.cli.service import signed_in
from jitgate.cli.sshconfig import complete

_EXAMPLES = "jitctl explain web1\njitctl explain db1 --login root\njitctl explain db1 -o json"


@click.command(cls=Command, examples=_EXAMPLES)
@click.argument("host", shell_complete=complete)
@click.option("--login", metavar="LOGIN", help="As whom. Default: as the first login that a role gives.")
@realm_option
@click.pass_obj
def explain(options: Options, host: str, login: str | None, realm: str | None) -> None:
    """Say why you may or may not reach HOST: every role that was looked at, every check with its reason.

    This asks; it requests nothing and leaves no entry in the log.
    """
    wish = parse_wish(Wish(host, login, realm=realm))
    asked = {"host": wish.name or "", "login": wish.login, "realm": wish.realm}
    query = {name: value for name, value in asked.items() if value is not None}
    with signed_in(current(options), options) as service:
        answer = service.get("/v1/explain", query)
    data(options, answer, lines_of(answer))


def lines_of(answer: dict[str, object]) -> list[str]:
    decision, login = text(answer, "decision"), text(answer, "login", "")
    target = f"{login}@{text(answer, 'host')}" if login else text(answer, "host")
    if answer.get("code") == "reason_needed":  # `vm ls` counts it as permitted, and `vm connect` asks
        decision = "ask"
    lines = [f"{coloured(decision)}  {plain(target)}: {plain(text(answer, 'why', ''))}"]
    if hint := text(answer, "hint", ""):
        lines.append(f"        {plain(hint)}")
    for role in rows(answer, "roles"):
        lines.append("")
        effect = "denies" if role.get("effect") == "deny" else "allows"
        applies = f"applies, and {effect}" if role.get("matched") is True else "does not apply"
        lines.append(f"role {plain(text(role, 'role'))} {applies}")
        for check in as_checks(role.get("checks")):
            lines.append(f"  {coloured(check.outcome)}  {plain(check.name)}: {plain(check.why)}")
            if check.hint and not check.passed:
                lines.append(f"          {plain(check.hint)}")
    if digest := text(answer, "policy_digest", ""):
        lines += ["", f"policy {plain(digest)}"]
    return lines
