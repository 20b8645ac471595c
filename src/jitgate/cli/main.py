"""The way in: the list of commands, and the one place where an error becomes words and an exit status."""

import io
import os
import sys
from typing import NoReturn

import click

from jitgate import __version__
from jitgate.cli.command import Entry, Late, as_epilog, shared_options
from jitgate.cli.out import say_error

_VM = {
    "ls": Entry("The machines that you may reach, and as whom.", "vm:ls"),
    "connect": Entry("Connect to one by ssh.", "vm:connect"),
}
_CERT = {
    "get": Entry("Get one for any ssh client.", "cert:get"),
    "show": Entry("Say in words what one allows.", "cert:show"),
    "lint": Entry("Say what anybody's allows, and what is dangerous about it.", "lint:lint_"),
    "renew": Entry("Make sure that plain ssh has one.", "cert:renew"),
}
_GRANTS = {
    "ls": Entry("What runs, or all with --all.", "grants:ls"),
    "end": Entry("End one now.", "grants:end"),
}
_SESSIONS = {
    "ls": Entry("Those that are open.", "sessions:ls"),
    "kill": Entry("End one now.", "sessions:kill"),
}
_REVOKE = {
    "certificate": Entry("A certificate, with its grant.", "revoke:certificate"),
    "serials": Entry("A range of serials of one CA key.", "revoke:serials"),
    "key": Entry("A public key, for good.", "revoke:key"),
    "person": Entry("All that a person has.", "revoke:person"),
    "host": Entry("A host's key and certificates.", "revoke:host"),
    "grant": Entry("A grant and all under it.", "revoke:grant"),
    "ca": Entry("A CA key and all that it signed.", "revoke:ca"),
    "ls": Entry("What was revoked.", "revoke:ls"),
    "show": Entry("How far hosts know of it.", "revoke:show"),
}
_HOSTS = {
    "add": Entry("A one-time token for a host to join with.", "hosts:add"),
    "approve": Entry("Let in one that waits.", "hosts:approve"),
    "ls": Entry("All hosts, and how their agents are.", "hosts:ls"),
    "show": Entry("One host, and what its agent said.", "hosts:show"),
    "label": Entry("Change what roles may ask for.", "hosts:label"),
    "rm": Entry("Forget one.", "hosts:rm"),
}
_KEYS = {
    "ls": Entry("Your registered keys.", "keys:ls"),
    "add": Entry("Register another.", "keys:add"),
    "rm": Entry("Remove one.", "keys:rm"),
}
_IDENTITIES = {
    "ls": Entry("Who you are at identity providers.", "identities:ls"),
    "link": Entry("Add another, by signing in there.", "identities:link"),
    "unlink": Entry("Remove one.", "identities:unlink"),
}
_POLICY = {
    "check": Entry("Check the role files of a folder.", "policy:check"),
    "manifest": Entry("Write down what they are, for `jitgate policy apply`.", "policy:manifest"),
}
_SSH_CONFIG = {
    "install": Entry("Let plain ssh find your machines.", "sshconfigs:install"),
    "remove": Entry("Take that back, byte for byte.", "sshconfigs:remove"),
    "show": Entry("Show what it says.", "sshconfigs:show"),
}
_COMMANDS = {
    "login": Entry("Sign in to a service and bind this machine's key.", "login:login"),
    "logout": Entry("End the sign-in and remove its certificates here.", "login:logout"),
    "whoami": Entry("Who the service thinks you are, and until when.", "login:whoami"),
    "vm": Entry("The machines that you may reach.", below=_VM, examples="jitctl vm ls\njitctl vm connect web1"),
    "cert": Entry("Certificates for plain ssh.", below=_CERT, examples="jitctl cert get web1\njitctl cert show"),
    "ssh-config": Entry("Plain ssh to your machines.", below=_SSH_CONFIG, examples="jitctl ssh-config install"),
    "grants": Entry("What you were granted, and until when.", below=_GRANTS, examples="jitctl grants ls --all"),
    "sessions": Entry("Your connections through the gateway.", below=_SESSIONS, examples="jitctl sessions ls --all"),
    "revoke": Entry(
        "Take back what was given, and see that hosts know.",
        below=_REVOKE,
        examples="jitctl revoke key ~/.ssh/id_ed25519.pub\njitctl revoke person alice --reason 'laptop stolen'",
    ),
    "hosts": Entry(
        "For administrators: hosts and their agents.",
        below=_HOSTS,
        examples="jitctl hosts add web1 --login ubuntu\njitctl hosts ls",
    ),
    "keys": Entry("Your registered public keys.", below=_KEYS, examples="jitctl keys ls"),
    "identities": Entry(
        "Who you are at identity providers.", below=_IDENTITIES, examples="jitctl identities ls\njitctl identities link"
    ),
    "explain": Entry("Why you may, or may not, and what would change it.", "explain:explain"),
    "audit": Entry("What was decided, for whom and why.", "audit:audit"),
    "policy": Entry(
        "Look at role files; changes nothing.",
        below=_POLICY,
        examples="jitctl policy check roles/\njitctl policy manifest roles/",
    ),
    "doctor": Entry("Find out what is wrong on this machine.", "doctor:doctor"),
    "completion": Entry("Completion for bash, zsh or fish.", "completion:completion"),
    "version": Entry("The version of jitctl.", "completion:version"),
}
_EXAMPLES = """
    jitctl login https://jitgate.example.com
    jitctl vm ls
    jitctl vm connect web1
    jitctl vm connect web1 --reason 'disk full, OPS-12' -- df -h
    jitctl explain db1
"""
_COMPLETE = "_JITCTL_COMPLETE"  # set by the script of `jitctl completion`
INTERRUPTED = 130
_BROKEN_PIPE = 141  # 128 + SIGPIPE, what a program ended by the signal shows

root = Late(
    "jitctl",
    _COMMANDS,
    params=[*shared_options(environment=True)],
    help="Access by ssh that exists only while it is needed.",
    epilog=as_epilog(_EXAMPLES),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
root = click.version_option(__version__, prog_name="jitctl", message="%(prog)s %(version)s")(root)


def main() -> NoReturn:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: a name from elsewhere is no reason to fail
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit status. Nothing that a person can cause leaves as a traceback."""
    try:
        if _COMPLETE in os.environ:
            root.main(arguments, prog_name="jitctl", complete_var=_COMPLETE)
        # not click's own main, which ends a broken pipe as an error
        with root.make_context("jitctl", arguments) as context:
            root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\n")
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has gone; python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _BROKEN_PIPE
    except Exception as error:
        if os.environ.get("JITCTL_DEBUG"):
            raise
        return say_error(error)
    return 0
