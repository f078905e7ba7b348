"""What quantised weights cost in quality: ``python -m bigcode_cli.bench.quantized --help``.

Each way of storing the weights scores the same files: the first tokens of the held-out packages,
as ``bench.card`` takes them. Beside ours stand llama.cpp's roundings of the layers' matrices,
computed here and then scored by this program: what its formats keep of the weights, not what its
arithmetic adds. It would round the embedding too, which is left as it is stored.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional

from bigcode_cli.bench.card import FIRST_TOKENS, HELD_OUT, SAMPLED_FILES, sampled_texts
from bigcode_cli.bench.environment import machine
from bigcode_cli.bench.intervals import bootstrap_ratio_difference
from bigcode_cli.bench.quality import bits_per_byte
from bigcode_cli.engine.session import Session
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.model.names import is_quantized
from bigcode_cli.records import LoadOptions, ModelFolder, Quantize, Silence

_Round = Callable[[Tensor], Tensor]
_GROUP = 32

OURS: tuple[Quantize, ...] = ("none", "int8", "int4")


def q4_0(weight: Tensor) -> Tensor:
    """llama.cpp's Q4_0 and back (``quantize_row_q4_0_ref``): float32 ``(rows, columns)``.

    Groups of 32; the number of largest magnitude becomes -8 steps, and the step is kept in float16.
    Columns are a multiple of 32.
    """
    grouped = weight.view(weight.shape[0], -1, _GROUP)
    step = grouped.gather(2, grouped.abs().argmax(dim=2, keepdim=True)) / -8
    codes = (grouped * _inverse(step) + 8.5).trunc().clamp(max=15) - 8
    return (codes * step.half().float()).flatten(1)


def q8_0(weight: Tensor) -> Tensor:
    """llama.cpp's Q8_0 and back (``quantize_row_q8_0_ref``), as ``q4_0``."""
    grouped = weight.view(weight.shape[0], -1, _GROUP)
    step = grouped.abs().amax(dim=2, keepdim=True) / 127
    scaled = grouped * _inverse(step)
    # C's roundf: halves away from zero.
    codes = (scaled.abs() + 0.5).floor() * scaled.sign()
    return (codes * step.half().float()).flatten(1)


def _inverse(step: Tensor) -> Tensor:
    return torch.where(step == 0, 0.0, 1 / step)


PEERS: dict[str, _Round] = {"Q8_0": q8_0, "Q4_0": q4_0}


def main(
    packages: Annotated[Path, typer.Option(help="Folder with the held-out packages.")],
    model: Annotated[str, typer.Option(help="Model name, folder or Hub id.")] = "mini",
    device: Annotated[str, typer.Option(help="As bigcode's --device.")] = "auto",
    files: Annotated[int, typer.Option(help="At most so many of a package.")] = SAMPLED_FILES,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure a model with its weights quantised, in float32 arithmetic, and print a table."""
    folder = resolve(model, report=Silence())
    texts = {one.name: sampled_texts(packages, one, files) for one in HELD_OUT}
    scores: dict[str, Any] = {}
    for quantize in OURS:
        options = LoadOptions(device=device, dtype="float32", quantize=quantize)
        session = Session.open(folder, options)
        scores[quantize] = _scores(session, texts)
    plain = LoadOptions(device=device, dtype="float32")
    for name, rounded in PEERS.items():
        with TemporaryDirectory() as kept:
            _write_rounded(folder, rounded, Path(kept))
            session = Session.open(resolve(kept, report=Silence()), plain)
            scores[name] = _scores(session, texts)
    environment = machine(session.info.device)
    figures = {"environment": environment, "model": model, "files": files, "scores": scores}
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))


def _scores(session: Session, texts: dict[str, list[str]]) -> dict[str, Any]:
    """A row ``[nats, bytes, tokens]`` for each file of each package, and the weights' bytes."""
    rows = {name: [_row(session, text) for text in listed] for name, listed in texts.items()}
    return {"weight_bytes": session.info.weight_bytes, "files": rows}


def _row(session: Session, text: str) -> list[float]:
    measured = bits_per_byte(
        session, [text], context=FIRST_TOKENS + 1, stride=FIRST_TOKENS, first_tokens=FIRST_TOKENS
    )
    return [measured.nll, measured.n_bytes, len(session.tokenizer.encode(text)[:FIRST_TOKENS])]


def _write_rounded(folder: ModelFolder, rounded: _Round, place: Path) -> None:
    """The model with its layers' matrices rounded, as a folder in float32."""
    model = load_model(
        GPTBigCodeForCausalLM, folder.path, device="cpu", dtype=torch.float32, base=folder.base
    )
    state = {
        name: _padded(rounded, tensor)
        if is_quantized(name) and name.startswith("transformer.h.")
        else tensor
        for name, tensor in model.state_dict().items()
    }
    save_model(state, model.config, place, "float32")
    for file in folder.tokenizer_path.glob("tokenizer*.json"):
        shutil.copy(file, place)


def _padded(rounded: _Round, weight: Tensor) -> Tensor:
    columns = weight.shape[1]
    return rounded(functional.pad(weight, (0, -columns % _GROUP)))[:, :columns].contiguous()


def change(base: list[list[float]], other: list[list[float]]) -> tuple[float, float, float]:
    """Relative change of the perplexity a token over some files, and its paired 95 % interval."""
    pairs = [[(nats, tokens) for nats, _, tokens in rows] for rows in (base, other)]
    first, second = (sum(n for n, _ in rows) / sum(t for _, t in rows) for rows in pairs)
    low, high = bootstrap_ratio_difference(*pairs)
    return math.expm1(second - first), math.expm1(low), math.expm1(high)


def table(figures: dict[str, Any]) -> str:
    """Markdown: bits per byte of each package by each way of storing, the change of perplexity."""
    scores = figures["scores"]
    titles = ["package", *(("float32" if name == "none" else name) for name in scores)]
    lines = [titles, ["---", *("---:" for _ in scores)]]
    for package in scores["none"]["files"]:
        listed = [one["files"][package] for one in scores.values()]
        lines.append([package, *(f"{_bits(rows):.3f}" for rows in listed)])
    means = [
        sum(_bits(rows) for rows in one["files"].values()) / len(one["files"])
        for one in scores.values()
    ]
    lines.append(["**macro-mean**", *(f"**{mean:.3f}**" for mean in means)])
    every: list[list[list[float]]] = [
        [row for rows in one["files"].values() for row in rows] for one in scores.values()
    ]
    told = [change(every[0], rows) for rows in every[1:]]
    lines.append(["perplexity", "", *(f"{mid:+.2%}" for mid, _, _ in told)])
    lines.append(["95 % interval", "", *(f"{low:+.2%} … {high:+.2%}" for _, low, high in told)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bits(rows: list[list[float]]) -> float:
    return sum(row[0] for row in rows) / math.log(2) / sum(row[1] for row in rows)


if __name__ == "__main__":
    typer.run(main)
