"""jitgate revoke: taking back what was given, by whoever runs the service."""

import time
from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.ca.revocation import What
from jitgate.cli.answers import as_row, text, whole
from jitgate.cli.revoke import WAIT_S, named, what_was, words
from jitgate.core.text import check_reason

_EACH_S = 0.3
_EXAMPLES = """
    jitgate revoke person alice --reason 'laptop stolen'
    jitgate revoke certificate 4611686018427390001
    jitgate revoke ca SHA256:... --reason 'key was copied'
"""


@click.command(epilog=examples(_EXAMPLES))
@click.argument("what", type=click.Choice([each.value for each in What]))
@click.argument("subject")
@config_option
@output_option
@click.option("--ca", metavar="SHA256:...", default="", help="By which CA key, for serials.")
@click.option("--realm", metavar="NAME", default="default", help="In which realm.")
@click.option("--reason", default="", help="Why, for the log.")
@click.option("--wait", type=click.FloatRange(0, 3600), default=WAIT_S, help="Seconds to wait for hosts.")
def revoke(what: str, subject: str, config: Path, output: str, ca: str, realm: str, reason: str, wait: float) -> None:
    """Revoke a certificate, serials, a key, person, host, grant or CA key, and say which hosts know of it.

    SUBJECT is a serial, FIRST-LAST, a public key's line, fingerprint or id, a name, a grant's id, or the fingerprint of
    a CA key. As `jitctl revoke`, for when nobody can sign in.
    """
    settings = settings_of(config)
    order = {"what": what, "subject": subject, "ca": ca, "realm": realm, "reason": check_reason(reason)}
    answer, end = operate(settings, "revoke", order), time.monotonic() + wait
    click.echo(f"jitgate: {what_was(as_row(answer['revocation']))}", err=True)
    made = text(as_row(answer["revocation"]), "id")
    while whole(as_row(answer["progress"]), "waiting_count") and time.monotonic() < end:
        time.sleep(_EACH_S)
        answer = operate(settings, "revoke show", {"id": made})
    progress = as_row(answer["progress"])
    show(output, answer, [words(progress)])
    if without := whole(progress, "without_agent_count"):
        names = named(progress, "without_agent", without)
        click.echo(f"jitgate: without an agent, good there until it ends: {names}", err=True)
    if waiting := whole(progress, "waiting_count"):
        click.echo(f"jitgate: warning: no answer yet from {named(progress, 'waiting', waiting)}", err=True)
        raise click.exceptions.Exit(1)
