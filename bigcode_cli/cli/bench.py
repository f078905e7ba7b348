"""``bigcode bench``: how fast a model is here, or how well it fills in."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigcode_cli.cli.bench_flags import TaskFlags, WayFlags
from bigcode_cli.cli.bench_guesses import bench_guesses
from bigcode_cli.cli.bench_infill import bench_infill
from bigcode_cli.cli.bench_speed import bench_speed
from bigcode_cli.cli.bench_speed_flags import SpeedFlags
from bigcode_cli.cli.decoding_flags import SpeculationFlags
from bigcode_cli.cli.help import OUTPUT
from bigcode_cli.cli.params import ModelFlags, OutputFlags, spread
from bigcode_cli.errors import UsageError

EXAMPLES = """\b
Examples:
  bigcode bench
  bigcode bench -p 512,2048 -n 128 -d 0,1024 -b 1,8
  bigcode bench --shape santacoder --against transformers --plot speed.html
  bigcode bench --sweep --plot cost.png
  bigcode bench --save before.json
  bigcode bench --compare before.json --fail-if-slower 5%
  bigcode bench --infill tasks.jsonl.gz --limit 100
  bigcode bench --infill tasks.jsonl.gz --execute --save result.json
  bigcode bench --infill-repo . --glob '*.py'
  bigcode bench --infill-repo src --kind block --tasks 300 --ablate --json
  bigcode bench --infill-repo src --kind edit --tasks 100 --lookup

Speed, in llama-bench's terms: pp512 processes a prompt of 512 tokens, tg128
generates 128 after one token, @ d1024 with 1,024 tokens in the cache before, b8
for 8 sequences at once; sc scores. Tokenising and sampling are left out, but
for the arg-max that chooses a token; e2e512+128 has all in, from text to
sampled text. tokens/s is the median, ± the standard deviation; first token
counts the prompt in. The limit is measured in the same run: of tg the bytes
that it must read over the memory's bandwidth, of pp and sc the operations that
it must do over the rate of a matrix product.

A ratio is the peer's time over ours: above 1, ours is faster. It has the 95 %
interval of the median of paired rounds (order statistics; 94 % of 5 rounds),
a comparison with OLD.json that of Hodges and Lehmann, which knows how runs
scatter, not how one day differs from another. Ctrl-C prints what is measured.

Quality: exact match leaves a last newline out; similarity is 1 - d / n: d the
edits of single characters between the middle and the right one, n the longer
one's length. Shares and means have 95 % intervals (Wilson; bootstrap),
differences to the base paired ones (Newcombe's method 10; bootstrap). Times are
median / 90th percentile of tasks filled one at a time, up to 20 of each kind.

With --lookup or --draft the same tasks are filled greedily with and without
guesses, by turns, one at a time, each prompt read anew: tokens a pass, guesses
that held, and how much faster. An edit is 3 to 15 lines that stand nowhere near
as they are, but of whose words 60 % lie in runs of 5 that do.

--execute runs what the model wrote: without a network, without your files, on
a clock; where Linux grants no namespaces for that, it is refused.
"""

Format = Literal["table", "md", "csv", "json", "jsonl"]

app = typer.Typer(add_completion=False)


@app.command(epilog=EXAMPLES)
@spread
def bench(
    *,
    speed: SpeedFlags,
    own: TaskFlags,
    way: WayFlags,
    guesses: SpeculationFlags,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="table|md|csv|json|jsonl",
            help="Of the answer; of quality table or json.",
            rich_help_panel=OUTPUT,
        ),
    ] = "table",
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE",
            help="Write the answer, of quality also what came of each task, to FILE, as JSON.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    speech: OutputFlags,
    model: ModelFlags,
) -> None:
    """Measure how fast a model is on this machine, or how well it fills in.

    Without --infill and --infill-repo it is timed: prompts, decoding, and a whole request. With
    them, holes of which the right middle is known are filled; reported are exact matches,
    similarity and times, by kind of hole; or what guessing ahead gains.
    """
    if speech.json and format_ not in {"table", "json"}:
        raise UsageError(f"--json is another format than --format {format_}", "leave one out")
    chosen: Format = "json" if speech.json else format_
    if own.infill is not None or own.infill_repo:
        speed.refuse(but=("repetitions",) if guesses.are_made else ())
        if chosen not in {"table", "json"}:
            raise UsageError(f"--format {chosen} is of speeds", "of quality there is table or json")
        as_json = chosen == "json"
        if guesses.are_made:
            rounds = speed.repetitions
            bench_guesses(own, way, guesses, rounds, save, speech, model, as_json=as_json)
        else:
            bench_infill(own, way, save, speech, model, as_json=as_json)
        return
    _refuse(own, way, guesses)
    bench_speed(speed, chosen, save, speech, model)


def _refuse(own: TaskFlags, way: WayFlags, guesses: SpeculationFlags) -> None:
    """Refuse what only holes have, where none are filled."""
    for group, default in (
        (own, TaskFlags()),
        (way, WayFlags()),
        (guesses, SpeculationFlags()),
    ):
        for field in fields(default):
            if getattr(group, field.name) != getattr(default, field.name):
                name = field.name.replace("_", "-")
                raise UsageError(f"--{name} needs --infill FILE or --infill-repo DIR")
