"""Attention against a loop over positions and heads that nobody can misread."""

import itertools
import math
import sys

import pytest
import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import (
    ATTENTION,
    Attend,
    Scaling,
    Visible,
    attention_weights,
    eager,
    require_flash,
    sdpa,
)
from bigcode_cli.model.masks import additive
from tests.model.models import (
    DEVICES,
    blocks_of,
    random_ids,
    relative_difference,
    small_config,
    wide_model,
)


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


def weights_of_4_37_2(
    query: Tensor, keys: Tensor, seen: Tensor, scale: float, unscale: float, *, in_fp32: bool
) -> Tensor:
    """What transformers 4.37.2 wrote in ``_attn``, on the CPU, and in ``upcast_masked_softmax``."""
    batch, heads, time, width = query.shape
    slots = keys.shape[2]
    softmax_dtype = torch.float32 if in_fp32 else query.dtype
    upcast = query.dtype != softmax_dtype
    unscale = unscale if upcast else 1.0
    alpha = unscale**-1 * scale
    if keys.shape[1] == 1:
        start = torch.zeros(batch, time * heads, slots, dtype=query.dtype)
        query = query.transpose(1, 2).reshape(batch, time * heads, width)
        scores = torch.baddbmm(start, query, keys[:, 0].mT, beta=1, alpha=alpha)
        scores = scores.view(batch, time, heads, slots).transpose(1, 2)
    else:
        start = torch.zeros(batch * heads, time, slots, dtype=query.dtype)
        query = query.reshape(batch * heads, time, width)
        keys = keys.reshape(batch * heads, slots, width)
        scores = torch.baddbmm(start, query, keys.mT, beta=1, alpha=alpha)
        scores = scores.view(batch, heads, time, slots)
    if upcast:
        scores = scores.to(softmax_dtype) * unscale
    scores = torch.where(seen, scores, torch.finfo(softmax_dtype).min)
    return scores.softmax(dim=-1).to(keys.dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_eager_rounds_as_transformers_4_37_2_did(kv_heads: int, dtype: torch.dtype) -> None:
    """Bit for bit, scales and factors that are no powers of two among them."""
    query, keys, _ = random_parts(kv_heads, 5, 7, dtype)
    seen = torch.ones(5, 7, dtype=torch.bool).tril(2)
    told = []
    for in_fp32, factor, scale in itertools.product((True, False), (1.0, 3.0, 5.0), (0.5, 0.3)):
        weights = attention_weights(
            query * 3, keys, Visible(mask=seen[None, None]), Scaling(scale, in_fp32, factor)
        )
        expected = weights_of_4_37_2(query * 3, keys, seen, scale, factor, in_fp32=in_fp32)
        assert torch.equal(weights, expected)
        if scale == 0.3:
            told.append(weights)
    # Each factor shows itself, in half precision and beside a softmax in float32.
    different = {tuple(weights.flatten().tolist()) for weights in told}
    assert len(different) == (1 if dtype == torch.float32 else 3)


@pytest.mark.parametrize("in_fp32", [True, False])
@pytest.mark.parametrize("by_layer", [True, False])
@pytest.mark.parametrize("multi_query", [True, False])
@torch.no_grad()
def test_the_flags_of_a_model_reach_each_of_its_layers(
    *, multi_query: bool, by_layer: bool, in_fp32: bool
) -> None:
    config = small_config(
        multi_query=multi_query,
        n_layer=3,
        attention_softmax_in_fp32=in_fp32,
        scale_attention_softmax_in_fp32=by_layer,
    )
    model = wide_model(config, "eager").bfloat16()
    projected: list[Tensor] = []
    for block in blocks_of(model):
        block.attn.c_attn.register_forward_hook(lambda *call: projected.append(call[2]))
    output = model(random_ids(config, 2, 6), output_attentions=True)
    seen = torch.ones(6, 6, dtype=torch.bool).tril()
    for layer, weights in enumerate(output.attentions):
        query, key_value = blocks_of(model)[layer].attn.split(projected[layer])
        keys = key_value[..., : config.head_dim]
        unscale = layer + 1.0 if by_layer else 1.0
        scale = config.head_dim**-0.5
        expected = weights_of_4_37_2(query, keys, seen, scale, unscale, in_fp32=in_fp32)
        assert torch.equal(weights, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("softmax_in_fp32", [True, False])
@pytest.mark.parametrize("time", [1, 3])
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("attend", [eager, sdpa])
@pytest.mark.parametrize("device", DEVICES)
def test_a_query_that_sees_nothing_gets_numbers(
    device: str,
    attend: Attend,
    kv_heads: int,
    time: int,
    dtype: torch.dtype,
    *,
    softmax_in_fp32: bool,
) -> None:
    """The lowest float16 and a score of -20 make minus infinity."""
    query, keys, values = random_parts(kv_heads, time, 5)
    mask = additive(torch.zeros(1, 1, time, 5, dtype=torch.bool), dtype)
    output = attend(
        (query.abs() * 5).to(device, dtype),
        (-keys.abs() * 5).to(device, dtype),
        values.to(device, dtype),
        Visible(mask=mask.to(device)),
        Scaling(1.0, softmax_in_fp32),
        0.0,
    ).cpu()
    assert output.isfinite().all()
    # The heaviest slot may take all.
    assert (output.abs() <= values.abs().amax(dim=2, keepdim=True) + 0.01).all()


def test_flash_says_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(UsageError) as caught:
        require_flash(torch.device("cpu"), torch.float32, 512)
    assert caught.value.message == (
        "flash attention needs a CUDA device, not cpu and float16 or bfloat16, not float32 "
        "and heads of at most 256, not 512 and the flash-attn package"
    )
