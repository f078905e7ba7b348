"""``bigcode bench --infill``: tasks and flags → a session → what was measured."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.bench_flags import HOLES, TaskFlags, WayFlags
from bigcode_cli.cli.decoding_flags import SAMPLES_TEMPERATURE
from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.output import Answer, open_answer
from bigcode_cli.cli.params import ModelFlags, OutputFlags
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.records import InfillRequest, Reporter

if TYPE_CHECKING:
    from bigcode_cli.bench.infill_run import Measured
    from bigcode_cli.bench.infill_tasks import InfillTask
    from bigcode_cli.engine.session import Session


def bench_infill(
    own: TaskFlags,
    way: WayFlags,
    save: Path | None,
    speech: OutputFlags,
    model: ModelFlags,
    *,
    as_json: bool,
) -> None:
    """Fill holes of which the right middle is known, and report how well and how fast.

    Raises:
        UsageError: flags that go together with none that is given.
        typer.Exit: tasks failed, which is told.
    """
    check_tasks(own)
    base = way.request(own.seed)
    with (
        TerminalReporter(speech.quiet) as report,
        open_answer(None, "utf-8") as answer,
        open_answer(save, "utf-8") if save else nullcontext() as file,
    ):
        tasks = open_tasks(own, report)
        if own.execute:
            _check_sandbox()
        session = open_session(model, report)
        measured = _measure(session, tasks, base, report, ablate=own.ablate, execute=own.execute)
        report.clear()
        content = _content(session, model, tasks, measured, own.seed)
        _show(content, answer, as_json=as_json)
        if file is not None:
            _save(content, measured, file)
    _tell_failures(measured)


def check_tasks(own: TaskFlags) -> None:
    """Refuse what would be silently without effect."""
    if own.infill is None and (own.execute or own.limit):
        raise UsageError(f"{'--execute' if own.execute else '--limit'} needs --infill FILE")
    if not own.infill_repo:
        for name, value in (("tasks", own.tasks), ("kind", own.kind), ("glob", own.glob)):
            if value:
                raise UsageError(f"--{name} needs --infill-repo DIR")


def open_tasks(own: TaskFlags, report: Reporter) -> list["InfillTask"]:
    """Those of the file, and those cut from the folders.

    Raises:
        InputError: there are none.
        UsageError: no kind has such a name.
    """
    from bigcode_cli.bench.infill_repo import draw_tasks, parse_kinds
    from bigcode_cli.bench.infill_tasks import read_tasks, spaced

    tasks: list[InfillTask] = []
    if own.infill is not None:
        tasks = read_tasks(own.infill)
        tasks = spaced(tasks, own.limit or len(tasks))
        if own.execute and (bare := [task.id for task in tasks if task.program("") is None]):
            raise InputError(f"{own.infill}: {bare[0]} has no test", "--execute needs one")
    if own.infill_repo:
        count = own.tasks or HOLES
        kinds = parse_kinds(own.kind)
        drawn = draw_tasks(own.infill_repo, count=count, seed=own.seed, kinds=kinds, glob=own.glob)
        if len(drawn) < count:
            report.note(f"the files hold {len(drawn):,} holes, not {count:,}")
        tasks += drawn
    return tasks


def _check_sandbox() -> None:
    if not sys.platform.startswith("linux"):
        raise UsageError("--execute needs Linux", "elsewhere nothing would protect this machine")
    from bigcode_cli.bench.sandbox import check_sandbox

    check_sandbox()


def _measure(
    session: "Session",
    tasks: Sequence["InfillTask"],
    base: InfillRequest,
    report: Reporter,
    *,
    ablate: bool,
    execute: bool,
) -> list["Measured"]:
    from bigcode_cli.bench import infill_run as runs

    variants = runs.ablation(base, temperature=SAMPLES_TEMPERATURE)
    chosen = variants if ablate else variants[:1]
    measured = [runs.measure(session, tasks, variant, report) for variant in chosen]
    return runs.execute(measured, tasks, report) if execute else measured


def _content(
    session: "Session",
    model: ModelFlags,
    tasks: Sequence["InfillTask"],
    measured: Sequence["Measured"],
    seed: int,
) -> dict[str, Any]:
    from bigcode_cli.bench.environment import environment
    from bigcode_cli.bench.infill_report import rows, settings

    return {
        "environment": environment(
            session.info,
            session.load_s,
            model=model.model,
            revision=model.revision,
            options=model.load_options(),
        ),
        "settings": {"seed": seed, **settings(tasks, measured)},
        "results": rows(measured),
    }


def _show(content: dict[str, Any], answer: Answer, *, as_json: bool) -> None:
    from bigcode_cli.bench.infill_report import table

    if as_json:
        answer.write_json(to_json(content))
    else:
        answer.write(table(content["results"]))


def _save(content: dict[str, Any], measured: Sequence["Measured"], file: Answer) -> None:
    from bigcode_cli.bench.infill_report import raw

    file.write(json.dumps({**content, "raw": raw(measured)}, indent=1) + "\n")


def _tell_failures(measured: Sequence["Measured"]) -> None:
    failed = [one for each in measured for one in each.outcomes if one.error is not None]
    if failed:
        print_error(f"{len(failed):,} tasks failed; the first, {failed[0].task}: {failed[0].error}")
        raise typer.Exit(1)
