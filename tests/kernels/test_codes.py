"""Weights of eight and of four bits times a vector of whole numbers, against float64."""

import pytest
import torch
from torch import Tensor

from bigcode_cli.kernels.step import Ops
from bigcode_cli.kernels.tables import Config
from bigcode_cli.kernels.weights import Matrix
from bigcode_cli.model.quantize import (
    dequantize_int4,
    dequantize_int8,
    quantize_int4,
    quantize_int8,
)
from tests.kernels.shapes import Numbers, geometry
from tests.kernels.test_triton_ops import triton_ops

ROWS, COLUMNS = 96, 328
"""The width of what a product is added to, and columns that end within a block and a group."""

BITS = pytest.mark.parametrize("bits", [8, 4])


LAYOUTS = pytest.mark.parametrize(
    "layout",
    [Config(64, 128), Config(32, 256, tiles=2), Config(32, 2048)],
    ids=["three steps", "tiles", "more than a warp reads at a time"],
    indirect=True,
)


@pytest.fixture(autouse=True)
def layout(
    request: pytest.FixtureRequest,
    device: torch.device,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bigcode_cli.kernels.triton import ops

    config = getattr(request, "param", Config(64, 128))
    monkeypatch.setattr(ops, "config_of", lambda *_: config)


def product(matrix: Matrix, inputs: Tensor) -> Tensor:
    """The kernel's ``W x``, float32 ``(rows,)``."""
    device = inputs.device
    shape = geometry(width=matrix.rows)
    buffers = Numbers(inputs.dtype, 8, device).buffers(shape, 1, 8)
    buffers.hidden.zero_()
    ops: Ops = triton_ops(shape, buffers)
    ops.add(matrix, inputs[None], buffers)
    return buffers.hidden[0]


def matrix_of(weight: Tensor, bits: int, device: torch.device) -> Matrix:
    codes, scale = (quantize_int8 if bits == 8 else quantize_int4)(weight)
    return Matrix(codes.to(device), bits, weight.shape[1], scale.to(device))


def exact(matrix: Matrix, inputs: Tensor) -> Tensor:
    """The slow twin's weight times the vector, in float64."""
    assert matrix.scale is not None
    codes, scale = matrix.weight, matrix.scale.double()
    if matrix.bits == 8:
        weight = dequantize_int8(codes, scale, torch.float64)
    else:
        weight = dequantize_int4(codes, scale, matrix.columns, torch.float64)
    return weight @ inputs.double()


def drawn(bits: int, device: torch.device) -> Matrix:
    torch.manual_seed(bits)
    return matrix_of(torch.randn(ROWS, COLUMNS) / COLUMNS**0.5, bits, device)


def vectors() -> dict[str, Tensor]:
    """What products are handed in a model, float32."""
    torch.manual_seed(1)
    normal = torch.randn(COLUMNS)
    outlier = normal.clone()
    outlier[77] *= 100 * outlier.abs().max()
    channels = normal * torch.where(torch.arange(COLUMNS) % 41 == 0, 30.0, 1.0)
    activated = torch.nn.functional.gelu(2 * normal - 2)
    return {
        "normalised": normal,
        "with an outlier": outlier,
        "with large channels": channels,
        "after GELU": activated,
        "with heavy tails": normal / torch.rand(COLUMNS),
        "tiny": normal * 1e-25,
        "large": normal * 1e30,
        "mostly zero": normal * (torch.arange(COLUMNS) > 300),
    }


@BITS
@pytest.mark.parametrize("kind", vectors())
def test_the_error_is_below_that_of_a_vector_in_bfloat16(
    device: torch.device, bits: int, kind: str
) -> None:
    matrix, inputs = drawn(bits, device), vectors()[kind].to(device)
    expected = exact(matrix, inputs)
    rounded = exact(matrix, inputs.bfloat16())
    error = (product(matrix, inputs).double() - expected).norm()
    assert error < (rounded - expected).norm() / 10


@LAYOUTS
@BITS
def test_each_number_is_rounded_to_the_nearest_step_of_its_block(
    device: torch.device, bits: int
) -> None:
    """The identity tells what the kernel makes of each number of the vector."""
    matrix = matrix_of(torch.eye(COLUMNS), bits, device)
    inputs = vectors()["with heavy tails"].to(device)
    block = 128 // bits
    padded = torch.nn.functional.pad(inputs.double(), (0, -COLUMNS % block))
    largest = padded.view(-1, block).abs().amax(1).repeat_interleave(block)[:COLUMNS]
    error = (product(matrix, inputs).double() - inputs.double()).abs()
    assert (error <= largest / 32767 * (0.5 + 2**-6)).all()


@LAYOUTS
@BITS
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_that_there_can_be_are_exact(
    device: torch.device, bits: int, sign: int
) -> None:
    """All codes and all numbers at their bounds: 2^27 a block."""
    groups = -(-COLUMNS // 64)
    if bits == 8:
        codes, scale = torch.full((ROWS, COLUMNS), -128, dtype=torch.int8), torch.ones(ROWS)
    else:
        codes = torch.zeros(ROWS, 32 * groups, dtype=torch.uint8)
        scale = torch.ones(ROWS, groups)
    matrix = Matrix(codes.to(device), bits, COLUMNS, scale.to(device))
    inputs = torch.full((COLUMNS,), sign * 32767.0, device=device)
    torch.testing.assert_close(
        product(matrix, inputs).double(), exact(matrix, inputs), rtol=1e-6, atol=0
    )


@LAYOUTS
@BITS
def test_whole_numbers_are_multiplied_exactly(device: torch.device, bits: int) -> None:
    matrix = drawn(bits, device)
    inputs = torch.randint(-32767, 32768, (COLUMNS,), device=device).float()
    inputs[::8] = 32767.0
    expected = exact(matrix, inputs)
    assert (product(matrix, inputs).double() - expected).norm() < 1e-6 * expected.norm()


@BITS
def test_nothing_comes_of_nothing(device: torch.device, bits: int) -> None:
    assert torch.equal(
        product(drawn(bits, device), torch.zeros(COLUMNS, device=device)),
        torch.zeros(ROWS, device=device),
    )


@BITS
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize("place", [0, 200, COLUMNS - 1])
def test_what_is_no_number_comes_out(
    device: torch.device, bits: int, value: float, place: int
) -> None:
    inputs = vectors()["normalised"].to(device)
    inputs[place] = value
    assert not product(drawn(bits, device), inputs).isfinite().any()


@BITS
def test_the_gpu_and_the_interpreter_multiply_alike(device: torch.device, bits: int) -> None:
    """``dp4a`` and what stands for it where there is none, to the last bit."""
    if device.type == "cpu":
        pytest.skip("its instructions are a GPU's")
    from bigcode_cli.kernels import tune
    from bigcode_cli.kernels.triton import matrix

    case = tune.Case("down", 256, 2112, bits, Config(8, 1024, 4))
    pointers = tune.drawn(case)
    outputs = []
    for ptx in (True, False):
        pointers["out"].zero_()
        matrix.matvec[(32,)](**tune.arguments(case, pointers) | {"PTX": ptx})
        outputs.append(pointers["out"].clone())
    assert torch.equal(*outputs)
