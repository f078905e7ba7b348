"""The options that bench alone takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bigcode_cli.cli.decoding_flags import SAMPLES_TEMPERATURE, Candidates, Order, SpanOption
from bigcode_cli.cli.help import STOPPING
from bigcode_cli.records import InfillOrder, InfillRequest, SamplingOptions, Span

TASKS = "Tasks"
HOLES = 200
"""Cut from folders where no number is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlags:
    """What is to be filled."""

    infill: Annotated[
        Path | None,
        typer.Option(
            "--infill",
            metavar="FILE",
            help="Fill the tasks of FILE, in HumanEval-Infilling's format (.jsonl, .jsonl.gz).",
            rich_help_panel=TASKS,
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help="N tasks of FILE, at even distances.",
            show_default="all",
            rich_help_panel=TASKS,
        ),
    ] = None
    execute: Annotated[
        bool,
        typer.Option(
            "--execute",
            help="Run each filled program of FILE with its test, shut in, for pass@1.",
            rich_help_panel=TASKS,
        ),
    ] = False
    infill_repo: Annotated[
        list[Path] | None,
        typer.Option(
            "--infill-repo",
            metavar="DIR",
            help="Fill holes cut from the text files in DIR, those that git knows or would. "
            "Repeatable.",
            rich_help_panel=TASKS,
        ),
    ] = None
    tasks: Annotated[
        int | None,
        typer.Option(
            "--tasks",
            metavar="N",
            min=1,
            help="Holes to cut.",
            show_default=str(HOLES),
            rich_help_panel=TASKS,
        ),
    ] = None
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND,…",
            help="What a hole takes: line, block (2 to 8 lines), rest or span (of a line), edit "
            "(3 to 15 lines much like others near them).",
            show_default="all but edits in turn",
            rich_help_panel=TASKS,
        ),
    ] = None
    glob: Annotated[
        str | None,
        typer.Option(
            "--glob",
            metavar="PATTERN",
            help="Cut from files with such names alone.",
            rich_help_panel=TASKS,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Of the holes, and of candidates.",
            rich_help_panel=TASKS,
        ),
    ] = 0
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate",
            help="Fill all again without stopping by the span, without cutting overlap, with 4 "
            "candidates, in the other order; compare each.",
            rich_help_panel=TASKS,
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WayFlags:
    """How it is filled."""

    order: Order = "auto"
    candidates: Candidates = 1
    span: SpanOption = "auto"
    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens",
            "--max-tokens",
            metavar="N",
            help="Tokens of a middle at most.",
            rich_help_panel=STOPPING,
        ),
    ] = 128

    def request(self, seed: int) -> InfillRequest:
        """What is asked for each task."""
        span: Span | None = None if self.span == "auto" else self.span
        order: InfillOrder | None = None if self.order == "auto" else self.order
        temperature = SAMPLES_TEMPERATURE if self.candidates > 1 else 0.0
        return InfillRequest(
            prefix="",
            suffix="",
            span=span,
            order=order,
            candidates=self.candidates,
            max_new_tokens=self.max_new_tokens,
            sampling=SamplingOptions(temperature=temperature, seed=seed),
        )
