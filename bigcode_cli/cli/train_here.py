"""``bigcode train here``: the model tuned to one folder's code, within minutes on a CPU."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.output import Answer, open_answer
from bigcode_cli.cli.params import OutputFlags, spread
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.train_display import TrainingDisplay
from bigcode_cli.cli.train_here_flags import HereFlags, HereModelFlags
from bigcode_cli.errors import ThresholdError, UsageError

if TYPE_CHECKING:
    from bigcode_cli.bench.adaptation import Change, Quality
    from bigcode_cli.bench.infill_tasks import InfillTask
    from bigcode_cli.records import ModelFolder
    from bigcode_cli.training.adapt import Step
    from bigcode_cli.training.here import Split

SPARE_S = 10.0
"""Kept for loading, saving, and a machine that is slower the second time."""

RECORD = "tuned.json"
"""What a saved model says of how it was made and what it is worth."""

EXAMPLES = """\b
Examples:
  bigcode train here
  bigcode train here ~/src/flask --name flask --minutes 5
  bigcode infill app.py:12 --model flask

A tenth of the files is held out: nothing is learned from them, and no file that
nearly equals one of them is learned from either. They are measured before and
after: bits per byte as bigcode score has it, and lines that are filled in
exactly. The figures are those of the model as it is saved.

What is not better on the held-out files is not kept, and the exit code is 4:
their bits per byte must have fallen, and the 95 % interval of the difference,
paired over the files, must lie below 0. Ctrl-C keeps nothing.

