"""What every command shares: the options that all take, examples at the end of the help, groups that load late."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import click

Format = Literal["table", "json", "yaml"]
FORMATS: tuple[Format, ...] = ("table", "json", "yaml")


@dataclass(slots=True)
class Options:
    """The options that every command takes, after flag, environment and file had their say."""

    output: Format | None = None
    quiet: bool = False
    no_input: bool = False
    yes: bool = False
    profile: str = ""

    @property
    def table(self) -> bool:
        return self.output in (None, "table")


realm_option = click.option("--realm", metavar="REALM", help="In which realm, where a name stands in several.")


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    options = ctx.ensure_object(Options)
    if value is not None and param.name:
        setattr(options, param.name, value)


def shared_options(*, environment: bool, short_output: bool = True) -> list[click.Parameter]:
    """Only the outermost command reads the environment, so that no variable outranks a flag given further out."""

    def env(name: str) -> str | None:
        return f"JITCTL_{name}" if environment else None

    def flag(name: str, text: str) -> click.Option:
        variable = name.removeprefix("--").replace("-", "_")
        return click.Option(
            [name],
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_keep,
            envvar=env(variable.upper()),
            help=text,
        )

    names = ["-o", "--output"] if short_output else ["--output"]
    return [
        click.Option(
            names,
            type=click.Choice(FORMATS),
            default=None,
            expose_value=False,
            callback=_keep,
            envvar=env("OUTPUT"),
            help="How data is printed on stdout.",
        ),
        click.Option(
            ["--profile"],
            metavar="NAME",
            default=None,
            expose_value=False,
            callback=_keep,
            envvar=env("PROFILE"),
            help="Which service, as named by `jitctl login --name`.",
        ),
        flag("--quiet", "Say nothing on stderr but errors."),
        flag("--no-input", "Never ask; fail where an answer is needed."),
        flag("--yes", "Answer yes where a confirmation is asked."),
    ]


class Command(click.Command):
    """A command with the shared options; its help ends with `examples`, one command a line."""

    short_output = True

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:  # noqa: ANN401  # click's own, passed on
        super().__init__(*args, **kwargs)
        self.params += shared_options(environment=False, short_output=self.short_output)
        self.epilog = as_epilog(examples)


class OwnOutput(Command):
    """A command whose `-o` names a file."""

    short_output = False


class Remote(Command):
    """A command that takes another one after `--`, whole and as it is."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_REMOTE] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


_REMOTE = "jitgate.remote"


def remote_command(ctx: click.Context) -> tuple[str, ...]:
    found: tuple[str, ...] = ctx.meta.get(_REMOTE, ())
    return found


def as_epilog(examples: str) -> str:
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    return f"\b\nExamples:\n{lines}" if lines else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A command in the tree: its one-line help, and where it is (`module:attribute`) or what is below it."""

    text: str
    where: str = ""
    below: "Mapping[str, Entry]" = field(default_factory=dict)
    examples: str = ""


class Suggests(click.Group):
    """A group that names the command that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # noqa: PLC0415  # a start does without

            if near := get_close_matches(args[0], self.list_commands(ctx), 1):
                raise click.UsageError(f"No such command '{args[0]}'. Did you mean '{near[0]}'?", ctx) from error
            raise


class Late(Suggests):
    """A group that knows its commands' one-line help and imports one only when it is called."""

    def __init__(self, name: str, entries: Mapping[str, Entry], **kwargs: Any) -> None:  # noqa: ANN401  # click's own
        super().__init__(name, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if (entry := self.entries.get(cmd_name)) is None:
            return None
        if entry.below:
            return Late(cmd_name, entry.below, help=entry.text, epilog=as_epilog(entry.examples))
        module, _, attribute = entry.where.partition(":")
        found: click.Command = getattr(import_module(f"jitgate.cli.{module}"), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.text) for name, entry in self.entries.items()])
