"""The options that score alone takes."""

import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bigcode_cli.cli.decoding_flags import Stats
from bigcode_cli.cli.help import INPUT, MODEL, OUTPUT
from bigcode_cli.cli.params import (
    MODEL_VARIABLE,
    AttentionOption,
    BackendOption,
    Device,
    DtypeName,
    ModelFlags,
    Offline,
    OutputFlags,
    QuantizeName,
    Revision,
    Threads,
)
from bigcode_cli.cli.text_flags import WINDOWS, TextFlags
from bigcode_cli.errors import UsageError

THRESHOLDS = "Thresholds"
WORSE = 5.0
"""Per cent of bits per byte that a text may lose, where nothing else is said."""

By = Literal["file", "line", "token"]


def parse_percent(text: object) -> float:
    """A share such as ``5`` or ``5%``.

    Raises:
        UsageError: it is none.
    """
    try:
        share = float(str(text).strip().removesuffix("%"))
    except ValueError:
        share = math.nan
    if not (math.isfinite(share) and share >= 0):
        raise UsageError(f"a share must be per cent, 0 or more, such as 5 or 5%, not {text!r}")
    return share


def _whole_variable(context: typer.Context, names: list[str]) -> list[str]:
    """The variable holds one name: a list would be split at blanks, which folders may have."""
    source: Any = context.get_parameter_source("model")
    return [os.environ[MODEL_VARIABLE]] if source.name == "ENVIRONMENT" else names


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFlags:
    """Which tokens count."""

    diff: Annotated[
        str | None,
        typer.Option(
            "--diff",
            metavar="REV",
            help="Score only lines that git says were added since REV; without FILES, of all "
            "files that changed.",
            rich_help_panel=INPUT,
        ),
    ] = None
    bos: Annotated[
        bool,
        typer.Option(
            "--bos/--no-bos",
            help="Put one <|endoftext|> before each text, so that its first token counts too.",
            rich_help_panel=WINDOWS,
        ),
    ] = True

    def check(self, texts: TextFlags, thresholds: "ThresholdFlags") -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: records are to have a history, or some lines are to be compared with all.
        """
        if self.diff is not None and texts.jsonl is not None:
            raise UsageError("--diff needs files, and --jsonl holds records")
        if self.diff is not None and thresholds.baseline is not None:
            raise UsageError("--diff scores some lines, and --baseline compares whole texts")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookFlags:
    """How scores are shown."""

    by: Annotated[
        By,
        typer.Option(
            "--by",
            metavar="file|line|token",
            help="What a row is of.",
            rich_help_panel=OUTPUT,
        ),
    ] = "file"
    heatmap: Annotated[
        bool,
        typer.Option(
            "--heatmap",
            help="Colour the texts on the terminal by what surprises the model.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write the coloured texts as a page, too.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    stats: Stats = False

    @property
    def tokens(self) -> bool:
        """Whether single tokens are looked at."""
        return self.by != "file" or self.heatmap or self.html is not None

    def check(self, speech: OutputFlags, output: Path | None) -> None:
        """Refuse what cannot be shown together.

        Raises:
            UsageError: two answers are asked for at one place.
        """
        if self.heatmap and (speech.json or self.by != "file"):
            other = "--json" if speech.json else f"--by {self.by}"
            raise UsageError(
                f"--heatmap and {other} do not go together", "--html FILE goes with either"
            )
        if self.html is not None and output is not None and self.html == output:
            raise UsageError("--html and --output name the same file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdFlags:
    """What is put up with; else the exit code is 4."""

    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            metavar="PPL",
            help="Fail if any text's perplexity is above PPL.",
            rich_help_panel=THRESHOLDS,
        ),
    ] = None
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="Fail if a text is worse than in FILE, which an earlier --json wrote.",
            rich_help_panel=THRESHOLDS,
        ),
    ] = None
    fail_if_worse: Annotated[
        float | None,
        typer.Option(
            "--fail-if-worse",
            metavar="PERCENT",
            parser=parse_percent,
            help="By more than so much of its bits per byte.",
            show_default="5",
            rich_help_panel=THRESHOLDS,
        ),
    ] = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: a limit is no number, or has nothing to limit.
        """
        if self.fail_above is not None and not self.fail_above > 0:
            raise UsageError(f"--fail-above must be above 0, not {self.fail_above:g}")
        if self.fail_if_worse is not None and self.baseline is None:
            raise UsageError("--fail-if-worse needs --baseline FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsFlags:
    """Which models, and how each is brought into memory: ``ModelFlags`` with more than one name."""

    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            envvar=MODEL_VARIABLE,
            metavar="NAME",
            callback=_whole_variable,
            help="A built-in name, a folder, or a Hub id (owner/name). Repeatable: one column "
            "each.",
            rich_help_panel=MODEL,
        ),
    ] = field(default_factory=lambda: ["mini"])
    revision: Revision = None
    offline: Offline = False
    device: Device = "auto"
    dtype: DtypeName = "auto"
    quantize: QuantizeName = "none"
    backend: BackendOption = "auto"
    attention: AttentionOption = "auto"
    threads: Threads = None

    def each(self) -> list[ModelFlags]:
        """The flags of each model."""
        shared = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "model"}
        return [ModelFlags(model=name, **shared) for name in self.model]

    def check(self, look: LookFlags, thresholds: ThresholdFlags) -> None:
        """Refuse what can be of one model only.

        Raises:
            UsageError: it is asked of several.
        """
        if len(self.model) == 1:
            return
        single = (
            (f"--by {look.by}", look.by != "file"),
            ("--heatmap", look.heatmap),
            ("--html", look.html is not None),
            ("--baseline", thresholds.baseline is not None),
        )
        for name, given in single:
            if given:
                raise UsageError(f"{name} is of one --model, not of {len(self.model)}")
