"""Sampling, pure: logits and one uniform number a row in, ids out.

The filters apply in one order, here and in every backend: repetition penalty → temperature →
top-k → top-p → min-p. Equal probabilities rank by id, lowest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigcode_cli.records import SamplingOptions


@dataclass(frozen=True, slots=True)
class SamplingTensors:
    """The options of several rows as tensors ``(rows, 1)`` on the logits' device.

    Those of one row serve any number of rows that draw alike.

    Attributes:
        any_penalty: whether any row's penalty does something; ``any_drawn``: whether any row draws.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    penalty: Tensor
    any_penalty: bool
    any_drawn: bool

    @classmethod
    def of(
        cls, options: Sequence[SamplingOptions], vocab_size: int, device: torch.device
    ) -> "SamplingTensors":
        """Gather the options of the rows, in their order."""

        def column(values: Sequence[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        return cls(
            temperature=column([o.temperature for o in options], torch.float32),
            top_k=column([o.top_k or vocab_size for o in options], torch.int64),
            top_p=column([o.top_p for o in options], torch.float32),
            min_p=column([o.min_p for o in options], torch.float32),
            penalty=column([o.repetition_penalty for o in options], torch.float32),
            any_penalty=any(o.repetition_penalty != 1 for o in options),
            any_drawn=not all(o.greedy for o in options),
        )

    def keep(self, rows: Tensor, options: Sequence[SamplingOptions]) -> "SamplingTensors":
        """The tensors of some rows; ``options`` are those rows' own."""
        return SamplingTensors(
            temperature=self.temperature[rows],
            top_k=self.top_k[rows],
            top_p=self.top_p[rows],
            min_p=self.min_p[rows],
            penalty=self.penalty[rows],
            any_penalty=any(o.repetition_penalty != 1 for o in options),
            any_drawn=not all(o.greedy for o in options),
        )


def penalised(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Repetition penalty (Keskar et al. 2019, CTRL; sign-aware as in transformers).

    Args:
        logits: ``(rows, vocab)`` float32.
        seen: ``(rows, vocab)`` bool, the tokens of prompt and output.
        penalty: ``(rows, 1)``.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def seen_behind(seen: Tensor, ids: Sequence[int]) -> Tensor:
    """What a row's penalty looks at behind each of some ids that it may go on with.

    Args:
        seen: bool ``(1, vocab)``, before the first of them.
        ids: one that cannot be sampled is passed over.

    Returns:
        ``(1 + ids, vocab)``, the first row as ``seen``.
    """
    every = seen.repeat(1 + len(ids), 1)
    pairs = [
        (place, id_)
        for at, id_ in enumerate(ids)
        for place in range(at + 1, 1 + len(ids))
        if id_ < seen.shape[1]
    ]
    if pairs:
        places, known = torch.tensor(pairs).T.to(seen.device)
        every[places, known] = True
    return every


def filtered_probabilities(logits: Tensor, options: SamplingTensors) -> Tensor:
    """Probabilities after temperature, top-k, top-p and min-p, each row summing to 1.

    Args:
        logits: ``(rows, vocab)`` float32, after the repetition penalty; ``-inf`` is never kept.

    Returns:
        ``(rows, vocab)`` float32. A greedy row holds a 1 at its arg-max.
    """
    greedy = options.temperature == 0
    scaled = logits / options.temperature.masked_fill(greedy, 1)
    scaled, ids = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    keep = rank < options.top_k.masked_fill(greedy, 1)
    p = scaled.masked_fill(~keep, -torch.inf).softmax(-1)
    # A token is in the nucleus while those before it fall short of top_p; the first always is.
    keep = keep & ((p.cumsum(-1) - p < options.top_p) | (options.top_p == 1))
    keep &= p >= options.min_p * p[:, :1]
    p = p * keep
    p = p / p.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter_(-1, ids, p)


def cumulative_dtype(device: torch.device) -> torch.dtype:
    """float64 where the device has it: a float32 sum of 49,152 terms loses the tail."""
    return torch.float32 if device.type == "mps" else torch.float64


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Ids by the inverse of the cumulative distribution, in id order.

    Args:
        probabilities: ``(rows, vocab)`` float32.
        uniforms: ``(rows,)`` in [0, 1), of ``cumulative_dtype``.

    Returns:
        ``(rows,)`` int64: the first id at which the cumulative sum exceeds the uniform number.
    """
    cumulative = probabilities.to(uniforms.dtype).cumsum(-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    # The last possible id is the bound where rounding carries the target to the sum itself.
    last = (probabilities > 0).to(torch.int8).cumsum(-1).argmax(-1)
    return torch.minimum(torch.searchsorted(cumulative, target, right=True)[:, 0], last)


def sample(logits: Tensor, options: SamplingTensors, uniforms: Tensor) -> Tensor:
    """Draw one id a row.

    Args:
        logits: ``(rows, vocab)`` float32, after the repetition penalty.
        uniforms: ``(rows,)`` in [0, 1); greedy rows do not look at theirs.

    Returns:
        ``(rows,)`` int64.
    """
    best = logits.argmax(-1)
    if not options.any_drawn:
        return best
    drawn = draw(filtered_probabilities(logits, options), uniforms)
    return torch.where(options.temperature[:, 0] == 0, best, drawn)
