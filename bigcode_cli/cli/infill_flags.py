"""The options that infill alone takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigcode_cli.cli.decoding_flags import Candidates, Logprobs, Order, SpanOption, Stats
from bigcode_cli.cli.help import INPUT, OUTPUT, PROMPT

DialectName = Literal["auto", "starcoder", "santacoder"]
Print = Literal["middle", "file", "diff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoleFlags:
    """Where the hole is, if no FILE tells it."""

    prefix_file: Annotated[
        Path | None,
        typer.Option(
            "--prefix-file",
            metavar="FILE",
            help="The text before the hole (-: stdin).",
            rich_help_panel=INPUT,
        ),
    ] = None
    suffix_file: Annotated[
        Path | None,
        typer.Option(
            "--suffix-file",
            metavar="FILE",
            help="The text after the hole (-: stdin).",
            rich_help_panel=INPUT,
        ),
    ] = None
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", metavar="TEXT", help="The text before the hole.", rich_help_panel=INPUT
        ),
    ] = None
    suffix: Annotated[
        str | None,
        typer.Option(
            "--suffix", metavar="TEXT", help="The text after the hole.", rich_help_panel=INPUT
        ),
    ] = None
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help='Fill every line {"id": …, "prefix": …, "suffix": …} of FILE.',
            rich_help_panel=INPUT,
        ),
    ] = None

    @property
    def texts(self) -> bool:
        """Whether the text around the hole is given."""
        given = (self.prefix, self.suffix, self.prefix_file, self.suffix_file)
        return any(one is not None for one in given)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFlags:
    """What the model is shown."""

    context_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--context-file",
            metavar="FILE",
            help="Another file for the model to look at. Repeatable, the nearest last.",
            rich_help_panel=PROMPT,
        ),
    ] = None
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo", metavar="NAME", help="The repository's name.", rich_help_panel=PROMPT
        ),
    ] = None
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Take context files that git ignores or that look like secrets.",
            rich_help_panel=PROMPT,
        ),
    ] = False
    order: Order = "auto"
    dialect: Annotated[
        DialectName,
        typer.Option(
            "--dialect",
            metavar="auto|starcoder|santacoder",
            help="Which control tokens; auto: those of the model.",
            rich_help_panel=PROMPT,
        ),
    ] = "auto"
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Tell the prompt's parts, their tokens and cuts on stderr.",
            rich_help_panel=PROMPT,
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FillFlags:
    """How holes are filled, and what is done with that."""

    span: SpanOption = "auto"
    candidates: Candidates = 1
    print: Annotated[
        Print | None,
        typer.Option(
            "--print",
            metavar="middle|file|diff",
            help="What to print; diff: a patch.",
            show_default="middle; nothing with --write",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    write: Annotated[
        bool,
        typer.Option(
            "--write", "-w", help="Fill FILE in place, at once or not at all.",
            rich_help_panel=OUTPUT,
        ),
    ] = False  # fmt: skip
    logprobs: Logprobs = None
    stats: Stats = False
