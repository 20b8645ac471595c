"""Asking a person. Only on the terminal itself, never on stdin or stdout, which may be somebody's data."""

from collections.abc import Sequence
from getpass import getpass
from pathlib import Path

from jitgate.cli.command import Options
from jitgate.cli.out import plain
from jitgate.core.errors import UsageError
from jitgate.core.secret import Secret

_TERMINAL = Path("/dev/tty")
_TRIES = 3
_CLOSED = "the terminal was closed"


def can_ask(options: Options) -> bool:
    if options.no_input:
        return False
    try:
        with _TERMINAL.open("rb+", buffering=0):
            return True
    except OSError:
        return False


def ask(options: Options, what: str, default: str = "") -> str:
    """One line that is not empty. `UsageError` naming `what` where nobody can be asked, or nobody answers."""
    _need(options, what)
    for _ in range(_TRIES):
        if answer := _line(f"{what} [{default}]" if default else what) or default:
            return answer
    raise _no_answer(what, "it may not be empty")


def ask_secret(options: Options, what: str) -> Secret[str]:
    """One line that is not shown while it is typed."""
    _need(options, what)
    try:
        return Secret(getpass(f"{what}: "))
    except EOFError:
        _show("\n")
        raise _no_answer(what, _CLOSED) from None


def confirm(options: Options, what: str) -> None:
    """Nothing if the answer is yes; else `UsageError`."""
    if options.yes:
        return
    if not can_ask(options):
        raise UsageError(f"{what} needs a yes", "add --yes")
    if _line(f"{what}? [y/N]").lower() not in ("y", "yes"):
        raise UsageError("nothing was changed", "answer y to go on")


def choose(options: Options, what: str, choices: Sequence[str], hint: str) -> int:
    """The number of the chosen one, from 0; asked by number. `UsageError` with `hint` where nobody can be asked."""
    if not can_ask(options):
        raise UsageError(f"which {what}? {', '.join(choices[:10])}", hint)
    listed = "".join(f"  {number}  {plain(choice)}\n" for number, choice in enumerate(choices, 1))
    _show(listed)
    for _ in range(_TRIES):
        answer = _line(f"which {what}, 1 to {len(choices)}")
        if answer.isdecimal() and 1 <= int(answer) <= len(choices):
            return int(answer) - 1
        if answer in choices:
            return choices.index(answer)
    raise UsageError(f"no {what} was chosen", hint)


def _line(prompt: str) -> str:
    with _TERMINAL.open("rb+", buffering=0) as terminal:
        terminal.write(plain(f"{prompt}: ").encode())
        line = bytearray()
        while (byte := terminal.read(1)) not in (b"\n", b""):
            line += byte
        if not byte:
            terminal.write(b"\n")
            if not line:
                raise _no_answer(prompt, _CLOSED)
    return line.decode(errors="replace").strip()


def _show(text: str) -> None:
    with _TERMINAL.open("wb", buffering=0) as terminal:
        terminal.write(text.encode())


def _no_answer(what: str, why: str) -> UsageError:
    return UsageError(f"no answer: {what}", why)


def _need(options: Options, what: str) -> None:
    if not can_ask(options):
        why = "--no-input was given" if options.no_input else "there is no terminal to ask on"
        raise UsageError(f"{what} is needed, but {why}", "give it by its option, or run this on a terminal")
