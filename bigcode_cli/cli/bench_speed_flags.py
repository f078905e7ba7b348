"""The options of bench that are about speed."""

from collections.abc import Container
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from bigcode_cli.cli.help import OUTPUT
from bigcode_cli.cli.score_flags import parse_percent
from bigcode_cli.errors import UsageError

SPEED, COMPARISON = "Speed", "Comparison"

N_PROMPT, N_GEN, N_SCORE, N_DEPTH, BATCH_SIZE, REPETITIONS = "512", "128", "0", "0", "1", 5
SWEEP_GEN, SWEEP_REPETITIONS = "16", 3
SWEEP_PROMPT, SWEEP_DEPTH, SWEEP_BATCH = 8192, 8000, 256
"""The most that a sweep goes to, where the model goes so far."""


def parse_sizes(name: str, text: str, *, least: int) -> list[int]:
    """Whole numbers with commas between them.

    Raises:
        UsageError: it is something else, or a number is below the least.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) >= least for part in parts):
        raise UsageError(f"--{name} takes numbers from {least}, with commas, not {text!r}")
    return list(dict.fromkeys(map(int, parts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedFlags:
    """What is timed."""

    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="NAME|FILE",
            help="Draw random weights in the shape of santacoder, starcoder …, or of a "
            "config.json, instead of loading --model.",
            rich_help_panel=SPEED,
        ),
    ] = None
    n_prompt: Annotated[
        str | None,
        typer.Option(
            "--n-prompt",
            "-p",
            metavar="N,…",
            help="Tokens of prompts to process (0: none).",
            show_default=N_PROMPT,
            rich_help_panel=SPEED,
        ),
    ] = None
    n_gen: Annotated[
        str | None,
        typer.Option(
            "--n-gen",
            "-n",
            metavar="N,…",
            help="Tokens to generate (0: none).",
            show_default=N_GEN,
            rich_help_panel=SPEED,
        ),
    ] = None
    n_score: Annotated[
        str | None,
        typer.Option(
            "--n-score",
            metavar="N,…",
            help="Tokens of texts to score (0: none).",
            show_default=N_SCORE,
            rich_help_panel=SPEED,
        ),
    ] = None
    n_depth: Annotated[
        str | None,
        typer.Option(
            "--n-depth",
            "-d",
            metavar="N,…",
            help="Tokens that the cache holds already.",
            show_default=N_DEPTH,
            rich_help_panel=SPEED,
        ),
    ] = None
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            "-b",
            metavar="N,…",
            help="Sequences side by side.",
            show_default=BATCH_SIZE,
            rich_help_panel=SPEED,
        ),
    ] = None
    repetitions: Annotated[
        int | None,
        typer.Option(
            "--repetitions",
            "-r",
            metavar="N",
            min=1,
            help="Runs that count, after one that warms up; of guesses, turns of each task "
            "(by default 2).",
            show_default=str(REPETITIONS),
            rich_help_panel=SPEED,
        ),
    ] = None
    sweep: Annotated[
        bool | None,
        typer.Option(
            "--sweep",
            help="Vary one size at a time, to see how cost grows: by default lengths, depths and "
            "sequences just below, at and above powers of two, 16 tokens each, 3 runs.",
            rich_help_panel=SPEED,
        ),
    ] = None
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="transformers",
            help="Time it too, by turns with ours, on the same weights; on GPUs also compiled, "
            "with a static cache (elsewhere: transformers-compiled).",
            rich_help_panel=COMPARISON,
        ),
    ] = None
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="OLD.json",
            help="Compare with what --save or --json wrote earlier.",
            rich_help_panel=COMPARISON,
        ),
    ] = None
    fail_if_slower: Annotated[
        float | None,
        typer.Option(
            "--fail-if-slower",
            metavar="PERCENT",
            parser=parse_percent,
            help="Than OLD.json by more than this, and by more than the runs scatter: exit code 4.",
            rich_help_panel=COMPARISON,
        ),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE.png|html",
            help="Draw the speeds (needs matplotlib: pip install 'bigcode-cli[plot]').",
            rich_help_panel=OUTPUT,
        ),
    ] = None

    def refuse(self, but: Container[str] = ()) -> None:
        """Refuse all of them, where holes are filled, but those of these names.

        Raises:
            UsageError: another is given.
        """
        for field in fields(self):
            if field.name not in but and getattr(self, field.name) is not None:
                name = field.name.replace("_", "-")
                raise UsageError(
                    f"--{name} is about speed, --infill and --infill-repo about quality",
                    "measure one after the other",
                )

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: a flag lacks what it is about, or a file's name does not tell its format.
        """
        if self.fail_if_slower is not None and self.compare is None:
            raise UsageError("--fail-if-slower needs --compare OLD.json")
        if self.plot is not None and self.plot.suffix not in {".png", ".html"}:
            raise UsageError(f"--plot takes FILE.png or FILE.html, not {self.plot}")

    def sizes(self, name: str, text: str | None, default: str, *, least: int = 0) -> list[int]:
        """The numbers of one of the lists.

        Raises:
            UsageError: it is no such list.
        """
        return parse_sizes(name, default if text is None else text, least=least)
