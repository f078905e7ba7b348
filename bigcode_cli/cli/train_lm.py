"""``bigcode train lm``: a language model from a recipe and folders of source."""

import time
from pathlib import Path
from typing import Annotated

import typer

from bigcode_cli.cli.params import OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.train_display import INTERRUPTED_EXIT_CODE, Interrupt, TrainingDisplay
from bigcode_cli.cli.train_lm_flags import DataFlags, PlanFlags

EXAMPLES = """\b
bigcode train lm recipe.toml --data src --out run
bigcode train lm recipe.toml --out run --resume
"""


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
        Interrupt() as interrupt,
        TrainingDisplay(report, quiet=output.quiet) as display,
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
