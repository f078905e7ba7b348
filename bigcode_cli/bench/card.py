"""The scores of a MODEL_CARD.md: ``python -m bigcode_cli.bench.card --help``.

Held-out packages are read from a folder of installed packages; the HumanEval files are those of
the HumanEval and HumanEval-Infilling releases (JSON Lines, gzip or plain).
"""

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from bigcode_cli.bench.infill_run import exact_match
from bigcode_cli.bench.infill_tasks import read_tasks
from bigcode_cli.bench.intervals import wilson
from bigcode_cli.bench.quality import (
    BitsPerByte,
    bits_per_byte,
    complete,
    infill,
    parses,
    repeats_a_line,
    run_on,
)
from bigcode_cli.engine.session import Session
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.records import InfillOrder, LoadOptions, Silence

FIRST_TOKENS = 1024
SAMPLED_FILES = 40
RUN_ON_PROMPTS = 200
PROMPT_LINES = 40


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A package that no training text comes from.

    Attributes:
        name: of the distribution.
        whole: its import package, scored whole.
        sampled: the part that the first-tokens measure draws its files from.
    """

    name: str
    whole: str
    sampled: str


HELD_OUT = (
    HeldOut("Flask", "flask", "flask"),
    HeldOut("docker", "docker", "docker"),
    HeldOut("moto", "moto", "moto/ec2"),
    HeldOut("graphql-core", "graphql", "graphql"),
    HeldOut("jedi", "jedi", "jedi"),
    HeldOut("cfn-lint", "cfnlint", "cfnlint/rules"),
)


def main(
    packages: Annotated[Path, typer.Option(help="Folder with the held-out packages.")],
    humaneval: Annotated[Path, typer.Option(help="HumanEval, .jsonl or .jsonl.gz.")],
    single_line: Annotated[Path, typer.Option(help="HumanEval-Infilling's single-line tasks.")],
    model: Annotated[str, typer.Option(help="Model name, folder or Hub id.")] = "mini",
    device: Annotated[str, typer.Option(help="As bigcode's --device.")] = "auto",
    dtype: Annotated[str, typer.Option(help="As bigcode's --dtype.")] = "float32",
    whole: Annotated[bool, typer.Option(help="Score whole packages too (slow).")] = True,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure a model and print the table of its card."""
    report = Silence()
    options = LoadOptions(device=device, dtype=dtype)  # type: ignore[arg-type]
    session = Session.open(resolve(model, report=report), options, report=report)
    figures: dict[str, Any] = {"model": model, "device": session.info.device, "dtype": dtype}
    figures["held_out"] = [_held_out(session, packages, one, whole=whole) for one in HELD_OUT]
    figures["infill"] = {
        order: _infill(session, single_line, order) for order in get_args(InfillOrder)
    }
    figures["parses"] = _parses(session, humaneval)
    figures["repeats"] = _repeats(session, packages)
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(_table(figures))


def _held_out(session: Session, packages: Path, one: HeldOut, *, whole: bool) -> dict[str, Any]:
    context = session.info.n_positions
    first = bits_per_byte(
        session,
        sampled_texts(packages, one),
        context=FIRST_TOKENS + 1,
        stride=FIRST_TOKENS,
        first_tokens=FIRST_TOKENS,
    )
    row = {"package": one.name, "sampled": one.sampled, "first_tokens": _told(first)}
    if whole:
        everything = bits_per_byte(
            session, _texts(packages / one.whole), context=context, stride=context // 2
        )
        row["whole"] = _told(everything)
    return row


def sampled_texts(packages: Path, one: HeldOut, most: int = SAMPLED_FILES) -> list[str]:
    """Whole files of its sampled part, at most ``most``, evenly spread over the sorted paths."""
    files = _texts(packages / one.sampled)
    count = min(most, len(files))
    return [files[rank * len(files) // count] for rank in range(count)]


def _infill(session: Session, path: Path, order: InfillOrder) -> dict[str, Any]:
    tasks = read_tasks(path)
    middles = infill(session, tasks, order=order)
    matches = [exact_match(text, task.middle) for text, task in zip(middles, tasks, strict=True)]
    return _share(matches)


def _parses(session: Session, path: Path) -> dict[str, Any]:
    problems = _lines(path)
    texts = complete(session, [problem["prompt"] for problem in problems])
    return _share(
        [
            parses(problem["prompt"], text, problem["entry_point"])
            for problem, text in zip(problems, texts, strict=True)
        ]
    )


def _repeats(session: Session, packages: Path) -> dict[str, Any]:
    texts = run_on(session, prompts_from([_texts(packages / one.whole) for one in HELD_OUT]))
    return _share([repeats_a_line(text) for text in texts])


def prompts_from(packages: Sequence[Sequence[str]]) -> list[str]:
    """``RUN_ON_PROMPTS`` texts to go on from: the lines before a cut, at most ``PROMPT_LINES``.

    As many from each package, of files spread over it; the cut lies at the end of a line that is
    not blank and in the second to fourth fifth of its file, by the prompt's number.
    """
    prompts = []
    for number in range(RUN_ON_PROMPTS):
        package, rank = number % len(packages), number // len(packages)
        texts = [text for text in packages[package] if text.count("\n") >= PROMPT_LINES]
        count = math.ceil(RUN_ON_PROMPTS / len(packages))
        lines = texts[rank * len(texts) // count].splitlines(keepends=True)
        cut = len(lines) * (20 + 7 * number % 60) // 100
        while lines[cut].isspace():
            cut += 1
        prompts.append("".join(lines[max(0, cut + 1 - PROMPT_LINES) : cut + 1]).rstrip("\n"))
    return prompts


def _share(outcomes: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(outcomes), len(outcomes))
    return {"n": len(outcomes), "share": sum(outcomes) / len(outcomes), "interval": [low, high]}


def _told(measured: BitsPerByte) -> dict[str, Any]:
    return {"bits_per_byte": measured.value, "bytes": measured.n_bytes, "files": measured.files}


def _texts(folder: Path) -> list[str]:
    """The Python files below a folder, by path; empty ones left out."""
    paths = sorted(folder.rglob("*.py"))
    return [text for path in paths if (text := path.read_text(encoding="utf-8"))]


def _lines(path: Path) -> list[dict[str, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _table(figures: dict[str, Any]) -> str:
    rows = ["| held-out package | first 1,024 tokens | files | whole files | files | bytes |"]
    rows.append("|---|---|---|---|---|---|")
    for row in figures["held_out"]:
        first, whole = row["first_tokens"], row.get("whole")
        end = (
            f"{whole['bits_per_byte']:.3f} | {whole['files']} | {whole['bytes']:,}"
            if whole
            else "– | – | –"
        )
        rows.append(
            f"| {row['package']} ({row['sampled']}) | {first['bits_per_byte']:.3f} "
            f"| {first['files']} | {end} |"
        )
    for key, title in (("first_tokens", "first 1,024 tokens"), ("whole", "whole files")):
        values = [row[key]["bits_per_byte"] for row in figures["held_out"] if key in row]
        if values:
            rows.append(f"\nmacro-mean, {title}: {sum(values) / len(values):.3f} bits per byte")
    shares = {f"exact infills, {order}": figures["infill"][order] for order in ("psm", "spm")}
    for title, share in {
        **shares,
        "completions that parse": figures["parses"],
        "completions with a line four times in a row": figures["repeats"],
    }.items():
        low, high = share["interval"]
        rows.append(f"{title}: {share['share']:.1%} [{low:.1%}, {high:.1%}] of {share['n']}")
    return "\n".join(rows)


if __name__ == "__main__":
    typer.run(main)
