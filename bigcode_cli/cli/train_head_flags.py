"""The options of ``bigcode train head``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigcode_cli.cli.inputs import check_encoding
from bigcode_cli.cli.params import Device, Encoding, ModelName, Offline, Revision
from bigcode_cli.errors import UsageError

DATA, HEAD = "Data", "Head"
HELD_OUT = 0.1
RANK = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadDataFlags:
    """What is learned from, and what it is measured on."""

    validate: Annotated[
        Path | None,
        typer.Option(
            "--validate",
            metavar="FILE",
            help="Measure on these texts, and learn from all of DATA.",
            rich_help_panel=DATA,
        ),
    ] = None
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            metavar="SHARE",
            help="Measure on this share of DATA, and do not learn from it; 0 measures nothing.",
            show_default=str(HELD_OUT),
            rich_help_panel=DATA,
        ),
    ] = None
    encoding: Encoding = "utf-8"

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: no such share, or no such encoding.
        """
        check_encoding(self.encoding)
        if self.validate is not None and self.hold_out is not None:
            raise UsageError("--validate and --hold-out both say what to measure on")
        if self.hold_out is not None and not 0 <= self.hold_out < 1:
            raise UsageError(f"--hold-out must be from 0 to below 1, not {self.hold_out}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlanFlags:
    """How the head is trained."""

    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label", help="Any number of labels may be right.", rich_help_panel=HEAD
        ),
    ] = False
    tune: Annotated[
        Literal["head", "norms", "low-rank"],
        typer.Option(
            "--tune",
            metavar="head|norms|low-rank",
            help="What is trained: the head alone, norms and biases too, or a low-rank change to "
            "each layer too.",
            rich_help_panel=HEAD,
        ),
    ] = "head"
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank",
            metavar="N",
            min=1,
            help="Of low-rank changes.",
            show_default=str(RANK),
            rich_help_panel=HEAD,
        ),
    ] = None
    unfreeze: Annotated[
        int,
        typer.Option(
            "--unfreeze",
            metavar="N",
            help="Train the last N layers too, at a tenth of the rate; -1: the whole model.",
            rich_help_panel=HEAD,
        ),
    ] = 0
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            min=1,
            help="Times that each text is seen.",
            show_default="20; 3 with --tune or --unfreeze",
            rich_help_panel=HEAD,
        ),
    ] = None
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="N",
            help="Train no longer than that, if the epochs take longer.",
            show_default=False,
            rich_help_panel=HEAD,
        ),
    ] = None
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", metavar="N", min=1, help="Windows of a step.", rich_help_panel=HEAD
        ),
    ] = 16
    learning_rate: Annotated[
        float,
        typer.Option(
            "--learning-rate",
            metavar="RATE",
            help="Of the head, at its peak.",
            rich_help_panel=HEAD,
        ),
    ] = 3e-3
    class_weights: Annotated[
        Literal["none", "balanced"],
        typer.Option(
            "--class-weights",
            metavar="none|balanced",
            help="balanced: the rarer a label, the more it weighs.",
            rich_help_panel=HEAD,
        ),
    ] = "none"
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            metavar="N",
            min=2,
            help="Tokens of a window.",
            show_default="all that the model takes",
            rich_help_panel=HEAD,
        ),
    ] = None
    read_twice: Annotated[
        bool,
        typer.Option(
            "--read-twice",
            help="Show each window to the model twice: it labels a token knowing what follows.",
            rich_help_panel=HEAD,
        ),
    ] = False
    seed: Annotated[
        int,
        typer.Option(
            "--seed", metavar="N", min=0, help="Of all that is drawn.", rich_help_panel=HEAD
        ),
    ] = 0
    storage: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(
            "--storage",
            metavar="float32|bfloat16",
            help="How weights are written.",
            show_default="float32; bfloat16 for low-rank changes",
            rich_help_panel=HEAD,
        ),
    ] = None
    full: Annotated[
        bool,
        typer.Option("--full", help="Write a whole model.", rich_help_panel=HEAD),
    ] = False

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: a rank of nothing.
        """
        if self.rank is not None and self.tune != "low-rank":
            raise UsageError("--rank is for --tune low-rank")

    def stored(self) -> Literal["float32", "bfloat16"]:
        """How the folder's weights lie on disk."""
        if self.storage is not None:
            return self.storage
        return "bfloat16" if self.tune == "low-rank" and not self.full else "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadModelFlags:
    """What the head is for, and where it is trained."""

    model: ModelName = "mini"
    revision: Revision = None
    offline: Offline = False
    device: Device = "auto"
