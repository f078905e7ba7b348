r"""The native engine beside llama.cpp and CTranslate2: ``python -m bigcode_cli.bench.cpu_peers``.

The peers are no dependency: they live in an environment of their own, and are driven over a pipe::

    python -m venv peers
    CMAKE_ARGS="-DGGML_NATIVE=ON" peers/bin/pip install --no-binary llama-cpp-python \
        llama-cpp-python gguf ctranslate2
    python -m bigcode_cli.bench.cpu_peers --peers-python peers/bin/python --save tests/benchmarks

Random weights in the models' shapes, the same for all: first their logits are compared. ``pp512``
processes a prompt of 512 tokens, ``tg128`` generates 128 from an empty cache; of the largest shape
a quarter of that. int8 stands beside Q8_0, int4 beside Q4_0; CTranslate2 has float32 for float16
and no int4. "Of limit" is what a step reads of the weights, times the tokens a second, over what so
many threads read in the same minute: a model that the last cache holds can be above it.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any, get_args

import typer

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.cpu_models import CPU_SHAPES, write_shape
from bigcode_cli.bench.cpu_pipe import WIDTHS, Remote, Width
from bigcode_cli.bench.cpu_turns import CHECKED_IDS, Side, distances, results, take_turns
from bigcode_cli.bench.environment import machine
from bigcode_cli.bench.memory_speed import read_bandwidth
from bigcode_cli.bench.sides import OURS
from bigcode_cli.bench.speed_readme import table
from bigcode_cli.errors import UsageError
from bigcode_cli.model.config import GPTBigCodeConfig

LLAMA, CTRANSLATE2 = "llama.cpp", "CTranslate2"
MODULES = {
    OURS: "bigcode_cli.bench.cpu_native",
    LLAMA: "bigcode_cli.bench.cpu_llama",
    CTRANSLATE2: "bigcode_cli.bench.cpu_ctranslate2",
}

_LARGE = 500_000_000
"""Parameters; with more, cases are of a quarter of the tokens, and nothing is held in float32."""


def main(
    peers_python: Annotated[
        Path | None, typer.Option(help="Interpreter that has the peers; without, ours alone.")
    ] = None,
    shapes: Annotated[
        str, typer.Option(help=f"Of {', '.join(CPU_SHAPES)}, with commas between.")
    ] = ",".join(CPU_SHAPES),
    widths: Annotated[
        str, typer.Option(help=f"Of {', '.join(WIDTHS)}, with commas between.")
    ] = ",".join(WIDTHS),
    threads: Annotated[int, typer.Option(min=1, help="Of every engine.")] = 2,
    seconds: Annotated[float, typer.Option(help="For one case on all engines.")] = 8.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of the tokens and of the time.")
    ] = False,
    models: Annotated[
        Path | None, typer.Option(help="Keep the models there for the next time (10 GB).")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write each model's answer into this folder, as JSON.")
    ] = None,
) -> None:
    """Time prompts and decoding on all engines by turns, and print a table."""
    wanted = _listed(shapes, CPU_SHAPES, "shape")
    stored: list[Width] = _listed(widths, get_args(Width), "width")  # type: ignore[assignment]
    answers = []
    with ExitStack() as stack:
        place = models or Path(stack.enter_context(TemporaryDirectory()))
        for shape in wanted:
            write_shape(shape, place / shape)
            for width in stored:
                answer = _compare(
                    place / shape, width, peers_python, threads,
                    seconds=seconds / 4 if quick else seconds, is_quick=quick,
                )  # fmt: skip
                answers.append(answer)
                _tell(answer)
                if save is not None:
                    file = save / f"cpu-peers-{shape}-{width}.json"
                    file.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(table(answers), end="")


def _compare(
    folder: Path,
    width: Width,
    peers_python: Path | None,
    threads: int,
    *,
    seconds: float,
    is_quick: bool,
) -> dict[str, Any]:
    """The answer of one model at one width, as ``bigcode bench --save`` has it."""
    config = GPTBigCodeConfig.from_file(folder)
    is_large = config.parameter_count() > _LARGE
    part = 4 if is_quick or is_large else 1
    cases = [Case(kind="pp", n_prompt=512 // part), Case(kind="tg", n_gen=128 // part)]
    bandwidth = {count: read_bandwidth(count) for count in sorted({1, threads})}
    names = _sides(width, is_large=is_large) if peers_python else [OURS]
    with _opened(names, folder, width, peers_python, threads) as sides:
        ids = Random(0).choices(range(config.vocab_size), k=cases[0].n_prompt)
        apart = distances(sides, width, ids[:CHECKED_IDS])
        done = [one for case in cases for one in take_turns(sides, case, ids, seconds)]
        rows = results(done, sides, bandwidth[threads])
    told = {
        **machine("cpu"),
        "threads": threads,
        "load_average": os.getloadavg()[0],
        "model": folder.name,
        "random_weights": True,
        "parameters": config.parameter_count(),
        "device": "cpu",
        "weights": rows[0]["weights"],
        "read_bandwidth": {str(count): speed for count, speed in bandwidth.items()},
        "logits_apart": apart,
    }
    return {"environment": told, "interrupted": False, "results": rows}


def _sides(width: Width, *, is_large: bool) -> list[str]:
    """Who has such weights."""
    has_ctranslate2 = width == "int8" or (width == "f16" and not is_large)
    return [OURS, LLAMA, *([CTRANSLATE2] if has_ctranslate2 else [])]


@contextmanager
def _opened(
    names: Sequence[str], folder: Path, width: Width, peers_python: Path | None, threads: int
) -> Iterator[list[Side]]:
    """Each in a process of its own, with the model in memory."""
    with ExitStack() as stack:
        sides = []
        for name in names:
            python = sys.executable if name == OURS else str(peers_python)
            engine = stack.enter_context(Remote(python, MODULES[name]))
            context = min(GPTBigCodeConfig.from_file(folder).n_positions, 1024)
            sides.append(Side(name, engine, engine.open(str(folder), width, threads, context)))
        yield sides


def _listed(text: str, known: Sequence[str] | dict[str, Any] | Any, what: str) -> list[str]:  # noqa: ANN401
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(f"no such {what}: {name!r}", f"there are {', '.join(known)}")
    return names


def _tell(answer: dict[str, Any]) -> None:
    """To stderr as it comes, the bandwidths too: a run takes minutes."""
    told = answer["environment"]
    read = ", ".join(f"{n}: {s / 1e9:.1f} GB/s" for n, s in told["read_bandwidth"].items())
    apart = ", ".join(f"{name} {far:.1e}" for name, far in told["logits_apart"].items())
    print(
        f"{told['model']} {told['weights']}; threads read {read}; apart: {apart}", file=sys.stderr
    )
    for row in answer["results"]:
        share = row.get("bandwidth_fraction")
        more = "" if share is None else f"  {share:.0%} of bandwidth"
        if row.get("ratio"):
            low, high = row["ratio"]["interval"]
            more += f"  ours is {row['ratio']['median']:.2f} [{low:.2f}, {high:.2f}] times as fast"
        speed = f"{row['median_ts']:.1f} tokens/s"
        print(f"  {row['test']} {row['engine']} {row['weights']}: {speed}{more}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
