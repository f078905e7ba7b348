"""The losses of the heads, in float32 whatever the logits are.

Those of transformers 4.37.2 to 4.56.2 (``models/gpt_bigcode/modeling_gpt_bigcode.py``,
``loss/loss_utils.py``). Labels are looked at by shape and dtype alone: to look at their values is
to wait for a GPU.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.errors import UsageError
from bigcode_cli.model.masks import check_shape

IGNORED = -100
"""A label that counts for nothing."""


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of each label under the logits of the position before it.

    Args:
        logits: ``(batch, time, vocab_size)``.
        labels: integers ``(batch, time)``; the first of each row and those of -100 are left out.

    Returns:
        float32 ``()``, nats a label; NaN where no label is left.

    Raises:
        UsageError: labels of another shape or of another dtype.
    """
    check_shape("labels", labels, tuple(logits.shape[:2]))
    return _cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:])


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the label of each token.

    Args:
        logits: ``(batch, time, num_labels)``.
        labels: integers ``(batch, time)``; those of -100 are left out.

    Returns:
        float32 ``()``, nats a label; NaN where no label is left.

    Raises:
        UsageError: labels of another shape or of another dtype.
    """
    check_shape("labels", labels, tuple(logits.shape[:2]))
    return _cross_entropy(logits.flatten(0, 1), labels)


def sequence_loss(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> Tensor:
    """The loss of one row of logits a sequence.

    Args:
        logits: ``(batch, num_labels)``.
        labels: for ``regression``, mean squared error, numbers ``(batch, num_labels)``, or
            ``(batch,)`` if ``num_labels`` is 1. For ``single_label_classification``,
            cross-entropy, integers ``(batch,)`` or ``(batch, 1)``; those of -100 are left out. For
            ``multi_label_classification``, binary cross-entropy of each logit, probabilities, that
            is 0 and 1 as a rule, ``(batch, num_labels)``.
        problem_type: one of these; ``None`` means regression if ``num_labels`` is 1, else
            single-label if the labels are int64 or int32, else multi-label.

    Returns:
        float32 ``()``, a mean over all labels.

    Raises:
        UsageError: labels of another shape, or floats for one label of several.
    """
    batch, count = logits.shape
    kind = problem_type_of(count, labels.dtype) if problem_type is None else problem_type
    if kind == "single_label_classification":
        check_shape("labels", labels, (batch,) if labels.dim() == 1 else (batch, 1))
        return _cross_entropy(logits, labels)
    if kind == "regression" and count == 1 and labels.dim() == 1:
        labels = labels[:, None]
    check_shape("labels", labels, (batch, count))
    target = labels.to(logits.device, torch.float32)
    if kind == "regression":
        return functional.mse_loss(logits.float(), target)
    return functional.binary_cross_entropy_with_logits(logits.float(), target)


def problem_type_of(num_labels: int, labels: torch.dtype) -> str:
    """The problem that labels of this dtype mean, as transformers documents it."""
    if num_labels == 1:
        return "regression"
    if labels in {torch.int64, torch.int32}:
        return "single_label_classification"
    return "multi_label_classification"


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits ``(rows, classes)`` and as many labels.

    Raises:
        UsageError: labels that are no integers.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UsageError(f"labels that name a class are integers, not {labels.dtype}")
    flat = labels.to(logits.device, torch.int64).flatten()
    return functional.cross_entropy(logits.float(), flat, ignore_index=IGNORED)
