"""Attention against a loop over positions and heads that nobody can misread."""

import math

import pytest
import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import ATTENTION, Scaling, Visible, eager, require_flash, sdpa
from tests.model.models import relative_difference


def brute_force(
    query: Tensor, keys: Tensor, values: Tensor, seen: list[list[int]], scale: float
) -> Tensor:
    """Each output on its own: ``seen[row][i]`` slots are visible to query ``i`` of a row."""
    output = torch.zeros_like(query)
    for row, head, at in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        shared = head if keys.shape[1] > 1 else 0
        slots = range(seen[row][at])
        scores = [
            scale * sum((query[row, head, at] * keys[row, shared, slot]).tolist()) for slot in slots
        ]
        highest = max(scores)
        weights = [math.exp(score - highest) for score in scores]
        for slot, weight in zip(slots, weights, strict=True):
            output[row, head, at] += weight / sum(weights) * values[row, shared, slot]
    return output


def random_parts(
    kv_heads: int, time: int, slots: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 4, time, 8), (2, kv_heads, slots, 8), (2, kv_heads, slots, 8)]
    query, keys, values = (torch.randn(shape) for shape in shapes)
    return query.to(dtype), keys.to(dtype), values.to(dtype)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("scale", [8**-0.5, 1.0])
def test_attention_equals_brute_force(name: str, kv_heads: int, scale: float) -> None:
    attend = ATTENTION[name]
    scaling = Scaling(scale)

    query, keys, values = random_parts(kv_heads, 5, 5)
    expected = brute_force(query, keys, values, [[1, 2, 3, 4, 5]] * 2, scale)
    output = attend(query, keys, values, Visible(causal=True), scaling, 0.0)
    assert relative_difference(output, expected) < 1e-6

    query, keys, values = random_parts(kv_heads, 1, 6)
    expected = brute_force(query, keys, values, [[6], [6]], scale)
    output = attend(query, keys, values, Visible(), scaling, 0.0)
    assert relative_difference(output, expected) < 1e-6

    for seen in ([[6], [2]], [[3, 4, 5], [1, 2, 3]]):
        query, keys, values = random_parts(kv_heads, len(seen[0]), 6)
        mask = (torch.arange(6) < torch.tensor(seen)[:, :, None])[:, None]
        expected = brute_force(query, keys, values, seen, scale)
        output = attend(query, keys, values, Visible(mask=mask), scaling, 0.0)
        assert relative_difference(output, expected) < 1e-6


@pytest.mark.parametrize("layer_factor", [1.0, 30.0])
@pytest.mark.parametrize("softmax_in_fp32", [True, False])
def test_softmax_flags_change_rounding_alone(layer_factor: float, *, softmax_in_fp32: bool) -> None:
    query, keys, values = random_parts(1, 5, 5)
    visible = Visible(causal=True)
    exact = eager(query, keys, values, visible, Scaling(0.5))
    scaling = Scaling(0.5, softmax_in_fp32, layer_factor)
    assert torch.equal(eager(query, keys, values, visible, scaling), exact)
    half = eager(query.half(), keys.half(), values.half(), visible, scaling)
    assert relative_difference(half.float(), exact) < 0.005


def test_the_layer_factor_keeps_half_precision_scores_from_overflowing() -> None:
    query, keys, values = random_parts(1, 5, 5, torch.float16)
    visible = Visible(causal=True)
    query, keys = query * 200, keys * 200
    assert not eager(query, keys, values, visible, Scaling(1.0)).isfinite().all()
    scaled = eager(query, keys, values, visible, Scaling(1.0, layer_factor=24.0))
    exact = eager(query.float(), keys.float(), values.float(), visible, Scaling(1.0))
    assert relative_difference(scaled.float(), exact) < 0.005
    fused = sdpa(query, keys, values, visible, Scaling(1.0))
    assert relative_difference(fused.float(), exact) < 0.005


def test_flash_says_all_that_is_missing() -> None:
    with pytest.raises(UsageError) as caught:
        require_flash(torch.device("cpu"), torch.float32, 512)
    assert caught.value.message == (
        "flash attention needs a CUDA device, not cpu and float16 or bfloat16, not float32 "
        "and heads of at most 256, not 512 and the flash-attn package"
    )
