"""``bigcode train lm``: a language model from a recipe and folders of source."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigcode_cli.cli.params import OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.train_display import INTERRUPTED_EXIT_CODE, Interrupt, TrainingDisplay
from bigcode_cli.cli.train_lm_flags import DataFlags, PlanFlags
from bigcode_cli.errors import UsageError

if TYPE_CHECKING:
    from bigcode_cli.training.data.corpus import CorpusOptions
    from bigcode_cli.training.lm import TrainRequest
    from bigcode_cli.training.loop import Ending

EXAMPLES = """\b
bigcode train lm recipe.toml --data src --out run
bigcode train lm recipe.toml --out run --resume
bigcode train lm --init mini --data ~/src/project --any-licence --minutes 30 --out run
bigcode train lm recipe.toml --jsonl code.jsonl.gz --data 'src/**/*.py' --hold-out 0.05 --out run
torchrun --nproc-per-node 4 -m bigcode_cli train lm recipe.toml --data src --out run
"""


@spread
def lm(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPE",
            help="TOML: model, tokenizer, objective, training, export; with --init it may be left "
            "out.",
            show_default=False,
        ),
    ] = None,
    *,
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

    Only packages whose licence is known and permissive are learned from, unless --any-licence;
    manifest.json says which. Left out are generated and minified files, data, files with secrets,
    and what is nearly the same as another.
    Ctrl-C saves after the step that is under way, and --resume goes on from there, bit for bit.
    """
    with TerminalReporter(output.quiet) as report:
        request = _request(recipe, out, data, plan, report)
        ending = _run(request, report, quiet=output.quiet)
        if ending == "interrupted":
            raise typer.Exit(INTERRUPTED_EXIT_CODE)
        if ending == "paused":
            report.note("paused; --resume goes on")
    if ending == "finished" and os.environ.get("RANK", "0") == "0":
        typer.echo(out / "model")


def _request(
    recipe: Path | None, out: Path, data: DataFlags, plan: PlanFlags, report: TerminalReporter
) -> "TrainRequest":
    """What is asked for, checked as far as that is possible without reading any data."""
    started = time.monotonic()
    report.progress("loading", 0, None, "")  # the imports below are what takes long
    from bigcode_cli.hub.resolve import resolve
    from bigcode_cli.model.config import GPTBigCodeConfig
    from bigcode_cli.training.lm import TrainRequest
    from bigcode_cli.training.recipe import Recipe
    from bigcode_cli.training.workers import spare_cores

    init = config = None
    if plan.init is not None:
        init = resolve(plan.init, revision=plan.revision, offline=plan.offline, report=report)
        config = GPTBigCodeConfig.from_file(init.path)
    elif plan.revision is not None:
        raise UsageError("--revision is of the model that --init names")
    read = Recipe.load(
        recipe, init=config, fim_rate=plan.fim_rate, steps=plan.steps, minutes=plan.minutes
    )
    report.clear()
    return TrainRequest(
        recipe=read,
        data=tuple(data.data or ()),
        out=out,
        seed=plan.seed,
        resume=plan.resume,
        init=init,
        validate=data.validate,
        corpus=_corpus_options(data, plan.seed),
        pause_after=plan.pause_after,
        device=plan.device,
        workers=spare_cores() if plan.workers is None else plan.workers,
        started=started,
    )


def _corpus_options(data: DataFlags, seed: int) -> "CorpusOptions":
    from bigcode_cli.training.data.corpus import CorpusOptions
    from bigcode_cli.training.data.hold_out import HoldOut
    from bigcode_cli.training.data.packages import GLOBS

    if data.split is not None and data.hold_out is None:
        raise UsageError("--split says what --hold-out keeps together", "add --hold-out 0.05")
    if data.hold_out is not None and data.keep_near_duplicates:
        raise UsageError(
            "--hold-out leaves near-duplicates out, that none is on both sides",
            "drop --keep-near-duplicates",
        )
    hold_out = None
    if data.hold_out is not None:
        hold_out = HoldOut(data.hold_out, data.split or "package", seed)
    return CorpusOptions(
        jsonl=tuple(data.jsonl or ()),
        globs=tuple(data.glob or GLOBS),
        any_licence=data.any_licence,
        exclude=tuple(data.exclude or ()),
        exclude_like=tuple(data.exclude_like or ()),
        keep_near_duplicates=data.keep_near_duplicates,
        hold_out=hold_out,
    )


def _run(request: "TrainRequest", report: TerminalReporter, *, quiet: bool) -> "Ending":
    from bigcode_cli.training.lm import train_lm

    with Interrupt() as interrupt, TrainingDisplay(report, quiet=quiet) as display:
        return train_lm(request, report=report, observer=display.show, should_stop=interrupt.asked)
