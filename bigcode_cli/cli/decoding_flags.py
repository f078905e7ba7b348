"""Options of all commands that decode: how tokens are drawn, where outputs end, what is told."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from bigcode_cli.cli.help import MODEL, OUTPUT, PROMPT, SAMPLING, STOPPING
from bigcode_cli.errors import UsageError
from bigcode_cli.records import SamplingOptions, StopAt, StopOptions

SAMPLES_TEMPERATURE = 0.8
"""What several samples are drawn at where no temperature is set."""

Stats = Annotated[
    bool,
    typer.Option("--stats", help="Tell counts and speeds on stderr.", rich_help_panel=OUTPUT),
]
Logprobs = Annotated[
    int | None,
    typer.Option(
        "--logprobs",
        metavar="N",
        help="Log-probabilities of each token and the N best (--json).",
        rich_help_panel=OUTPUT,
    ),
]
Order = Annotated[
    Literal["auto", "psm", "spm"],
    typer.Option(
        "--order",
        metavar="auto|psm|spm",
        help="Prefix, suffix, middle or suffix, prefix, middle.",
        rich_help_panel=PROMPT,
    ),
]
SpanOption = Annotated[
    Literal["auto", "line", "block"],
    typer.Option(
        "--span",
        metavar="line|block|auto",
        help="Where the middle ends; auto: a line where the text goes on behind the hole.",
        rich_help_panel=STOPPING,
    ),
]
Candidates = Annotated[
    int,
    typer.Option(
        "--candidates",
        metavar="N",
        help="Draw N middles and take the best.",
        rich_help_panel=SAMPLING,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingFlags:
    """How tokens are drawn."""

    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            "-t",
            metavar="T",
            help="Above 0: sample; higher is more varied.",
            show_default=f"0, greedy; {SAMPLES_TEMPERATURE} for several samples",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    top_k: Annotated[
        int,
        typer.Option(
            "--top-k",
            metavar="K",
            help="Keep the K most probable tokens (0: all).",
            rich_help_panel=SAMPLING,
        ),
    ] = 0
    top_p: Annotated[
        float,
        typer.Option(
            "--top-p",
            metavar="P",
            help="Keep the fewest tokens whose probability reaches P.",
            rich_help_panel=SAMPLING,
        ),
    ] = 1.0
    min_p: Annotated[
        float,
        typer.Option(
            "--min-p",
            metavar="P",
            help="Keep tokens at least P times as probable as the best.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0.0
    repetition_penalty: Annotated[
        float,
        typer.Option(
            "--repetition-penalty",
            metavar="X",
            help="Above 1: discourage tokens of the prompt and the output.",
            rich_help_panel=SAMPLING,
        ),
    ] = 1.0
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Repeat a result on the same backend and version.",
            show_default="drawn",
            rich_help_panel=SAMPLING,
        ),
    ] = None

    def warms(self, num_samples: int) -> bool:
        """Whether several samples get a temperature that nobody set."""
        return num_samples > 1 and self.temperature is None

    def sampling_options(self, num_samples: int = 1) -> SamplingOptions:
        """The record of these flags; several samples without a temperature are drawn at 0.8.

        Raises:
            UsageError: a value makes no sense.
        """
        temperature = self.temperature
        if temperature is None:
            temperature = SAMPLES_TEMPERATURE if self.warms(num_samples) else 0.0
        return SamplingOptions(
            temperature=temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationFlags:
    """How tokens are guessed ahead, to be verified several in one pass."""

    lookup: Annotated[
        bool,
        typer.Option(
            "--lookup",
            help="Guess tokens ahead where the text repeats itself, while that saves time. "
            "A seed gives the same text as without, but for rounding.",
            rich_help_panel=MODEL,
        ),
    ] = False
    draft: Annotated[
        str | None,
        typer.Option(
            "--draft",
            metavar="NAME",
            help="Let a smaller model with the same vocabulary guess them.",
            rich_help_panel=MODEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.lookup and self.draft is not None:
            raise UsageError("--lookup and --draft do not go together", "choose who guesses")

    @property
    def are_made(self) -> bool:
        """Whether any guess is to be made."""
        return self.lookup or self.draft is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFlags:
    """How long an output may get, and what ends it before."""

    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens",
            "--max-tokens",
            "-n",
            metavar="N",
            help="New tokens at most.",
            rich_help_panel=STOPPING,
        ),
    ] = 128
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop",
            metavar="TEXT",
            help="End before TEXT, which is not printed. Repeatable.",
            rich_help_panel=STOPPING,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFlags(LimitFlags):
    """Where an output ends."""

    stop_at: Annotated[
        StopAt,
        typer.Option(
            "--stop-at",
            metavar="eos|line|block",
            help="End with the text, at the line's end, or where the indented block ends.",
            rich_help_panel=STOPPING,
        ),
    ] = "eos"

    def stop_options(self) -> StopOptions:
        """The record of these flags.

        Raises:
            UsageError: a stop text is empty.
        """
        return StopOptions(texts=tuple(self.stop or ()), at=self.stop_at)
