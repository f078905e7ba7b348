from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.model.quantize import (
    QuantizedEmbedding,
    QuantizedLinear,
    dequantize_int4,
    dequantize_int8,
    quantize_int4,
    quantize_int8,
)

SHAPES = [(5, 64), (7, 1), (3, 130), (70_000, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_within_half_a_step_of_each_number(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape) * torch.logspace(-6, 3, shape[0])[:, None]
    codes, scale = quantize_int8(weight)
    assert codes.dtype == torch.int8
    assert codes.shape == weight.shape
    assert codes.abs().amax(dim=1).eq(127).all()
    error = (dequantize_int8(codes, scale, torch.float32) - weight).abs()
    assert (error <= scale[:, None] * 0.5001).all()


def absmax(weight: Tensor) -> Tensor:
    """Plain rounding to codes from -7 to 7, spread out again."""
    columns = weight.shape[1]
    grouped = functional.pad(weight, (0, -columns % 64)).view(weight.shape[0], -1, 64)
    step = (grouped.abs().amax(dim=2, keepdim=True) / 7).clamp(min=1e-30)
    return ((grouped / step).round() * step).flatten(1)[:, :columns]


def q4_0(weight: Tensor) -> Tensor:
    """llama.cpp's Q4_0 but for its groups, 64 here, and its scales, float32 here."""
    columns = weight.shape[1]
    grouped = functional.pad(weight, (0, -columns % 64)).view(weight.shape[0], -1, 64)
    largest = grouped.gather(2, grouped.abs().argmax(dim=2, keepdim=True))
    step = largest / -8
    codes = (grouped / torch.where(step == 0, 1.0, step) + 8.5).floor().clamp(0, 15) - 8
    return (codes * step).flatten(1)[:, :columns]


def errors(weight: Tensor, rounded: Tensor) -> Tensor:
    """Squared, of each group: ``(rows, groups)``."""
    squared = functional.pad((weight - rounded).double().square(), (0, -weight.shape[1] % 64))
    return squared.view(weight.shape[0], -1, 64).sum(dim=2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plain", [absmax, q4_0])
def test_int4_never_has_a_larger_squared_error_than_plain_rounding(
    shape: tuple[int, int], plain: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    weight[::2, ::7] *= 20
    packed, scale = quantize_int4(weight)
    groups = -(-shape[1] // 64)
    assert packed.dtype == torch.uint8
    assert packed.shape == (shape[0], 32 * groups)
    assert scale.shape == (shape[0], groups)
    ours = errors(weight, dequantize_int4(packed, scale, shape[1], torch.float32))
    slack = 1e-5 * errors(weight, torch.zeros_like(weight))
    assert (ours <= errors(weight, plain(weight)) + slack).all()


def test_int4_searches_the_step_that_fits_normal_weights_best() -> None:
    torch.manual_seed(0)
    weight = torch.randn(200, 256)
    ours = dequantize_int4(*quantize_int4(weight), 256, torch.float32)
    assert errors(weight, ours).sum() < 0.72 * errors(weight, absmax(weight)).sum()


def test_the_factor_of_int4_is_that_of_least_squares() -> None:
    torch.manual_seed(0)
    weight = torch.randn(20, 130)
    packed, scale = quantize_int4(weight)
    best = errors(weight, dequantize_int4(packed, scale, 130, torch.float32))
    for factor in (0.99, 1.01):
        moved = dequantize_int4(packed, scale * factor, 130, torch.float32)
        assert (errors(weight, moved) > best).all()


def test_blocks_of_rows_are_quantised_as_the_whole() -> None:
    torch.manual_seed(0)
    weight = torch.randn(9000, 130)
    codes, scale = quantize_int4(weight)
    for rows in (slice(0, 1), slice(4000, 4100), slice(8999, 9000)):
        part_codes, part_scale = quantize_int4(weight[rows])
        assert torch.equal(part_codes, codes[rows])
        assert torch.equal(part_scale, scale[rows])


def test_nibbles_lie_as_documented() -> None:
    weight = torch.zeros(1, 64)
    weight[0, :4] = torch.tensor([7.0, -7.0, 1.0, -2.0])
    packed, scale = quantize_int4(weight)
    assert scale.tolist() == [[1.0]]
    assert packed[0, :3].tolist() == [15 | 1 << 4, 9 | 6 << 4, 8 | 8 << 4]
    weight[0, 2] = 8.0
    packed, scale = quantize_int4(weight)
    assert scale.tolist() == [[-1.0]]
    assert packed[0, :3].tolist() == [1 | 15 << 4, 0 | 10 << 4, 8 | 8 << 4]


def test_quantising_to_int8_again_changes_nothing() -> None:
    torch.manual_seed(0)
    weight = torch.randn(20, 70)
    once = dequantize_int8(*quantize_int8(weight), torch.float32)
    assert torch.equal(quantize_int8(once)[0], quantize_int8(weight)[0])


def test_zeros_stay_zeros() -> None:
    zeros = torch.zeros(3, 65)
    assert torch.equal(dequantize_int8(*quantize_int8(zeros), torch.float32), zeros)
    packed, scale = quantize_int4(zeros)
    assert torch.equal(dequantize_int4(packed, scale, 65, torch.float32), zeros)


@pytest.mark.parametrize("rows", [6, 150_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_layer_is_the_layer_with_its_weight_spread_out(
    rows: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(rows, 70), torch.randn(rows).to(dtype)
    hidden = torch.randn(2, 3, 70).to(dtype)
    codes, scale = quantize_int8(weight)
    dense = dequantize_int8(codes, scale, dtype)
    output = QuantizedLinear(codes, scale, bias, 70)(hidden)
    assert output.dtype == dtype
    torch.testing.assert_close(output, functional.linear(hidden, dense) + bias)
    packed, steps = quantize_int4(weight)
    dense = dequantize_int4(packed, steps, 70, dtype)
    output = QuantizedLinear(packed, steps, None, 70)(hidden)
    torch.testing.assert_close(output, functional.linear(hidden, dense))


def test_a_quantised_embedding_is_the_embedding_with_its_weight_spread_out() -> None:
    torch.manual_seed(0)
    codes, scale = quantize_int8(torch.randn(11, 6))
    ids = torch.tensor([[3, 0, 10], [3, 3, 1]])
    dense = dequantize_int8(codes, scale, torch.bfloat16)
    assert torch.equal(QuantizedEmbedding(codes, scale, torch.bfloat16)(ids), dense[ids])
