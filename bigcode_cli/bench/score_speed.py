"""How fast files are scored, beside transformers: ``python -m bigcode_cli.bench.score_speed``.

Both score the same windows of real files with mini's weights in the same process, by turns,
tokenising counted in; the sums must agree. transformers gets labels, its own loss, SDPA, and the
batches that it would do best with: windows of similar length, as many as ours. Windows of random
ids, of any model or shape, are a case of ``bigcode bench --n-score``.
"""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bigcode_cli.backends.torch import BATCH_TOKENS
from bigcode_cli.bench.environment import machine
from bigcode_cli.engine.protocol import Passage
from bigcode_cli.engine.session import Session
from bigcode_cli.engine.windows import batches, windows
from bigcode_cli.errors import BigcodeError
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.records import LoadOptions, Scored, ScoreRequest, Silence

AGREEMENT = {"float32": 1e-5, "bfloat16": 5e-3, "float16": 5e-3}
"""Relative difference of the sums that rounding explains."""

_REST_S = 0.3
"""Before each turn: threads of the last one may look for work for a moment more."""

Side = Callable[[], float]
"""Scores everything once; gives the sum of the negative log-likelihoods in nats."""

Peer = Callable[..., Any]
"""A causal language model of transformers."""


def main(
    files: Annotated[list[Path], typer.Option(help="A folder of *.py. Repeatable.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 5,
    megabytes: Annotated[float, typer.Option(help="Of the files at most.")] = 1.0,
    output: Annotated[
        Path | None, typer.Option(help="Add the row to this JSON Lines file.")
    ] = None,
) -> None:
    """Print tokens a second of both sides, their ratio, and how far the sums are apart."""
    texts = _read(files, round(megabytes * 1e6))
    line = json.dumps(_files_row(texts, device, dtype, rounds))
    print(line)
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _files_row(texts: Sequence[str], device: str, dtype: str, rounds: int) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    options = LoadOptions(device=device, dtype=dtype)  # type: ignore[arg-type]
    folder = resolve("mini", report=Silence())
    session = Session.open(folder, options)
    with tempfile.TemporaryDirectory() as place:
        # The very weights: bfloat16 on disk would round them once more.
        GPTBigCodeForCausalLM.from_pretrained("mini").save_pretrained(place)
        kind = getattr(torch, dtype)
        peer = AutoModelForCausalLM.from_pretrained(place, dtype=kind, attn_implementation="sdpa")
        peer = peer.to(device).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder.path / "tokenizer.json"))
    context = session.info.n_positions
    scored = 0

    def ours() -> float:
        nonlocal scored
        events = list(session.score([ScoreRequest(pieces=[text]) for text in texts]))
        good = [event for event in events if isinstance(event, Scored)]
        scored = sum(event.scored_tokens for event in good)
        return math.fsum(event.nll_sum for event in good)

    def theirs() -> float:
        encoded = tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True
        ).input_ids
        some = [
            window
            for ids in encoded
            for window in windows(
                [[session.tokenizer.eos_id, *ids]], context=context, stride=context // 2, first=1
            )
        ]
        groups = batches([len(one.ids) for one in some], BATCH_TOKENS[torch.device(device).type])
        return math.fsum(_their_nll(peer, [some[at] for at in group], device) for group in groups)

    ours()
    measured = _alternate(ours, theirs, scored, rounds, dtype)
    sizes = {"files": len(texts), "bytes": sum(len(text.encode()) for text in texts)}
    return {"model": "mini", **sizes, **_machine(device, dtype), **measured}


def _their_nll(peer: Peer, passages: Sequence[Passage], device: str) -> float:
    longest = max(len(one.ids) for one in passages)
    ids = torch.zeros(len(passages), longest, dtype=torch.int64)
    labels = torch.full_like(ids, -100)
    for row, one in enumerate(passages):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        labels[row, one.counted : len(one.ids)] = ids[row, one.counted : len(one.ids)]
    counted = sum(len(one.ids) - one.counted for one in passages)
    with torch.inference_mode():
        output = peer(ids.to(device), labels=labels.to(device), use_cache=False)
    return float(output.loss) * counted


def _alternate(ours: Side, theirs: Side, tokens: int, rounds: int, dtype: str) -> dict[str, Any]:
    sums = ours(), theirs()
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, side in (("ours", ours), ("theirs", theirs)):
            time.sleep(_REST_S)
            started = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - started)
    apart = abs(sums[0] - sums[1]) / abs(sums[1])
    if apart > AGREEMENT[dtype]:
        raise BigcodeError(f"the sums are {apart:.1e} apart: not the same work")
    speeds = {name: tokens / statistics.median(took) for name, took in seconds.items()}
    ratio = statistics.median(
        b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)
    )
    return {
        "tokens": tokens, "ours_tokens_per_s": speeds["ours"],
        "theirs_tokens_per_s": speeds["theirs"], "ratio": ratio, "relative_difference": apart,
        "seconds": seconds,
    }  # fmt: skip


def _machine(device: str, dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "transformers": version("transformers"), **machine(device)}


def _read(folders: Sequence[Path], limit: int) -> list[str]:
    """Whole files, in the order of their paths, until there are enough bytes."""
    texts: list[str] = []
    left = limit
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        data = path.read_bytes()
        if 0 < len(data) <= left:
            texts.append(data.decode())
            left -= len(data)
    return texts


if __name__ == "__main__":
    typer.run(main)