The model is saved in $BIGCODE_HOME/models, by default in
~/.local/share/bigcode/models, and holds only what differs from its base. All
that takes a model takes it by its name; bigcode models list, show, export and
remove know it too. In a pipe the lines are bits_per_byte and exact_infills,
each with the figure BEFORE and AFTER, and tabs between them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What one call is asked for, once all of it is found."""

    name: str
    folder: Path
    base: "ModelFolder"
    split: "Split"
    tasks: "Sequence[InfillTask]"
    flags: HereFlags
    model: HereModelFlags
    deadline: float


@spread
def here(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="What to tune to.", show_default=True)
    ] = Path(),
    *,
    flags: HereFlags,
    model: HereModelFlags,
    speech: OutputFlags,
) -> None:
    """Tune the model to the code of a folder, and save it under a name for --model.

    It is held to files that it did not learn from, and not kept unless it is better there.
    """
    deadline = time.monotonic() + 60 * flags.minutes
    flags.check()
    with TerminalReporter(speech.quiet) as report, open_answer(None, "utf-8") as answer:
        try:
            report.progress("loading", 0, None, "")  # the imports below are what takes long
            plan = _plan(folder, flags, model, deadline, report)
            report.progress("loading", 1, 1, "")
            _run(plan, report, answer, speech)
        except KeyboardInterrupt:
            report.clear()
            report.note("interrupted: nothing was saved")
            raise


def _plan(
    folder: Path,
    flags: HereFlags,
    model: HereModelFlags,
    deadline: float,
    report: TerminalReporter,
) -> _Plan:
    """Find all that is needed; what cannot work fails here, before anything takes long."""
    from bigcode_cli.bench.infill_repo import draw_tasks
    from bigcode_cli.hub.keep import check_name
    from bigcode_cli.hub.resolve import resolve
    from bigcode_cli.training.data.near_duplicates import check_installed
    from bigcode_cli.training.here import check_base, default_name, split_folder

    check_installed()
    name = flags.name if flags.name is not None else default_name(folder)
    check_name(name, replace=flags.force)
    split = split_folder(folder, flags.glob or ["*.py"], seed=flags.seed)
    base = resolve(model.model, revision=model.revision, offline=model.offline, report=report)
    check_base(base)
    names = [file.name for file in split.measured]
    tasks = (
        draw_tasks([folder], count=flags.holes, seed=flags.seed, kinds=["line"], names=names)
        if flags.holes
        else []
    )
    return _Plan(
        name=name,
        folder=folder,
        base=base,
        split=split,
        tasks=tasks,
        flags=flags,
        model=model,
        deadline=deadline,
    )


def _run(plan: _Plan, report: TerminalReporter, answer: Answer, speech: OutputFlags) -> None:
    """Measure, train, save, measure what was saved, and keep it if it is better.

    Raises:
        ThresholdError: it is not.
    """
    from bigcode_cli.bench.adaptation import Change
    from bigcode_cli.hub.keep import draft
    from bigcode_cli.records import ModelFolder

    split = plan.split
    measured = len(split.measured)
    report.note(
        f"{len(split.learned) + len(split.held_out):,} files, {len(split.held_out):,} held out"
        + (f", {measured:,} of them measured" if measured < len(split.held_out) else "")
        + (f"; {split.left_out:,} left out" if split.left_out else "")
    )
    with draft(plan.name, replace=plan.flags.force) as made:
        began = time.monotonic()
        before = _measure(plan, plan.base, report)
        took = time.monotonic() - began
        last = _train(plan, made.folder, took, report, quiet=speech.quiet)
        base = plan.base
        tuned = ModelFolder(name=plan.name, path=made.folder, base=base.path)
        change = Change(before, _measure(plan, tuned, report))
        found = _object(plan, change, last)
        (made.folder / RECORD).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        path = made.keep() if change.is_better else None
    report.clear()
    if speech.json:
        answer.write_json(to_json({**found, "kept": change.is_better, "path": path and str(path)}))
    else:
        _write(answer, change)
    if path is None:
        raise ThresholdError(
            f"{plan.name} is not better on the held-out files, and was not kept",
            "more files or more --minutes may help",
        )
    report.note(f"saved as {plan.name}: bigcode infill --model {plan.name} …")


def _measure(plan: _Plan, folder: "ModelFolder", report: TerminalReporter) -> "Quality":
    from bigcode_cli.bench.adaptation import measure
    from bigcode_cli.engine.session import Session
    from bigcode_cli.records import LoadOptions

    options = LoadOptions(device=plan.model.device, threads=plan.model.threads)
    session = Session.open(folder, options, report=report)
    return measure(session, [file.text for file in plan.split.measured], plan.tasks, report)


def _train(
    plan: _Plan, target: Path, measuring_s: float, report: TerminalReporter, *, quiet: bool
) -> "Step":
    """Train in the time that is left for it, and write what came of it; the last step.

    Raises:
        UsageError: there is no time left.
    """
    from bigcode_cli.text.tokenizer import Tokenizer
    from bigcode_cli.training.adapt import Adapter, settings_for
    from bigcode_cli.training.feed import load_vocabulary
    from bigcode_cli.training.here import load_whole, save_tuned

    left = plan.deadline - time.monotonic() - measuring_s - SPARE_S
    if left <= 0:
        raise UsageError(
            f"--minutes {plan.flags.minutes:g} leave no time to train: measuring alone takes "
            f"{2 * measuring_s + SPARE_S:.0f} s",
            "give more --minutes, or fewer --holes",
        )
    folder, model = plan.base.tokenizer_path, plan.model
    loaded = load_whole(plan.base, model.device, model.threads, report)
    chosen = settings_for(loaded.config.parameter_count())
    settings = replace(chosen, minutes=left / 60, seed=plan.flags.seed)
    adapter = Adapter(
        loaded, Tokenizer.load(folder), load_vocabulary(folder), plan.split.texts, settings
    )
    with TrainingDisplay(report, quiet=quiet) as display:
        last = adapter.run(lambda step: display.show(_line(step)))
    save_tuned(loaded, settings, plan.base, target)
    return last


def _line(step: "Step") -> dict[str, Any]:
    """A step as the display takes it."""
    rate = round(step.tokens / step.seconds) if step.seconds > 0 else None
    return {
        "step": step.step,
        "position": step.position,
        "loss": step.loss,
        "tokens_per_s": rate,
        "seconds": step.seconds,
    }


def _object(plan: _Plan, change: "Change", last: "Step") -> dict[str, Any]:
    """What came of it, as other programs read it."""
    low, high = change.interval
    return {
        "name": plan.name,
        "base": plan.base.name,
        "folder": str(plan.folder.resolve()),
        "seed": plan.flags.seed,
        "files": len(plan.split.learned) + len(plan.split.held_out),
        "held_out": sorted(file.name for file in plan.split.held_out),
        "measured": [file.name for file in plan.split.measured],
        "before": _figures(change.before),
        "after": _figures(change.after),
        "change": change.share,
        "difference_95": [low, high],
        "training": {
            "steps": last.step,
            "tokens": last.tokens,
            "epochs": last.epochs,
            "seconds": last.seconds,
        },
    }


def _figures(quality: "Quality") -> dict[str, Any]:
    return {
        "bits_per_byte": quality.bits_per_byte,
        "exact_infills": sum(quality.exact),
        "infills": len(quality.exact),
    }


def _write(answer: Answer, change: "Change") -> None:
    """The figures: aligned on a terminal, with tabs in a pipe."""
    before, after = change.before, change.after
    bits = [f"{quality.bits_per_byte:.4f}" for quality in (before, after)]
    exact = [f"{sum(quality.exact)}/{len(quality.exact)}" for quality in (before, after)]
    if not answer.terminal:
        answer.write("\t".join(["bits_per_byte", *bits]) + "\n")
        answer.write("\t".join(["exact_infills", *exact]) + "\n")
        return
    low, high = change.interval
    answer.write(f"{'held-out files':16}{'before':>10}{'after':>10}\n")
    answer.write(
        f"{'bits per byte':16}{bits[0]:>10}{bits[1]:>10}   {change.share:+.1%} "
        f"(difference {low:+.4f} to {high:+.4f}, 95 %)\n"
    )
    answer.write(f"{'exact infills':16}{exact[0]:>10}{exact[1]:>10}\n")
