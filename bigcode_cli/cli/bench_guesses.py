"""``bigcode bench --infill-repo DIR --lookup``: tasks → a session that guesses → what it gains."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.bench_flags import TaskFlags, WayFlags
from bigcode_cli.cli.bench_infill import check_tasks, open_tasks
from bigcode_cli.cli.decoding_flags import SpeculationFlags
from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.output import open_answer
from bigcode_cli.cli.params import ModelFlags, OutputFlags
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.errors import UsageError

ROUNDS = 2


def bench_guesses(
    own: TaskFlags,
    way: WayFlags,
    guesses: SpeculationFlags,
    rounds: int | None,
    save: Path | None,
    speech: OutputFlags,
    model: ModelFlags,
    *,
    as_json: bool,
) -> None:
    """Fill holes with and without guessing ahead, and report what that gains.

    Raises:
        UsageError: flags that go together with none that is given.
        typer.Exit: tasks failed, which is told.
    """
    check_tasks(own)
    _check(own, way)
    template, turns = way.request(own.seed), rounds or ROUNDS
    with (
        TerminalReporter(speech.quiet) as report,
        open_answer(None, "utf-8") as answer,
        open_answer(save, "utf-8") if save else nullcontext() as file,
    ):
        tasks = open_tasks(own, report)
        session = open_session(model, report, guesses)
        from bigcode_cli.bench.environment import environment
        from bigcode_cli.bench.guess_report import (
            guess_raw,
            guess_rows,
            guess_settings,
            guess_table,
        )
        from bigcode_cli.bench.guess_run import measure_guesses

        pairs = measure_guesses(session, tasks, template, rounds=turns, report=report)
        report.clear()
        content: dict[str, Any] = {
            "environment": environment(
                session.info,
                session.load_s,
                model=model.model,
                revision=model.revision,
                options=model.load_options(),
            ),
            "settings": {"seed": own.seed, **guess_settings(tasks, template, turns)},
            "results": guess_rows(pairs, guesses.draft or "lookup"),
        }
        if as_json:
            answer.write_json(to_json(content))
        else:
            answer.write(guess_table(content["results"]))
        if file is not None:
            file.write(json.dumps({**content, "raw": guess_raw(pairs)}, indent=1) + "\n")
    failed = [pair for pair in pairs if pair.error is not None]
    if failed:
        print_error(
            f"{len(failed):,} tasks failed; the first, {failed[0].task.id}: {failed[0].error}"
        )
        raise typer.Exit(1)


def _check(own: TaskFlags, way: WayFlags) -> None:
    """Refuse what is not compared here."""
    for name, is_given in (
        ("execute", own.execute),
        ("ablate", own.ablate),
        ("candidates", way.candidates > 1),
    ):
        if is_given:
            raise UsageError(
                f"--{name} does not go with --lookup and --draft",
                "guesses change no middle: measure its quality without them",
            )
