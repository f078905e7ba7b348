"""Planted mistakes in the heads: labels, losses and pooling."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.model import causal_lm, heads, losses
from bigcode_cli.model.losses import IGNORED, problem_type_of, sequence_loss
from tests.parity.planting import Plant


def causal_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> Plant:
    """Another loss of the causal model, of its logits and labels."""
    return lambda patch: patch(causal_lm, "causal_lm_loss", loss)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def shift_across_rows(logits: Tensor, labels: Tensor) -> Tensor:
    """The first label of a row is asked of the last logits of the row before."""
    return cross_entropy(logits.flatten(0, 1)[None, :-1], labels.flatten()[None, 1:])


def change_cross_entropy(changed: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Plant:
    """Another cross-entropy of all heads: of the right one, its logits and its labels."""
    real = losses._cross_entropy

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return changed(real(logits, labels), logits, labels.flatten())

    return lambda patch: patch(losses, "_cross_entropy", loss)


def count_ignored(_: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels.clamp(min=0))


def divide_by_all(loss: Tensor, _: Tensor, labels: Tensor) -> Tensor:
    return loss * (labels != IGNORED).float().mean()


def change_sequence_loss(problem: str, loss: Callable[[Tensor, Tensor], Tensor]) -> Plant:
    """Another loss of the sequence classifier for one type of problem."""

    def choose(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> Tensor:
        meant = problem_type or problem_type_of(logits.shape[1], labels.dtype)
        if meant != problem:
            return sequence_loss(logits, labels, problem_type)
        return loss(logits, labels)

    return lambda patch: patch(heads, "sequence_loss", choose)


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(logits, labels.view_as(logits))


def summed_squares(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(logits, labels.view_as(logits), reduction="sum") / len(logits)


def broadcast_squares(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels ``(batch,)`` against logits ``(batch, 1)``, each against each."""
    return (logits - labels).square().mean()


def one_against_rest(logits: Tensor, labels: Tensor) -> Tensor:
    target = functional.one_hot(labels.flatten(), logits.shape[1]).float()
    return functional.binary_cross_entropy_with_logits(logits, target)


def pool(place: Callable[[Tensor], Tensor]) -> Plant:
    """Another place of each row that is pooled, by its real tokens: all if that is not told."""

    def pooled(hidden: Tensor, real: Tensor | None) -> Tensor:
        if real is None:
            real = torch.ones(hidden.shape[:2], dtype=torch.bool)
        return hidden[torch.arange(len(hidden)), place(real)]

    return lambda patch: patch(heads, "last_real", pooled)


HEAD_MUTANTS: dict[str, Plant] = {
    "causal labels not shifted": causal_loss(cross_entropy),
    "causal labels shifted twice": causal_loss(
        lambda logits, labels: cross_entropy(logits[:, :-2], labels[:, 2:])
    ),
    "causal labels shifted across rows": causal_loss(shift_across_rows),
    "ignored labels counted": change_cross_entropy(count_ignored),
    "loss divided by all labels": change_cross_entropy(divide_by_all),
    "numbers by absolute error": change_sequence_loss(
        "regression", lambda logits, labels: (logits - labels.view_as(logits)).abs().mean()
    ),
    "squares summed over labels": change_sequence_loss("regression", summed_squares),
    "squares of each row against each": change_sequence_loss("regression", broadcast_squares),
    "one label by binary cross-entropy": change_sequence_loss(
        "single_label_classification", one_against_rest
    ),
    "many labels by squared error": change_sequence_loss(
        "multi_label_classification", squared_error
    ),
    "pooled at the first token": pool(lambda real: torch.zeros(len(real), dtype=torch.long)),
    "pooled at the last place": pool(lambda real: real.sum(1) * 0 - 1),
    "pooled at the count of real tokens": pool(lambda real: real.sum(1) - 1),
    "pooled before the first padding": pool(lambda real: real.int().argmin(1) - 1),
}
