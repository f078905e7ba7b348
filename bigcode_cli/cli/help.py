"""One look for every help page: plain text in sections, so that it is there at once.

Typer's own pages are rendered by rich, whose import alone takes longer than the page.
"""

# ruff: noqa: ANN401 -- Typer keeps the classes of contexts private

import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import typer
from typer.core import TyperCommand, TyperGroup

from bigcode_cli.cli.render import wants_colour
from bigcode_cli.errors import UsageError

HELP_NAMES = ["-h", "--help"]

INPUT, PROMPT, SAMPLING, STOPPING = "Input", "Prompt", "Sampling", "Stopping"
OUTPUT, MODEL = "Output", "Model"
PANELS = (INPUT, PROMPT, SAMPLING, STOPPING, OUTPUT, MODEL)
"""The sections of a help page, in order; a command's own sections come before them."""


class Formatter(Protocol):
    """What is asked of click's help formatter."""

    def section(self, name: str) -> AbstractContextManager[None]:
        """A heading, and what is written under it."""

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None:
        """Two columns."""


class Command(TyperCommand):
    """A command whose options stand in sections, by their ``rich_help_panel``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The same in every version of Typer."""
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return [self.options_metavar or "", *map(usage_piece, arguments)]

    def format_options(self, ctx: Any, formatter: Formatter) -> None:
        """Write the sections in the order of their first option."""
        write_sections(self, ctx, formatter)

    def get_help(self, ctx: Any) -> str:
        """The whole page, with its headings in bold on a terminal."""
        return highlight(super().get_help(ctx), ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a value that it refuses is traced to where it was set."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if error.hint is None and (origin := _origin(ctx, error.message)):
                raise UsageError(error.message, f"it is set by {origin}") from error
            raise


class Group(TyperGroup):
    """A command of commands with the same look."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands first: they are what is looked for."""
        self.format_commands(ctx, formatter)
        write_sections(self, ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with its whole first sentence."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, first_sentence(c.help)) for name, c in commands if c and not c.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_help(self, ctx: Any) -> str:
        """The whole page, with its headings in bold on a terminal."""
        return highlight(super().get_help(ctx), ctx)


def dress(app: typer.Typer) -> typer.Typer:
    """Give an app and all that is in it this look."""
    app.rich_markup_mode = None
    app.info.cls = Group
    for command in app.registered_commands:
        if command.cls in (None, TyperCommand):
            command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            dress(group.typer_instance)
    return app


def write_sections(command: TyperCommand | TyperGroup, ctx: Any, formatter: Formatter) -> None:
    """Write arguments and options, grouped."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            name = usage_piece(param)
            record = (name if param.required else name[1:-1], record[1])
        title = getattr(param, "rich_help_panel", None) or f"{param.param_type_name.title()}s"
        sections.setdefault(title, []).append(record)
    last = [*PANELS, "Options"]
    for title in [*(title for title in sections if title not in last), *last]:
        if title in sections:
            with formatter.section(title):
                formatter.write_dl(sections[title])


def first_sentence(text: str | None) -> str:
    """The first sentence of a help text, on one line."""
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + dot.strip()


def usage_piece(argument: Any) -> str:
    """How the usage line shows an argument."""
    name = str(argument.metavar or argument.name.upper()) + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _origin(ctx: Any, message: str) -> str | None:
    """Where the option that a message names was set, if not on the command line."""
    named = re.match(r"--[a-z-]+", message)
    for param in ctx.command.params:
        if named and named[0] in param.opts:
            match ctx.get_parameter_source(param.name).name:
                case "ENVIRONMENT":
                    return f"the environment: {param.envvar}"
                case "DEFAULT_MAP":
                    path = ctx.command_path.split()[1:]
                    file = ctx.obj.origin(tuple(path), param.name)
                    return str(file.path) if file else None
    return None


def highlight(page: str, ctx: Any) -> str:
    """Headings in bold where stdout takes colour."""
    if ctx.color is False or not wants_colour(sys.stdout):
        return page
    return re.sub(
        r"^(Usage|[A-Z][\w ]*)(?=:)(?=:\s*$|: bigcode)",
        "\x1b[1m\\1\x1b[0m",
        page,
        flags=re.MULTILINE,
    )
