"""The losses of heads with weights for their labels."""

import torch
from torch import Tensor
from torch.nn import functional


def label_weights(targets: Tensor, labels: int) -> Tensor:
    """Weights by which the labels count alike; 1 for one that never occurs.

    Args:
        targets: of all samples: int64 ``(n,)``, or float32 ``(n, labels)`` where any may be right.

    Returns:
        float32 ``(labels,)``. Of one label of several n / (labels · count), as scikit-learn's
        ``balanced`` (King & Zeng 2001); where any may be right, (n - count) / count, the weight of
        a label that is right over one that is not.
    """
    if targets.dim() == 2:
        counts = targets.sum(0)
        weights = (len(targets) - counts) / counts
    else:
        counts = torch.bincount(targets, minlength=labels).float()
        weights = len(targets) / (labels * counts)
    return torch.where((counts == 0) | (weights == 0), torch.ones(()), weights)


def summed_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The weighted nats of all targets together, in float32; divide by ``loss_mass``.

    Args:
        logits: ``(n, labels)``.
        targets: int64 ``(n,)``, or float32 ``(n, labels)`` of 0 and 1.
        weights: ``label_weights``, or ones.
    """
    if targets.dim() == 2:
        return functional.binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=weights, reduction="sum"
        )
    return functional.cross_entropy(logits.float(), targets, weight=weights, reduction="sum")


def loss_mass(targets: Tensor, weights: Tensor) -> float:
    """What makes a mean of ``summed_loss``: the weights of all targets, or how many there are."""
    return float(targets.numel()) if targets.dim() == 2 else weights[targets].sum().item()
