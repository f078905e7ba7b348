"""What quantised weights cost on a CPU: ``python -m bigcode_cli.bench.cpu_quality --help``.

The native engine, whose int8 and int4 round activations too, and llama.cpp itself, not a copy of
its rounding, score the same ids of the held-out packages: ``bench.quantized`` does it for PyTorch.
Peers live in an environment of their own, see ``bench.cpu_peers``.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from bigcode_cli.bench.card import FIRST_TOKENS, HELD_OUT, sampled_texts
from bigcode_cli.bench.cpu_models import write_model
from bigcode_cli.bench.cpu_peers import LLAMA, MODULES
from bigcode_cli.bench.cpu_pipe import Remote, Width
from bigcode_cli.bench.environment import machine
from bigcode_cli.bench.quantized import change, table
from bigcode_cli.bench.sides import OURS
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.records import Silence
from bigcode_cli.text.tokenizer import Tokenizer

WAYS: dict[str, tuple[str, Width]] = {
    "none": (OURS, "f32"),
    "int8": (OURS, "int8"),
    "int4": (OURS, "int4"),
    "F16": (LLAMA, "f16"),
    "Q8_0": (LLAMA, "int8"),
    "Q4_0": (LLAMA, "int4"),
}
"""Who scores and how the weights are stored; ``none`` is what all others are held to."""

PAIRS = (("Q8_0", "int8"), ("Q4_0", "int4"))
"""Theirs and ours of as many bits."""

Texts = dict[str, list[tuple[list[int], int]]]
"""Of each package the ids of its files, and the bytes that they stand for."""


def main(
    packages: Annotated[Path, typer.Option(help="Folder with the held-out packages.")],
    peers_python: Annotated[
        Path | None, typer.Option(help="Interpreter that has llama.cpp; without, ours alone.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model name, folder or Hub id.")] = "mini",
    files: Annotated[int, typer.Option(help="At most so many of a package.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Of every engine.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Score with each way of storing the weights, and print a table."""
    folder = resolve(model, report=Silence())
    tokenizer = Tokenizer.load(folder.tokenizer_path)
    texts = {one.name: _encoded(tokenizer, sampled_texts(packages, one, files)) for one in HELD_OUT}
    ways = {name: way for name, way in WAYS.items() if way[0] == OURS or peers_python}
    scores = {}
    with TemporaryDirectory() as kept:
        write_model(folder, Path(kept))
        for name, (side, width) in ways.items():
            python = sys.executable if side == OURS else str(peers_python)
            with Remote(python, MODULES[side]) as engine:
                told = engine.open(kept, width, threads, FIRST_TOKENS + 1)
                scores[name] = {
                    "engine": told["version"],
                    "weight_bytes": told["read_bytes"],
                    "files": _scores(engine, texts, tokenizer.eos_id),
                }
    figures = {
        "environment": {**machine("cpu"), "threads": threads},
        "model": model,
        "files": files,
        "scores": scores,
    }
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    print("\n".join(beside(scores)))


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[list[int], int]]:
    every = [tokenizer.encode(text)[:FIRST_TOKENS] for text in texts]
    return [(ids, sum(tokenizer.byte_lengths[id_] for id_ in ids)) for ids in every if ids]


def _scores(engine: Remote, texts: Texts, first: int) -> dict[str, list[list[float]]]:
    """A row ``[nats, bytes, tokens]`` for each file of each package, as ``quantized`` has them."""
    return {
        name: [[engine.score([first, *ids]), n_bytes, len(ids)] for ids, n_bytes in files]
        for name, files in texts.items()
    }


def beside(scores: dict[str, Any]) -> list[str]:
    """A line for each pair: by how much our perplexity is above theirs, with its 95 % interval."""
    rows = {
        name: [row for files in one["files"].values() for row in files]
        for name, one in scores.items()
    }
    lines = []
    for theirs, ours in PAIRS:
        if theirs in rows:
            middle, low, high = change(rows[theirs], rows[ours])
            lines.append(f"{ours} beside {theirs}: {middle:+.2%} ({low:+.2%} … {high:+.2%})")
    return lines


if __name__ == "__main__":
    typer.run(main)
