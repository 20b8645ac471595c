"""jitgate host trust: makes this host's sshd take a realm's certificates, or undoes it."""

from pathlib import Path

import click

from jitgate.agent.script import render, run
from jitgate.agent.trust import MAX_BYTES, parse
from jitgate.core.errors import NotFound, UsageError

EXAMPLES = """\b
Examples:
  jitgate host trust web1.trust
  jitgate host trust web1.trust --check
  jitgate host trust web1.trust --print > jitgate-trust-web1.sh
  jitgate host trust web1.trust --remove
"""


@click.command("trust", epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only read what sshd does, and say what would be done.")
@click.option("--remove", is_flag=True, help="Undo it, byte for byte.")
@click.option("--beside", is_flag=True, help="Go in beside another CA or principals file, which stay as they are.")
@click.option("--print", "print_", is_flag=True, help="Print the POSIX script that does it, for a host without Python.")
@click.option("--etc", metavar="DIR", help="Where sshd_config lies, if not in /etc/ssh; needs --reload.")
@click.option("--sshd", metavar="PATH", help="Which sshd, if not the first along PATH.")
@click.option("--reload", metavar="COMMAND", help="How sshd is reloaded, if not by systemd or its pid file.")
@click.pass_context
def host_trust(
    context: click.Context,
    file: Path,
    *,
    check: bool,
    remove: bool,
    beside: bool,
    print_: bool,
    etc: str | None,
    sshd: str | None,
    reload: str | None,
) -> None:
    """Make this host's sshd take the certificates of a realm (as root).

    FILE is the trust file that `jitgate host add` wrote for this host. It holds no secret, but whoever can change it
    on its way decides whose certificates open the host. What sshd does now is read first; another CA, principals file
    or revocation list that stands there stops it, and nothing is changed. Whoever can log in today still can.
    """
    given = {"--etc": etc, "--sshd": sshd, "--reload": reload}
    options = [part for name, value in given.items() if value is not None for part in (name, value)]
    options += ["--beside"] if beside else []
    if check + remove + print_ > 1 or (print_ and options):
        raise UsageError("--check, --remove and --print exclude each other", "--print takes no other option")
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}", "on the server: jitgate host add") from error
    script = render(parse(data))
    if print_:
        click.echo(script, nl=False)
        return
    mode = ["--check"] if check else ["--remove"] if remove else []
    context.exit(run(script, [*mode, *options]))
