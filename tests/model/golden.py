"""The comparison with the golden logits, shared by the tests of the model and of its mutants."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from safetensors import safe_open
from torch import Tensor

from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.model.golden_cases import GOLDEN_FILE
from tests.model.models import relative_difference, wide_model

TOLERANCE = 1e-5

Run = Callable[[GPTBigCodeForCausalLM, Tensor, Tensor], Tensor]
"""A model, ids and positions ``(batch, time)`` to logits ``(batch, time, vocab)``."""


@dataclass(frozen=True)
class GoldenCase:
    number: int
    config: GPTBigCodeConfig
    input_ids: Tensor
    position_ids: Tensor
    logits: Tensor


@cache
def golden_cases() -> tuple[GoldenCase, ...]:
    with safe_open(GOLDEN_FILE, framework="pt") as file:
        configs = json.loads(file.metadata()["configs"])
        return tuple(
            GoldenCase(
                number,
                GPTBigCodeConfig.from_dict(values),
                file.get_tensor(f"{number}.input_ids").long(),
                file.get_tensor(f"{number}.position_ids").long(),
                file.get_tensor(f"{number}.logits"),
            )
            for number, values in enumerate(configs)
        )


@torch.no_grad()
def differences(attention: str, run: Run, device: str = "cpu") -> Iterator[float]:
    """Of each case, relative to its largest logit."""
    for case in golden_cases():
        model = wide_model(case.config, attention, case.number, device)
        ids, positions = case.input_ids.to(device), case.position_ids.to(device)
        yield relative_difference(run(model, ids, positions), case.logits)


def without_cache(model: GPTBigCodeForCausalLM, ids: Tensor, positions: Tensor) -> Tensor:
    logits: Tensor = model(ids, position_ids=positions, use_cache=False).logits
    return logits


def with_cache(model: GPTBigCodeForCausalLM, ids: Tensor, positions: Tensor) -> Tensor:
    """A prompt of five tokens, a chunk of three behind it, then one token at a time."""
    batch, time = ids.shape
    cache = KVCache.allocate(model.config, batch, time, dtype=model.dtype, device=ids.device)
    pieces = []
    with unsynchronised(ids.device):
        for size in [5, 3] + [1] * (time - 8):
            at = slice(cache.lengths[0], cache.lengths[0] + size)
            piece = model(ids[:, at], position_ids=positions[:, at], past_key_values=cache)
            pieces.append(piece.logits)
    return torch.cat(pieces, dim=1)


@contextmanager
def unsynchronised(device: torch.device) -> Iterator[None]:
    """Fail where a GPU would be waited for."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        # The first call says that the mode is a prototype.
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
