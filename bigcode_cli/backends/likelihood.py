"""How likely given tokens are, read from the states before them, a chunk of logits at a time.

The logits of all tokens of a text would be the largest tensor by far: 49,152 floats a token.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bigcode_cli.engine.protocol import PassageScores

LOGITS_BYTES = {"cpu": 2**24, "cuda": 2**28, "mps": 2**27}
"""Float32 logits in memory at once: what a processor's caches take, or what keeps a GPU busy."""


def likelihoods(
    head: Callable[[Tensor], Tensor],
    states: Tensor,
    targets: Tensor,
    *,
    vocab_size: int,
    detail: bool = False,
) -> PassageScores:
    """The log-probability of each target under the logits of the state before it.

    Softmax, rank and entropy are computed in float32, whatever the dtype of the states.

    Args:
        head: ``(some, n_embd)`` to logits ``(some, vocab_size)``.
        states: ``(time, n_embd)``.
        targets: int64 ``(time,)``.
        detail: tell ranks and entropies too.
    """
    rows = max(1, LOGITS_BYTES[states.device.type] // (4 * vocab_size))
    parts: list[Tensor] = []
    for some, wanted in zip(torch.split(states, rows), torch.split(targets, rows), strict=True):
        logits = head(some)
        # One fused pass that reads the logits as they are and computes in float32.
        log_p = logits.log_softmax(-1, dtype=torch.float32)
        columns = [log_p.gather(-1, wanted[:, None])]
        if detail:
            columns += [_ranks(logits, wanted), _entropies(log_p)]
        parts.append(torch.cat(columns, dim=-1))
    told = torch.cat(parts).T.tolist()
    if not detail:
        return PassageScores(told[0], [], [])
    return PassageScores(told[0], [int(rank) for rank in told[1]], told[2])


def _ranks(logits: Tensor, targets: Tensor) -> Tensor:
    """``(time, 1)``, float32: exact for any vocabulary below 2^24."""
    chosen = logits.gather(-1, targets[:, None])
    ids = torch.arange(logits.shape[-1], device=logits.device)
    before = (logits > chosen) | ((logits == chosen) & (ids < targets[:, None]))
    return before.sum(-1, keepdim=True).float() + 1


def _entropies(log_p: Tensor) -> Tensor:
    r"""``(time, 1)`` in nats: $-\sum p \log p$."""
    return -(log_p.exp() * log_p).sum(-1, keepdim=True)
