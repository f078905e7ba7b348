"""The losses of the heads, in float32 whatever the logits are."""

from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""A label that counts for nothing."""


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of each label under the logits of the position before it.

    Args:
        logits: ``(batch, time, vocab_size)``.
        labels: int64 ``(batch, time)``; the first of each row and those of -100 are left out.

    Returns:
        float32 ``()``, nats a label; NaN where no label is left.
    """
    shifted = labels[:, 1:].to(logits.device)
    return functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), shifted.flatten(), ignore_index=IGNORED
    )
