"""``bigcode config``: the settings in force, and where each comes from."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal, Protocol

import typer

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.output import Answer, open_answer
from bigcode_cli.cli.params import Encoding, ModelFlags, OutputFlags, spread
from bigcode_cli.cli.settings import SHARED_KEYS, Settings, settable, user_file
from bigcode_cli.errors import UsageError

EXAMPLES = """\b
Examples:
  bigcode config
  bigcode config generate
  bigcode config --json

Defaults come from the command line, then the environment, then bigcode.toml in
the project (here or above, up to the repository's root), then the user's. What
is printed is spelled as in such a file: shared keys first, then a table for
each command.

A project's file comes with what was cloned, so it may choose the model and how
it answers, but not what is read, written or sent.
"""

COMMENT_COLUMN = 30

Source = Literal["command line", "environment", "file", "default"]

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in force.

    Attributes:
        table: the command it belongs to, such as ``("models", "pull")``; empty where shared.
        origin: the variable's name or the file's path; ``None`` for the other sources.
    """

    table: tuple[str, ...]
    key: str
    value: Any
    source: Source
    origin: str | None


class Context(Protocol):
    """What is asked of a parsed command line."""

    command: Any
    params: dict[str, Any]

    def get_parameter_source(self, name: str) -> Any:  # noqa: ANN401 -- Typer's own, private
        """Where a value comes from."""


@app.command(epilog=EXAMPLES)
@spread
def config(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND", help="Show all settings of this command.", show_default=False
        ),
    ] = None,
    *,
    encoding: Encoding = "utf-8",
    model: ModelFlags,  # noqa: ARG001 -- read through the context, like those of other commands
    speech: OutputFlags,
) -> None:
    """Show the settings in force and where each comes from.

    Those that all commands share, and those of single commands that are set; with COMMAND all
    that it takes.
    """
    settings: Settings = context.obj
    wanted = tuple(command or ())
    shared = {row.key: row for row in _settings_of(context, settings, ()) if row.key in SHARED_KEYS}
    own = list(_all_own(context, settings))
    if wanted and wanted not in {row.table[: len(wanted)] for row in own}:
        raise UsageError(f"no such command: {' '.join(wanted)}")
    shown = [
        row
        for row in own
        if row.table[: len(wanted)] == wanted
        and (row.key not in shared or row.value not in _same_as(shared[row.key].value))
        and (wanted or speech.json or row.source != "default")
    ]
    with open_answer(None, encoding) as answer:
        (_print_json if speech.json else _print_toml)(answer, settings, [*shared.values(), *shown])


def _same_as(value: object) -> tuple[object, object]:
    """What a command has of a shared setting: the value, or a list of it where several may be."""
    return value, [value]


def _all_own(context: typer.Context, settings: Settings) -> Iterator[Setting]:
    """The settings of every other command."""
    program: Any = context.find_root().command
    for name, lazy in program.commands.items():
        if name != context.info_name:
            yield from _walk(lazy.load(), context.parent, settings, (name,))


def _walk(
    command: Any,  # noqa: ANN401
    parent: object,
    settings: Settings,
    table: tuple[str, ...],
) -> Iterator[Setting]:
    """The settings of a command and of those within it, as if called without arguments."""
    if parts := getattr(command, "commands", {}):
        for name, part in parts.items():
            yield from _walk(part, parent, settings, (*table, name))
        return
    context = command.make_context(
        table[-1],
        [],
        parent=parent,
        resilient_parsing=True,  # required arguments may be missing
        default_map=settings.default_map(command, table),
    )
    yield from _settings_of(context, settings, table)


def _settings_of(context: Context, settings: Settings, table: tuple[str, ...]) -> Iterator[Setting]:
    known = settable(context.command)
    for param in context.command.params:
        if param.name in known:
            source, origin = _source(context, settings, param, table)
            yield Setting(table, param.name, context.params[param.name], source, origin)


def _source(
    context: Context,
    settings: Settings,
    param: Any,  # noqa: ANN401
    table: tuple[str, ...],
) -> tuple[Source, str | None]:
    match context.get_parameter_source(param.name).name:
        case "COMMANDLINE":
            return "command line", None
        case "ENVIRONMENT":
            names = [param.envvar] if isinstance(param.envvar, str) else param.envvar
            return "environment", next(name for name in names if os.environ.get(name))
        case "DEFAULT_MAP":
            file = settings.origin(table, param.name)
            return "file", str(file.path) if file else None
    return "default", None


def _print_json(answer: Answer, settings: Settings, rows: list[Setting]) -> None:
    found = {file.scope: str(file.path) for file in settings.files}
    answer.write_json(
        to_json(
            {
                "files": {"project": found.get("project"), "user": found.get("user")},
                "settings": [
                    {
                        "command": " ".join(row.table) or None,
                        "key": row.key,
                        "value": row.value,
                        "source": row.source,
                        "from": row.origin,
                    }
                    for row in rows
                ],
            }
        )
    )


def _print_toml(answer: Answer, settings: Settings, rows: list[Setting]) -> None:
    found = {file.scope: str(file.path) for file in settings.files}
    answer.write(f"# project: {found.get('project', 'none')}\n")
    answer.write(f"# user:    {found.get('user', f'none ({user_file()})')}\n")
    for table, group in groupby(rows, key=lambda row: row.table):
        answer.write(f"\n[{'.'.join(table)}]\n" if table else "\n")
        for row in group:
            shown = f"# {row.key}" if row.value is None else f"{row.key} = {_toml(row.value)}"
            answer.write(f"{shown:<{COMMENT_COLUMN}} # {row.origin or row.source}\n")


def _toml(value: object) -> str:
    """A value in TOML, whose texts, numbers and lists are spelled as in JSON."""
    return json.dumps(value, ensure_ascii=False)
