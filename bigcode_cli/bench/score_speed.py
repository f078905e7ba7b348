"""How fast texts are scored, beside transformers: ``python -m bigcode_cli.bench.score_speed``.

Both score the same windows with the same weights in the same process, by turns; the sums must
agree. With ``--files`` real files go in as text, tokenising counted in; else random ids of a
model's real shape, ``--batch`` windows at once. transformers gets labels, its own loss, SDPA, and
for files the batches that it would do best with: windows of similar length, as many as ours.
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

from bigcode_cli.backends.torch import BATCH_TOKENS, TorchBackend
from bigcode_cli.bench.environment import machine
from bigcode_cli.engine.protocol import BackendInfo, Passage
from bigcode_cli.engine.session import Session
from bigcode_cli.engine.windows import batches, windows
from bigcode_cli.errors import BigcodeError, UsageError
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import LoadOptions, Scored, ScoreRequest, Silence

SHAPES = {
    "tiny_starcoder_py": {"n_embd": 768, "n_layer": 20, "n_head": 12, "n_positions": 8192},
    "santacoder": {"n_embd": 2048, "n_layer": 24, "n_head": 16, "vocab_size": 49280},
    "starcoder": {"n_embd": 6144, "n_layer": 40, "n_head": 48, "n_positions": 8192},
}
"""What differs from a vocabulary of 49,152, 2,048 positions and multi-query attention."""

AGREEMENT = {"float32": 1e-5, "bfloat16": 5e-3, "float16": 5e-3}
"""Relative difference of the sums that rounding explains."""

Side = Callable[[], float]
"""Scores everything once; gives the sum of the negative log-likelihoods in nats."""

Peer = Callable[..., Any]
"""A causal language model of transformers."""


def main(
    shape: Annotated[str, typer.Option(help=f"Random weights: {', '.join(SHAPES)}.")] = "",
    files: Annotated[list[Path] | None, typer.Option(help="A folder of *.py; with mini.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    batch: Annotated[int, typer.Option(help="Windows at once, of a shape.")] = 8,
    length: Annotated[int, typer.Option(help="Tokens of each.")] = 2048,
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 5,
    megabytes: Annotated[float, typer.Option(help="Of the files at most.")] = 1.0,
    output: Annotated[
        Path | None, typer.Option(help="Add the row to this JSON Lines file.")
    ] = None,
) -> None:
    """Print tokens a second of both sides, their ratio, and how far the sums are apart."""
    if bool(shape) == bool(files):
        raise UsageError("give either --shape or --files")
    if files:
        texts = _read(files, round(megabytes * 1e6))
        row = _files_row(texts, device, dtype, rounds)
    else:
        row = _shape_row(shape, device, dtype, batch, length, rounds)
    line = json.dumps(row)
    print(line)
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _shape_row(
    shape: str, device: str, dtype: str, batch: int, length: int, rounds: int
) -> dict[str, Any]:
    values = {"vocab_size": 49152, "n_positions": 2048, "model_type": "gpt_bigcode"}
    config = GPTBigCodeConfig.from_dict({**values, **SHAPES[shape]})
    torch.manual_seed(0)
    with torch.device(device):
        model = GPTBigCodeForCausalLM(config).to(getattr(torch, dtype)).eval()
    info = BackendInfo(
        name="torch",
        device=device,
        dtype=dtype,
        weights=dtype,
        n_positions=config.n_positions,
        batch_tokens=batch * length,
        vocab_size=config.vocab_size,
        weight_bytes=0,
    )
    backend = TorchBackend(model, info)
    ids = torch.randint(0, config.vocab_size, (batch, length)).tolist()
    passages = [Passage(tuple(row), 1) for row in ids]
    peer = _peer_like(model, config, device, dtype)

    def ours() -> float:
        return -math.fsum(math.fsum(one.logprobs) for one in backend.score(passages))

    def theirs() -> float:
        return _their_nll(peer, passages, device)

    measured = _alternate(ours, theirs, batch * (length - 1), rounds, dtype)
    return {"shape": shape, "batch": batch, "length": length, **_machine(device, dtype), **measured}


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


def _peer_like(
    model: GPTBigCodeForCausalLM, config: GPTBigCodeConfig, device: str, dtype: str
) -> Peer:
    from transformers import AutoModelForCausalLM
    from transformers import GPTBigCodeConfig as PeerConfig

    peer_config = PeerConfig(**config.to_dict())
    with torch.device(device):
        peer = AutoModelForCausalLM.from_config(
            peer_config, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
    peer.load_state_dict(model.state_dict(), strict=True)
    return peer.eval()  # type: ignore[no-any-return]


def _alternate(ours: Side, theirs: Side, tokens: int, rounds: int, dtype: str) -> dict[str, Any]:
    sums = ours(), theirs()
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, side in (("ours", ours), ("theirs", theirs)):
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
