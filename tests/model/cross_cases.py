"""Small models that attend to an encoder, and what the loops say of them."""

from typing import Any

import torch
from torch import Tensor

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.model import models
from tests.model.models import random_states, small_config
from tests.model.oracle_loops import Loops, causal, hiding, loop_weights, run_loops

BATCH, TIME, STATES = 2, 6, 5

MASKS: dict[str, Tensor | None] = {
    "no mask": None,
    "2-D mask": torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]]),
    "3-D mask": torch.rand(BATCH, TIME, STATES, generator=torch.Generator().manual_seed(6)) > 0.5,
}


def cross_config(**changes: object) -> GPTBigCodeConfig:
    sizes: dict[str, object] = {"n_layer": 2, "multi_query": False, "add_cross_attention": True}
    return small_config(**{**sizes, **changes})


def wide_model(attention: str = "sdpa", **changes: object) -> GPTBigCodeForCausalLM:
    return models.wide_model(cross_config(**changes), attention)


def encoder_states(config: GPTBigCodeConfig, states: int = STATES) -> Tensor:
    return random_states(config, BATCH, states)


def rows_of(mask: Tensor | None, start: int, end: int) -> Tensor | None:
    """What an encoder mask says of the queries from ``start`` to ``end``."""
    return mask[:, start:end] if mask is not None and mask.dim() == 3 else mask


def loops(
    model: GPTBigCodeForCausalLM, ids: Tensor, encoder: Tensor, mask: Tensor | None, **more: Any
) -> Loops:
    seen = None if mask is None else hiding(mask if mask.dim() == 3 else mask[:, None])
    return run_loops(
        loop_weights(model),
        model.config,
        ids,
        causal(ids.shape[1]),
        encoder=encoder,
        encoder_sees=seen,
        **more,
    )
