"""Labels of all kinds."""

from typing import Any

import torch
from torch import Tensor

from tests.parity.draws import Draw
from tests.parity.plans import Plan

IGNORED = -100


def draw_labels(plan: Plan, draw: Draw, config: dict[str, Any], real: Tensor) -> Tensor | None:
    """Labels of a pass with real tokens ``real`` ``(batch, time)``; ``None`` if it has none."""
    if plan.kind == "sequence":
        return _draw_sequence_labels(plan, draw, config["num_labels"])
    classes = config["vocab_size" if plan.kind == "causal" else "num_labels"]
    if plan.kind == "causal" and real.shape[1] == 1:
        # A lone token has no next one.
        return None
    # What predicts a label has to be real: for the causal model the token before.
    kept = real if plan.kind == "token" else real & real.roll(1, dims=1)
    labels = draw.integers(real.shape, classes)
    labels = labels.masked_fill(~kept | draw.chances(real.shape, 0.3), IGNORED)
    last = real.shape[1] - 1 - real.flip(1).int().argmax(dim=1)
    rows = torch.arange(real.shape[0])
    # One at least is kept, in the first row.
    labels[rows[:1], last[:1]] = draw.randrange(classes)
    if plan.kind == "causal":
        # The first label is of no use; if it were counted, it would show.
        labels[:, 0] = draw.randrange(classes)
    return labels


def _draw_sequence_labels(plan: Plan, draw: Draw, count: int) -> Tensor:
    shape = (plan.batch, count)
    if plan.problem[2] == "single_label_classification":
        return draw.integers((plan.batch,), count)
    if plan.problem[2] == "multi_label_classification":
        return draw.chances(shape, 0.5).float()
    # Far from what a model gives, so that a difference keeps its digits.
    labels = draw.reals(shape, 2.0)
    labels += 6.0 * labels.sign()
    return labels[:, 0] if count == 1 and draw.random() < 0.75 else labels
