"""`jitgate`: what is run on the server's own machine (and `host trust` on a host). A command is loaded when called."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import click

from jitgate import __version__
from jitgate.cli.command import Suggests
from jitgate.core.errors import Error

Entries = Mapping[str, "tuple[str, str] | tuple[str, Entries]"]

_ROTATE: Entries = {
    "plan": ("rotate:plan", "Show what a rotation would do."),
    "start": ("rotate:start", "Begin: the new key is trusted."),
    "status": ("rotate:status", "Show the plans that run, and what holds them up."),
    "advance": ("rotate:advance", "Take the next step."),
    "abort": ("rotate:abort", "Go back to the old key."),
}
_CA: Entries = {
    "add": ("ca:add", "List a key: trusted from now on."),
    "ls": ("ca:list_keys", "List the keys, and what the signer holds."),
    "use": ("ca:use", "Sign with a listed key from now on."),
    "retire": ("ca:retire", "Trust nothing by a key any more."),
    "backup": (
        "A CA key that is kept offline, and trusted already.",
        {
            "make": ("backup:make", "Make one, and have it trusted."),
            "drill": ("backup:drill_key", "Prove that hosts take what it signs; open none."),
            "bring": ("backup:bring", "Put it into the signer's folder."),
        },
    ),
    "move": ("ca_move:move", "Give a key to another keeper."),
    "rotate": ("Replace a CA key step by step.", _ROTATE),
}
_COMMANDS: Entries = {
    "init": ("init:init", "Make a new installation."),
    "serve": ("serve:serve", "Run the service."),
    "demo": ("demo:demo", "Everything on loopback, with a tour of the main job."),
    "user": (
        "Users.",
        {
            "add": ("user:add", "Add a user, with a password and a one-time code or without."),
            "ls": ("user:list_users", "List the users."),
            "show": ("user_link:show_user", "Show a user with their identities at providers."),
            "link": ("user_link:link", "Link an identity of a provider to a user."),
            "unlink": ("user_link:unlink", "Take such a link away."),
            "disable": ("user:disable", "Take a user's access away, at once."),
            "enable": ("user:enable", "Give it back."),
            "leave": ("realm:leave", "Take away what a user has in one realm."),
            "return": ("realm:come_back", "Let a user back into a realm."),
        },
    ),
    "revoke": ("revoke:revoke", "Take back what was given, and see that hosts know."),
    "realm": (
        "Trust domains, each with CA keys and hosts of its own.",
        {
            "add": ("realm:add", "Add a realm, with keys of its own."),
            "ls": ("realm:list_realms", "List the realms."),
            "show": ("realm:show_realm", "Show a realm with its keys."),
        },
    ),
    "host": (
        "Hosts that people reach.",
        {
            "add": ("host:add", "Make a host known; write what it has to trust."),
            "ls": ("host:list_hosts", "List the hosts."),
            "renew": ("host:renew", "Sign a new certificate for a host; write its trust file anew."),
            "rm": ("host:remove", "Forget a host."),
            "trust": ("host_trust:host_trust", "On the host: let sshd take this realm's certificates."),
        },
    ),
    "agent": (
        "On a host: keep its sshd in step with the service.",
        {
            "join": ("agent:join", "Join this host to a service."),
            "leave": ("agent:leave", "Undo it, byte for byte."),
            "status": ("agent:status", "Show what is in force, and what is wrong."),
            "run": ("agent:run", "Stay connected, and obey (systemd)."),
            "doctor": ("agent:doctor", "Say what sshd really does, and what else lets people in."),
            "exclusive": ("agent:exclusive", "Let nothing but jitgate open this host."),
            "logins": ("agent_logins:logins", "Show who is in, and by what the agent learns of it."),
        },
    ),
    "session": (
        "Connections through the gateway.",
        {
            "ls": ("session:list_sessions", "List those that are open."),
            "kill": ("session:kill", "End one now."),
        },
    ),
    "ca": ("CA keys: which are trusted, which one signs.", _CA),
    "vault": (
        "Vault's API, for its clients.",
        {
            "token": ("vault:token", "Make an administrator's token of it."),
            "setup": ("vault:setup", "Print what switches it on."),
        },
    ),
    "import": (
        "What others keep, brought over.",
        {"vault": ("vault:import_vault", "Roles and policies of a Vault or OpenBao.")},
    ),
    "policy": ("Who may do what.", {"apply": ("policy:apply", "Put a folder of role files in force.")}),
    "db": (
        "The database itself.",
        {
            "new-epoch": ("db_epoch:new_epoch", "After it was put back from a copy: use nothing twice."),
            "nodes": ("db:nodes", "The services that work on it."),
            "roles": ("db:roles", "What programs may do inside PostgreSQL, as GRANT statements."),
            "upgrade": ("db:upgrade", "Bring the tables up to date with this version."),
        },
    ),
    "audit": ("The log.", {"verify": ("audit:verify", "Prove offline that nothing in the log was altered.")}),
    "signer": ("signer:signer", "Hold the CA keys (started by serve)."),
}


class Late(Suggests):
    """A group that imports a command's module only when it is called."""

    def __init__(self, name: str, entries: Entries, text: str) -> None:
        super().__init__(name, help=text, context_settings={"help_option_names": ["-h", "--help"]})
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        match self._entries.get(cmd_name):
            case (str() as where, str()):
                module, _, attribute = where.partition(":")
                command: click.Command = getattr(import_module(f"jitgate.app.commands.{module}"), attribute)
                return command
            case (str() as text, entries):
                return Late(cmd_name, entries, text)
            case _:
                return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        rows = [(name, b if isinstance(b, str) else a) for name, (a, b) in self._entries.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


root: click.Command = click.version_option(__version__, prog_name="jitgate", message="%(prog)s %(version)s")(
    Late("jitgate", _COMMANDS, "Just-in-time access for SSH: the server's side.")
)


def main(arguments: list[str] | None = None) -> NoReturn:
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """The exit status. What a person can cause ends in one line, and one of what to do."""
    try:
        result: Any = root.main(arguments, prog_name="jitgate", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message(), err=True)
        return 2
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "jitgate"
        return _say(error.format_message().rstrip("."), f"{where} --help", error.exit_code)
    except Error as error:
        for check in error.checks:
            if not check.passed:
                click.echo(f"jitgate: {check.outcome}: {check.name}: {check.why}", err=True)
        return _say(error.what, error.hint, error.exit_status)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jitgate"):
            raise
        what = f"the base install, which runs jitctl and jitgate host trust, has no {error.name}"
        return _say(what, "install jitgate with the extra [server]", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "run it as root, or as the user who runs jitgate serve" if isinstance(error, PermissionError) else ""
        return _say(f"{where}{error.strerror or error}", hint, 1)
    return result if isinstance(result, int) else 0


def _say(what: str, hint: str, status: int) -> int:
    click.echo(f"jitgate: error: {what[:1].lower()}{what[1:]}", err=True)
    if hint:
        click.echo(f"jitgate: hint: {hint}", err=True)
    return status
