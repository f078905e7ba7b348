import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bigcode_cli.errors import UsageError
from bigcode_cli.model.embeddings import like_mean, resize_rows, rows_asked


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**4))
def test_rows_are_the_least_multiple_that_suffices(current: int, asked: int, step: int) -> None:
    rows = rows_asked(current, asked, step)
    assert rows % step == 0
    assert asked <= rows < asked + step
    assert rows_asked(current, None, step) == rows_asked(current, current, step)
    assert rows_asked(current, asked, None) == asked
    assert rows_asked(current, None, None) == current


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_numbers_of_rows_are_whole_and_positive(value: int) -> None:
    with pytest.raises(UsageError, match="new_num_tokens is a whole number from 1"):
        rows_asked(8, value, None)
    with pytest.raises(UsageError, match="pad_to_multiple_of is a whole number from 1"):
        rows_asked(8, None, value)


@pytest.mark.parametrize("deviation", [None, 0.5])
@pytest.mark.parametrize("rows", [3, 7, 20])
def test_old_rows_stay_and_the_parameter_too(rows: int, deviation: float | None) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(7, 4))
    weight.grad = torch.ones(7, 4)
    before, identity = weight.detach().clone(), id(weight)
    resize_rows(weight, rows, deviation=deviation)
    kept = min(7, rows)
    assert weight.shape == (rows, 4)
    assert torch.equal(weight[:kept], before[:kept])
    assert id(weight) == identity
    assert weight.requires_grad
    assert weight.grad is None or weight.grad.shape == weight.shape


def test_new_rows_have_the_mean_and_a_billionth_of_the_covariance_of_the_old() -> None:
    torch.manual_seed(0)
    old = torch.randn(200, 6) @ torch.randn(6, 6) + torch.randn(6)
    new = torch.empty(40_000, 6)
    like_mean(old, new)
    mean, covariance = old.mean(dim=0), old.T.cov(correction=0)
    # In float64: next to the mean the spread is some bits of float32 wide.
    spread = (new.double() - mean.double()) / math.sqrt(1e-9)
    errors = spread.T.cov(correction=0) - covariance.double()
    assert errors.abs().max() < 0.03 * covariance.abs().max()
    assert spread.mean(dim=0).abs().max() < 0.05 * covariance.abs().max().sqrt()


def test_new_rows_are_drawn_in_parts_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    old = torch.randn(50, 8)
    monkeypatch.setattr("bigcode_cli.model.embeddings._DRAWN_AT_ONCE", 120)
    new = torch.full((7, 8), torch.nan)
    like_mean(old, new)
    assert (new - old.mean(dim=0)).abs().max() < 1e-3
    assert torch.pdist(new).min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_far_from_the_mean_are_drawn_with_the_deviation_asked_for(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter((10 + torch.randn(10, 64)).to(dtype))
    resize_rows(weight, 1010, deviation=0.02)
    assert weight.dtype == dtype
    drawn = weight[10:].float()
    assert drawn.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(drawn.mean().item()) < 0.001
