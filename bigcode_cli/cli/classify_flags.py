"""The options that classify alone takes."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigcode_cli.cli.help import MODEL, OUTPUT
from bigcode_cli.cli.params import (
    AttentionOption,
    BackendOption,
    Device,
    DtypeName,
    ModelFlags,
    Offline,
    QuantizeName,
    Revision,
    Threads,
)
from bigcode_cli.errors import UsageError
from bigcode_cli.hub.tasks import list_tasks

if TYPE_CHECKING:
    from bigcode_cli.engine.protocol import ClassifierInfo

LABELS = "Labels"
TASKS = list_tasks()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFlags:
    """Which labels are told, and how."""

    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="K",
            min=1,
            help="Labels of a text to tell, the best first.",
            show_default="1; with --json all",
            rich_help_panel=LABELS,
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="P",
            help="Leave out labels and spans that score less.",
            rich_help_panel=LABELS,
        ),
    ] = None
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Print the text with [LABEL] in the place of each span.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page that shows the labels in the text, too.",
            rich_help_panel=OUTPUT,
        ),
    ] = None

    def check(self, output: Path | None) -> None:
        """Refuse what makes no sense with any model.

        Raises:
            UsageError: the threshold is no number, or two answers are to go to one file.
        """
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"--threshold must be a number, not {self.threshold}")
        if self.html is not None and output is not None and self.html == output:
            raise UsageError("--html and --output name the same file")

    def check_head(self, info: "ClassifierInfo") -> None:
        """Refuse what makes no sense with this model.

        Raises:
            UsageError: an option is for heads of another kind.
        """
        if self.redact and info.kind == "sequence":
            raise UsageError(
                "--redact replaces spans, and this model labels whole texts",
                "use a model with a token head",
            )
        if self.top_k is not None and info.kind == "token":
            raise UsageError(
                "--top-k is for whole texts, and this model labels spans",
                "--threshold leaves out those that score less",
            )
        is_probability = info.activation != "none"
        if self.threshold is not None and is_probability and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold must be from 0 to 1, not {self.threshold}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFlags:
    """Which classifier, and how it is brought into memory.

    ``head`` is no ``model``, nor is its revision ``revision``: what is set for the commands that
    complete is no classifier.
    """

    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help=": ".join(["A built-in head", *([", ".join(TASKS)] if TASKS else [])]) + ".",
            rich_help_panel=MODEL,
        ),
    ] = None
    head: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A folder or a Hub id (owner/name) of a model with a sequence or a token head; "
            "BIGCODE_MODEL does not apply.",
            rich_help_panel=MODEL,
        ),
    ] = None
    head_revision: Revision = None
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="NAME",
            help="The model that a folder made by train head stands on, where it must be named.",
            rich_help_panel=MODEL,
        ),
    ] = None
    offline: Offline = False
    device: Device = "auto"
    dtype: DtypeName = "auto"
    quantize: QuantizeName = "none"
    backend: BackendOption = "auto"
    attention: AttentionOption = "auto"
    threads: Threads = None

    def check(self) -> None:
        """Refuse anything but one classifier.

        Raises:
            UsageError: none is named, or two are, or a revision of what has none.
        """
        if self.task is not None and self.head is not None:
            raise UsageError("--task and --model both name a classifier")
        if self.task is None and self.head is None:
            raise UsageError(
                "no classifier",
                "name a folder or a Hub id with --model, or a built-in head with --task"
                + (f": {', '.join(TASKS)}" if TASKS else ""),
            )
        if self.task is not None and self.head_revision is not None:
            raise UsageError("--revision is for models on the Hub, and --task is built in")
        if self.task is not None and self.base is not None:
            raise UsageError("--base is for folders, and --task is built in")

    @property
    def flags(self) -> ModelFlags:
        """The same as of any other model."""
        shared = {name: getattr(self, name) for name in self.__slots__ if name in _SHARED}
        name = self.head or self.task or ""
        return ModelFlags(model=name, revision=self.head_revision, **shared)


_SHARED = {field.name for field in fields(ModelFlags)}
