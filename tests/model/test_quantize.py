import pytest
import torch
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


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_is_within_half_a_step_of_each_number(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    packed, scale = quantize_int4(weight)
    groups = -(-shape[1] // 64)
    assert packed.dtype == torch.uint8
    assert packed.shape == (shape[0], 32 * groups)
    assert scale.shape == (shape[0], groups)
    error = (dequantize_int4(packed, scale, shape[1], torch.float32) - weight).abs()
    steps = scale.repeat_interleave(64, dim=1)[:, : shape[1]]
    assert (error <= steps * 0.5001).all()


def test_nibbles_lie_as_documented() -> None:
    weight = torch.zeros(1, 64)
    weight[0, :4] = torch.tensor([7.0, -7.0, 1.0, -2.0])
    packed, scale = quantize_int4(weight)
    assert scale.tolist() == [[1.0]]
    assert packed[0, :3].tolist() == [15 | 1 << 4, 9 | 6 << 4, 8 | 8 << 4]


def test_quantising_again_changes_nothing() -> None:
    torch.manual_seed(0)
    weight = torch.randn(20, 70)
    once = dequantize_int8(*quantize_int8(weight), torch.float32)
    assert torch.equal(quantize_int8(once)[0], quantize_int8(weight)[0])
    packed, scale = quantize_int4(weight)
    assert torch.equal(quantize_int4(dequantize_int4(packed, scale, 70, torch.float32))[0], packed)


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
