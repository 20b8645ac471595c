"""jitctl ssh-config: our part of the person's ssh config, put there, shown, and taken back."""

import click

from jitgate.cli import access, sshconfig
from jitgate.cli.command import Command, Options
from jitgate.cli.files import read_own
from jitgate.cli.out import data, say
from jitgate.cli.profile import current
from jitgate.cli.service import signed_in
from jitgate.core.errors import NotFound


@click.command("install", cls=Command, examples="jitctl ssh-config install")
@click.pass_obj
def install(options: Options) -> None:
    """Let plain ssh, and all that uses it, find the machines that you may reach.

    Writes files of our own, and puts one line on top of ~/.ssh/config that reads them. Nothing else in it changes.
    """
    profile = current(options)
    with signed_in(profile, options) as service, access.one_at_a_time(profile, access.CONFIG_LOCK):
        names = sshconfig.write_files(profile, access.hosts_of(service), access.about(service))
    sshconfig.include(options)
    say(options, f"plain ssh knows {', '.join(names)}" if names else "there is no machine that you may reach yet")
    data(options, {"file": str(sshconfig.config_file(profile)), "hosts": names}, ())


@click.command("remove", cls=Command, examples="jitctl ssh-config remove")
@click.pass_obj
def remove(options: Options) -> None:
    """Take back all that `install` and `jitctl vm connect` put there, for all services.

    What else stands in ~/.ssh/config stays byte for byte; a file that was made for our line goes. `jitctl vm connect`
    works on, and does not put the line there again.
    """
    sshconfig.exclude(options)
    sshconfig.forget()


@click.command("show", cls=Command, examples="jitctl ssh-config show\njitctl ssh-config show -o json")
@click.pass_obj
def show(options: Options) -> None:
    """Show what our config says, and whether plain ssh reads it."""
    file = sshconfig.config_file(current(options))
    try:
        text = read_own(file).decode()
    except FileNotFoundError:
        raise NotFound("there is no ssh config of ours yet", "jitctl ssh-config install") from None
    read = sshconfig.included()
    say(options, f"{file}, which plain ssh {'reads' if read else 'does not read: jitctl ssh-config install'}")
    document = {"file": str(file), "include": sshconfig.include_line(), "included": read, "text": text}
    data(options, document, text.splitlines())
