import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.losses import causal_lm_loss, problem_type_of, sequence_loss, token_loss


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def negative_log_likelihood(logits: Tensor, label: int) -> float:
    """Of one label, in float64."""
    row = [float(value) for value in logits]
    top = max(row)
    return top + math.log(sum(math.exp(value - top) for value in row)) - row[label]


def assert_near(loss: Tensor, expected: float) -> None:
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_causal_lm_loss_holds_each_position_against_the_next_label() -> None:
    logits = numbers(2, 5, 7)
    labels = torch.tensor([[1, 2, -100, 4, 6], [0, 0, 3, -100, 5]])
    expected = [
        negative_log_likelihood(logits[row, at - 1], int(labels[row, at]))
        for row in range(2)
        for at in range(1, 5)
        if labels[row, at] != -100
    ]
    assert_near(causal_lm_loss(logits, labels), sum(expected) / len(expected))


def test_token_loss_holds_each_position_against_its_own_label() -> None:
    logits = numbers(2, 4, 3)
    labels = torch.tensor([[-100, 2, 1, 0], [0, -100, -100, 2]])
    expected = [
        negative_log_likelihood(logits[row, at], int(labels[row, at]))
        for row in range(2)
        for at in range(4)
        if labels[row, at] != -100
    ]
    assert_near(token_loss(logits, labels), sum(expected) / len(expected))


def test_single_label_loss_is_cross_entropy() -> None:
    logits, labels = numbers(4, 3), torch.tensor([2, 0, -100, 1])
    expected = [negative_log_likelihood(logits[row], int(labels[row])) for row in (0, 1, 3)]
    for given in (labels, labels[:, None], labels.int()):
        assert_near(sequence_loss(logits, given), sum(expected) / 3)
        loss = sequence_loss(logits, given, "single_label_classification")
        assert_near(loss, sum(expected) / 3)


def test_regression_loss_is_mean_squared_error() -> None:
    logits, target = numbers(4, 3), numbers(4, 3, seed=1)
    squares = [
        (float(a) - float(b)) ** 2 for a, b in zip(logits.flatten(), target.flatten(), strict=True)
    ]
    assert_near(sequence_loss(logits, target, "regression"), sum(squares) / 12)
    one, wanted = numbers(4, 1), torch.tensor([1, 0, 3, 2])
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(one.flatten(), wanted, strict=True)]
    for given in (wanted, wanted.double(), wanted[:, None].half()):
        assert_near(sequence_loss(one, given), sum(squares) / 4)


def test_multi_label_loss_is_binary_cross_entropy_of_each() -> None:
    logits = numbers(4, 3)
    target = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    expected = [
        math.log1p(math.exp(-float(value))) if hit else math.log1p(math.exp(float(value)))
        for value, hit in zip(logits.flatten(), target.flatten(), strict=True)
    ]
    for given in (target.float(), target.bool()):
        assert_near(sequence_loss(logits, given), sum(expected) / 12)
    loss = sequence_loss(logits, target, "multi_label_classification")
    assert_near(loss, sum(expected) / 12)


@pytest.mark.parametrize(
    ("num_labels", "dtype", "expected"),
    [
        (1, torch.float32, "regression"),
        (1, torch.int64, "regression"),
        (2, torch.int64, "single_label_classification"),
        (3, torch.int32, "single_label_classification"),
        (2, torch.float32, "multi_label_classification"),
        (3, torch.bool, "multi_label_classification"),
    ],
)
def test_the_problem_follows_from_the_labels(
    num_labels: int, dtype: torch.dtype, expected: str
) -> None:
    assert problem_type_of(num_labels, dtype) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_logits_are_those_of_float32(dtype: torch.dtype) -> None:
    logits = numbers(2, 4, 3).to(dtype)
    labels = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
    for loss in (causal_lm_loss, token_loss):
        assert torch.equal(loss(logits, labels), loss(logits.float(), labels))
    for target, kind in (
        (labels[0], "single_label_classification"),
        (numbers(4, 3, seed=1), "regression"),
        (numbers(4, 3, seed=1).sigmoid(), "multi_label_classification"),
    ):
        exact = sequence_loss(logits[0].float(), target, kind)
        assert torch.equal(sequence_loss(logits[0], target, kind), exact)


def test_labels_that_all_count_for_nothing_give_no_number() -> None:
    assert token_loss(numbers(1, 3, 2), torch.full((1, 3), -100)).isnan()


@pytest.mark.parametrize(
    ("logits", "labels", "kind", "message"),
    [
        ((4, 3), torch.zeros(5).long(), None, r"labels is of shape \(4\), not \(5,\)"),
        ((4, 3), torch.zeros(4, 3).long(), None, r"labels is of shape \(4, 1\), not \(4, 3\)"),
        ((4, 3), torch.zeros(4), "single_label_classification", "integers, not torch.float32"),
        ((4, 3), torch.zeros(4).bool(), "single_label_classification", "integers, not torch.bool"),
        ((4, 3), torch.zeros(4), None, r"labels is of shape \(4, 3\), not \(4,\)"),
        ((4, 3), torch.zeros(4), "regression", r"labels is of shape \(4, 3\), not \(4,\)"),
        ((4, 1), torch.zeros(3), None, r"labels is of shape \(4, 1\), not \(3, 1\)"),
        ((4, 1), torch.zeros(4, 2), None, r"labels is of shape \(4, 1\), not \(4, 2\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    logits: tuple[int, int], labels: Tensor, kind: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        sequence_loss(numbers(*logits), labels, kind)


@pytest.mark.parametrize("loss", [causal_lm_loss, token_loss])
def test_labels_of_tokens_are_integers_one_a_token(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    for labels in (torch.zeros(2, 4).long(), torch.zeros(3).long()):
        with pytest.raises(UsageError, match=r"labels is of shape \(2, 3\)"):
            loss(numbers(2, 3, 5), labels)
    with pytest.raises(UsageError, match=r"integers, not torch\.float32"):
        loss(numbers(2, 3, 5), torch.zeros(2, 3))
