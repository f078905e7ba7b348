"""The options of commands that go through texts of any number and length."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bigcode_cli.cli.help import INPUT

WINDOWS = "Windows"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFlags:
    """Which texts, beside FILES."""

    glob: Annotated[
        list[str] | None,
        typer.Option(
            "--glob",
            metavar="PATTERN",
            help="Of a folder, files with such names alone. Repeatable.",
            rich_help_panel=INPUT,
        ),
    ] = None
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help='Take the texts of lines {"id": …, "text": …} of FILE.',
            rich_help_panel=INPUT,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFlags:
    """How texts that exceed the model's context are read."""

    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            metavar="N",
            help="Tokens that the model sees at once.",
            show_default="all that it takes",
            rich_help_panel=WINDOWS,
        ),
    ] = None
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            metavar="N",
            help="Tokens from the end of a window to that of the next; a token sees at least "
            "context - stride tokens.",
            show_default="half the context",
            rich_help_panel=WINDOWS,
        ),
    ] = None
