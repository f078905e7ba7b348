"""``bigcode bench`` for speed: flags → cases and sides → rows → a table, a file, a picture."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigcode_cli.cli import bench_speed_flags as defaults
from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.bench_speed_flags import SpeedFlags
from bigcode_cli.cli.bench_speed_table import facts, markdown, show_table
from bigcode_cli.cli.output import Answer, open_answer
from bigcode_cli.cli.params import ModelFlags, OutputFlags
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.cli.replacement import Replacement
from bigcode_cli.errors import InputError, ThresholdError, UsageError
from bigcode_cli.records import Reporter

if TYPE_CHECKING:
    from bigcode_cli.bench.speed_run import Bench

Content = dict[str, Any]


def bench_speed(
    flags: SpeedFlags,
    format_: str,
    save: Path | None,
    speech: OutputFlags,
    model: ModelFlags,
) -> None:
    """Time a model, and tell it; what was measured before a Ctrl-C is told too.

    Raises:
        ThresholdError: it is slower than it may be.
        KeyboardInterrupt: after what is there was printed.
    """
    flags.check()
    old = _read_old(flags.compare) if flags.compare is not None else None
    with (
        TerminalReporter(speech.quiet) as report,
        open_answer(None, "utf-8") as answer,
        open_answer(save, "utf-8") if save else nullcontext() as file,
        _open_picture(flags.plot) as picture,
    ):
        bench = _prepare(flags, model, report, old)
        interrupt = None
        try:
            bench.run(report)
        except KeyboardInterrupt as pressed:
            interrupt = pressed
        report.clear()
        content = bench.content(is_interrupted=interrupt is not None)
        if old is not None:
            content["compared"] = _compared(old, content, flags.compare, report)
        if content["results"]:
            _show(content, answer, format_)
            if file is not None:
                file.write(json.dumps(content, indent=1) + "\n")
            if picture is not None:
                picture(content)
    if interrupt is not None:
        raise interrupt
    _judge(content, flags)


def _prepare(
    flags: SpeedFlags, model: ModelFlags, report: Reporter, old: Content | None
) -> "Bench":
    """What is to be timed, in memory; what cannot be is refused before it is loaded."""
    options = model.load_options()
    label = f"loading {flags.shape or model.model}"
    report.progress(label, 0, None, "")  # the imports below are what takes long
    from bigcode_cli.bench.cases import plan
    from bigcode_cli.bench.shapes import Subject
    from bigcode_cli.bench.speed_rows import is_comparable
    from bigcode_cli.bench.speed_run import Bench, parse_peers
    from bigcode_cli.hub.resolve import resolve

    if flags.shape is None:
        folder = resolve(model.model, revision=model.revision, offline=model.offline, report=report)
        subject = Subject.of(folder)
    else:
        subject = Subject.shape(flags.shape)
    sizes = _sizes(flags, subject.config.n_positions)
    prompts, depths, batches = sizes["prompts"], sizes["depths"], sizes["batches"]
    cases = plan(
        **sizes,
        one_at_a_time=bool(flags.sweep),
        end_to_end=subject.folder is not None and not flags.sweep,
        n_positions=subject.config.n_positions,
    )
    if any(prompts) and any(depths) and max(batches) > 1 and not flags.sweep:
        report.note("prompts at a depth are timed of one sequence alone")
    if old is not None and not {case.label for case in cases} & {
        row["test"] for row in old["results"] if is_comparable(row)
    }:
        raise UsageError(
            f"{flags.compare} has none of these cases", "give the same -p, -n, -d and -b"
        )
    peers = parse_peers(flags.against)
    bench = Bench.open(
        subject,
        cases,
        peers,
        options,
        revision=model.revision,
        repetitions=flags.repetitions or _repetitions(flags),
        report=report,
    )
    report.progress(label, 1, 1, "")
    return bench


def _repetitions(flags: SpeedFlags) -> int:
    return defaults.SWEEP_REPETITIONS if flags.sweep else defaults.REPETITIONS


def _sizes(flags: SpeedFlags, n_positions: int) -> dict[str, list[int]]:
    """What is asked for, else what a sweep or a plain run takes, as ``plan`` calls it."""
    from bigcode_cli.bench.cases import borders

    gens = defaults.SWEEP_GEN if flags.sweep else defaults.N_GEN
    found = {
        "prompts": flags.sizes("n-prompt", flags.n_prompt, defaults.N_PROMPT),
        "gens": flags.sizes("n-gen", flags.n_gen, gens),
        "scores": flags.sizes("n-score", flags.n_score, defaults.N_SCORE),
        "depths": flags.sizes("n-depth", flags.n_depth, defaults.N_DEPTH),
        "batches": flags.sizes("batch-size", flags.batch_size, defaults.BATCH_SIZE, least=1),
    }
    if not flags.sweep:
        return found
    taken = max(found["gens"]) + 1
    if flags.n_prompt is None:
        found["prompts"] = borders(min(defaults.SWEEP_PROMPT, n_positions), first=16)
    if flags.n_depth is None:
        most = max(min(defaults.SWEEP_DEPTH, n_positions - taken), 0)
        found["depths"] = list(dict.fromkeys([0, *borders(most, first=64, clear=taken)]))
    if flags.batch_size is None:
        found["batches"] = borders(defaults.SWEEP_BATCH, first=2)
    return found


def _show(content: Content, answer: Answer, format_: str) -> None:
    match format_:
        case "json":
            answer.write_json(to_json(content))
        case "jsonl":
            for row in content["results"]:
                answer.write_json(to_json(row))
        case "csv":
            answer.write(_csv(content["results"]))
        case "md":
            answer.write(f"{markdown(content)}\n{facts(content)}\n")
        case _:
            show_table(content, answer)


def _csv(rows: Sequence[Content]) -> str:
    """All that is one value a row; samples and intervals are for JSON."""
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if not isinstance(value, list | dict)
    )
    told = io.StringIO()
    writer = csv.DictWriter(told, list(names), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return told.getvalue()


@contextmanager
def _open_picture(path: Path | None) -> Iterator[Callable[[Content], None] | None]:
    """What draws an answer into a file; what could not be drawn or written fails before.

    Raises:
        UsageError: the plotting library is missing.
        OutputError: the file cannot be written.
    """
    if path is None:
        yield None
        return
    from bigcode_cli.bench.speed_plot import draw, require_matplotlib

    require_matplotlib()
    replacement = Replacement(path)

    def show(content: Content) -> None:
        replacement.stream.write(draw(content["results"], facts(content), path.suffix))
        replacement.commit()

    try:
        yield show
    finally:
        replacement.discard()


def _read_old(path: Path) -> Content:
    """An earlier answer.

    Raises:
        InputError: it is missing, or none.
    """
    from bigcode_cli.bench.speed_rows import is_comparable

    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON", "it is what bench --save wrote") from error
    rows = old.get("results") if isinstance(old, dict) else None
    if (
        not isinstance(rows, list)
        or not all(isinstance(row, dict) for row in rows)
        or not any(is_comparable(row) for row in rows)
    ):
        raise InputError(f"{path} holds no speeds", "it is what bench --save wrote")
    found: Content = old
    return found


def _compared(old: Content, content: Content, path: Path | None, report: Reporter) -> list[Content]:
    """Every case that both have, and what makes them hard to compare."""
    from bigcode_cli.bench.speed_rows import changes, differences

    for told in differences(old.get("environment"), content["environment"]):
        report.note(f"{path} was measured with another {told}")
    found = changes(old["results"], content["results"])
    return [asdict(change) for change in found]


def _judge(content: Content, flags: SpeedFlags) -> None:
    """Tell what failed, then what is slower than it may be."""
    import typer

    from bigcode_cli.bench.speed_rows import Change

    failed = [row for row in content["results"] if "error" in row]
    for row in failed:
        print_error(f"{row['test']}, {row['engine']}: {row['error']}")
    if flags.fail_if_slower is not None:
        share = flags.fail_if_slower
        made = [Change(**change) for change in content["compared"]]
        slower = [change for change in made if change.is_slower(share / 100)]
        if slower:
            worst = max(slower, key=lambda change: change.time_ratio)
            raise ThresholdError(
                f"{len(slower)} of {len(made)} cases take over {share:g} % longer than in "
                f"{flags.compare}, the worst {worst.test}: {worst.time_ratio - 1:+.1%}"
            )
    if failed:
        raise typer.Exit(1)
