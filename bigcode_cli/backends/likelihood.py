"""How likely given tokens are, read from the states before them, a chunk of logits at a time.

The logits of all tokens of a text would be the largest tensor by far: 49,152 floats a token.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from bigcode_cli.engine.protocol import PassageScores

LOGITS_BYTES = {"cpu": 2**24, "cuda": 2**28, "mps": 2**27}
"""Float32 logits in memory at once: what a processor's caches take, or what keeps a GPU busy."""


TILE_ROWS = 128
"""Rows of a GPU's product that are computed together."""


class Measure(Protocol):
    """What reads logits."""

    def __call__(self, logits: Tensor, targets: Tensor, *, detail: bool) -> Tensor:
        """Float32 ``(1, time)``, the targets' log-probabilities; with detail ``(3, time)``.

        Args:
            logits: ``(time, vocab)`` of any float dtype.
            targets: int64 ``(time,)``.
            detail: ranks and entropies follow: see ``engine.protocol.PassageScores``.
        """


def likelihoods(
    head: Callable[[Tensor], Tensor],
    states: Tensor,
    targets: Tensor,
    *,
    vocab_size: int,
    detail: bool = False,
    measure: Measure,
) -> Tensor:
    """The log-probability of each target under the logits of the state before it.

    Nothing waits for the device.

    Args:
        head: ``(some, n_embd)`` to logits ``(some, vocab_size)``.
        states: ``(time, n_embd)``.
        targets: int64 ``(time,)``.

    Returns:
        as ``Measure``.
    """
    rows = _rows_at_once(states, vocab_size)
    pairs = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    return torch.cat([measure(head(some), wanted, detail=detail) for some, wanted in pairs], dim=1)


def _rows_at_once(states: Tensor, vocab_size: int) -> int:
    """How many rows of logits are in memory at once."""
    most = max(1, LOGITS_BYTES[states.device.type] // (4 * vocab_size))
    return equal_part(len(states), most) if states.is_cuda and len(states) else most


def equal_part(rows: int, most: int) -> int:
    """The size of equal parts of about ``most`` rows at most, in whole tiles of a GPU's product.

    A last part of a few rows would take nearly as long as a full one.
    """
    parts = -(-rows // most)
    return -(-rows // (parts * TILE_ROWS)) * TILE_ROWS


def measure(logits: Tensor, targets: Tensor, *, detail: bool) -> Tensor:
    """See ``Measure``: in plain PyTorch, the slow twin of ``kernels.triton.launches.measure``.

    Softmax, rank and entropy are computed in float32, whatever the dtype of the logits.
    """
    # One fused pass that reads the logits as they are and computes in float32.
    log_p = logits.log_softmax(-1, dtype=torch.float32)
    columns = [log_p.gather(-1, targets[:, None])]
    if detail:
        columns += [_ranks(logits, targets), _entropies(log_p)]
    return torch.cat(columns, dim=-1).T


def read(told: list[list[float]]) -> PassageScores:
    """What ``likelihoods`` gave, on the host."""
    if len(told) == 1:
        return PassageScores(told[0], [], [])
    return PassageScores(told[0], [int(rank) for rank in told[1]], told[2])


def by_passage(scores: PassageScores, counts: Sequence[int]) -> list[PassageScores]:
    """Scores of passages that were joined, taken apart."""
    ends = list(accumulate(counts))
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return [
        PassageScores(scores.logprobs[part], scores.ranks[part], scores.entropies[part])
        for part in parts
    ]


def _ranks(logits: Tensor, targets: Tensor) -> Tensor:
    """``(time, 1)``, float32: exact for any vocabulary below 2^24."""
    chosen = logits.gather(-1, targets[:, None])
    ids = torch.arange(logits.shape[-1], device=logits.device)
    before = (logits > chosen) | ((logits == chosen) & (ids < targets[:, None]))
    return before.sum(-1, keepdim=True).float() + 1


def _entropies(log_p: Tensor) -> Tensor:
    r"""``(time, 1)`` in nats: $-\sum p \log p$."""
    return -(log_p.exp() * log_p).sum(-1, keepdim=True)
