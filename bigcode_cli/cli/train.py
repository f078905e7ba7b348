"""``bigcode train``: models of one's own."""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from bigcode_cli.cli.params import Device, OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter, is_terminal
from bigcode_cli.cli.train_head import EXAMPLES as HEAD_EXAMPLES
from bigcode_cli.cli.train_head import head

if TYPE_CHECKING:
    from rich.live import Live

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

DATA, PLAN = "Data", "Plan"
SECONDS_BETWEEN_LINES = 20.0
INTERRUPTED_EXIT_CODE = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlags:
    """What is learned from."""

    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Installed packages, one package, or a folder of packages (repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="PACKAGE",
            help="Leave a package out, beside the held-out ones (repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    exclude_like: Annotated[
        list[Path] | None,
        typer.Option(
            "--exclude-like",
            metavar="DIR",
            help="Leave out files that share text with those in DIR (repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    validate: Annotated[
        Path | None,
        typer.Option(
            "--validate",
            metavar="DIR",
            help="Report bits per byte on DIR, which holds a folder for each package.",
            rich_help_panel=DATA,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlags:
    """How long, from where and on what."""

    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from --out's checkpoint.", rich_help_panel=PLAN),
    ] = False
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            metavar="MODEL",
            help="Begin with a model folder's weights and tokenizer.",
            rich_help_panel=PLAN,
        ),
    ] = None
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of all that is drawn.", rich_help_panel=PLAN)
    ] = 0
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="M",
            help="Train for M minutes in all, instead of as long as the recipe says.",
            rich_help_panel=PLAN,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Train for N steps in all, instead of as long as the recipe says.",
            rich_help_panel=PLAN,
        ),
    ] = None
    pause_after: Annotated[
        float | None,
        typer.Option(
            "--pause-after",
            metavar="M",
            help="Save and stop M minutes from now, to be resumed.",
            rich_help_panel=PLAN,
        ),
    ] = None
    device: Device = "auto"
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=0,
            help="Processes that prepare text.",
            show_default="one less than there are cores",
            rich_help_panel=PLAN,
        ),
    ] = None


@app.callback()
def train() -> None:
    """Train models of your own."""


@app.command(
    epilog="\b\nbigcode train lm recipe.toml --data src --out run"
    "\nbigcode train lm recipe.toml --out run --resume"
)
@spread
def lm(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="TOML: model, tokenizer, training.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Log, checkpoint and the model itself (DIR/model)."
        ),
    ],
    data: DataFlags,
    plan: PlanFlags,
    output: OutputFlags,
) -> None:
    """Train a language model: data, tokenizer, weights, model folder.

    Only packages whose licence is known and permissive are learned from; manifest.json says which.
    """
    started = time.monotonic()
    from bigcode_cli.training.lm import TrainRequest, train_lm
    from bigcode_cli.training.recipe import Recipe
    from bigcode_cli.training.workers import spare_cores

    request = TrainRequest(
        recipe=Recipe.load(recipe, steps=plan.steps, minutes=plan.minutes),
        data=tuple(data.data or ()),
        out=out,
        seed=plan.seed,
        resume=plan.resume,
        init=plan.init,
        validate=data.validate,
        exclude=tuple(data.exclude or ()),
        exclude_like=tuple(data.exclude_like or ()),
        pause_after=plan.pause_after,
        device=plan.device,
        workers=spare_cores() if plan.workers is None else plan.workers,
        started=started,
    )
    with (
        TerminalReporter(output.quiet) as report,
        _Interrupt() as interrupt,
        _Display(report, quiet=output.quiet) as display,
    ):
        ending = train_lm(
            request, report=report, observer=display.show, should_stop=interrupt.asked
        )
    if ending == "interrupted":
        raise typer.Exit(INTERRUPTED_EXIT_CODE)
    if ending == "finished":
        typer.echo(out / "model")
    else:
        report.note("paused; --resume goes on")


app.command(epilog=HEAD_EXAMPLES)(head)


class _Interrupt:
    """Ctrl-C asks for a stop after the step; a second one stops at once."""

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


class _Display:
    """One live line on a terminal; elsewhere a line now and then."""

    def __init__(self, report: TerminalReporter, *, quiet: bool) -> None:
        self._report = report
        self._quiet = quiet
        self._live: Live | None = None
        self._told = -SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, line: dict[str, Any]) -> None:
        """One line of the log."""
        if self._quiet:
            return
        if "bits_per_byte" in line:
            found = ", ".join(f"{name} {bits:.3f}" for name, bits in line["bits_per_byte"].items())
            self._report.note(f"step {line['step']}: bits per byte {found}")
            return
        text = _describe(line)
        if is_terminal(sys.stderr):
            self._show_live(text)
        elif time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self._report.note(text)

    def _show_live(self, text: str) -> None:
        from rich.text import Text

        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4)
            self._live.start()
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))


def _describe(line: dict[str, Any]) -> str:
    """A line of the log for people: how far, how good, how fast, how long still."""
    parts = [f"step {line['step']:,}", f"{line['position']:.1%}", f"loss {line['loss']:.4f}"]
    rate = line["tokens_per_s"]
    if rate:
        parts.append(f"{rate:,} tokens/s")
    if line["position"] > 0:
        left = line["seconds"] * (1 / line["position"] - 1)
        parts.append(f"{left / 60:.1f} min left")
    return ", ".join(parts)
