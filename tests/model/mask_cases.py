"""Batches with padding, holes and masks, drawn from a seed."""

import itertools
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from tests.model.models import random_ids, small_config, wide_model
from tests.model.oracle_loops import HIDDEN

BATCH, SLOTS = 3, 8


def small_model(
    attention: str, *, multi_query: bool = True, heads: int = 3
) -> GPTBigCodeForCausalLM:
    config = small_config(n_layer=2, n_embd=24, n_head=heads, multi_query=multi_query)
    return wide_model(config, attention)


@dataclass
class Case:
    """A model and a batch, drawn from a seed.

    Attributes:
        mask: ``(batch, slots)``: padding on the left, on the right, or holes anywhere.
        chunks: the sizes of the passes.
    """

    model: GPTBigCodeForCausalLM
    ids: Tensor
    mask: Tensor
    chunks: list[int]


def draw(seed: int, attention: str) -> Case:
    rng = random.Random(f"masks {seed}")
    rows = []
    for _ in range(BATCH):
        kind, count = rng.choice(["left", "right", "holes", "none"]), rng.randrange(1, SLOTS)
        row = {
            "left": [0] * count + [1] * (SLOTS - count),
            "right": [1] * count + [0] * (SLOTS - count),
            "holes": [rng.randrange(2) for _ in range(SLOTS)],
            "none": [1] * SLOTS,
        }
        rows.append(row[kind])
    chunks: list[int] = []
    while sum(chunks) < SLOTS:
        chunks.append(min(rng.choice((1, 2, SLOTS)), SLOTS - sum(chunks)))
    model = small_model(attention, multi_query=seed % 2 == 0)
    return Case(model, random_ids(model.config, BATCH, SLOTS, seed), torch.tensor(rows), chunks)


def in_chunks(
    model: GPTBigCodeForCausalLM,
    ids: Tensor,
    mask: Tensor | None,
    chunks: list[int],
    positions: Tensor | None = None,
) -> Tensor:
    """Hidden states of passes over chunks, each with its part of a 2-D or 4-D mask."""
    cache, start, pieces = None, 0, []
    for size in chunks:
        end = start + size
        part = mask
        if mask is not None:
            part = mask[:, :end] if mask.dim() == 2 else mask[:, :, start:end, :end]
        output = model.transformer(
            ids[:, start:end],
            past_key_values=cache,
            attention_mask=part,
            position_ids=None if positions is None else positions[:, start:end],
        )
        cache, start = output.past_key_values, end
        pieces.append(output.last_hidden_state)
    return torch.cat(pieces, dim=1)


def block_causal(seen: Tensor, chunks: list[int]) -> Tensor:
    """A 4-D mask whose queries see nothing behind the chunk that they are fed in."""
    ends = list(itertools.accumulate(chunks))
    fed = [next(end for end in ends if end > at) for at in range(seen.shape[-1])]
    slots = torch.arange(seen.shape[-1])
    inside = slots < torch.tensor(fed)[:, None]
    return seen & inside if seen.dtype == torch.bool else seen.masked_fill(~inside, HIDDEN)
