"""The persistent kernel against its slow twin, and in a backend."""

from typing import Any

import pytest
import torch

from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.kernels.tables import StepConfig
from bigcode_cli.kernels.weights import Geometry, Weights
from tests.kernels.shapes import Numbers, copied, geometry
from tests.kernels.test_triton_ops import assert_close

KINDS = [
    pytest.param(torch.float32, 16, id="float32"),
    pytest.param(torch.float16, 16, id="float16"),
    pytest.param(torch.bfloat16, 16, id="bfloat16"),
    pytest.param(torch.float32, 8, id="int8"),
    pytest.param(torch.bfloat16, 8, id="int8 in bfloat16"),
]

SMALL = StepConfig(block_n=16, long_n=8, warps=4, splits=4, slots=16)


def shape_of(**changes: int | str) -> Geometry:
    return geometry(**{"head_dim": 16, "positions": 200} | changes)


def pair(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    bits: int = 16,
    *,
    length: int = 100,
    config: StepConfig | None = SMALL,
    **changes: int | str,
) -> tuple[Weights, Any, Any, Any, PlainOps]:
    from bigcode_cli.kernels.triton.persistent_step import PersistentStep, unsuited

    torch.manual_seed(bits + length)
    shape = shape_of(**changes)
    numbers = Numbers(dtype, bits, device)
    weights = numbers.weights(shape)
    fast = numbers.buffers(shape, 1, 200)
    fast.lengths.fill_(length)
    assert unsuited(weights) is None
    step = PersistentStep(weights, device=device, config=config)
    return weights, step, fast, copied(fast), PlainOps(shape)


def assert_steps_agree(
    dtype: torch.dtype, weights: Weights, step: Any, fast: Any, slow: Any, twin: PlainOps
) -> None:
    for _ in range(2):
        for one, buffers in ((step, fast), (twin, slow)):
            one.run(weights, buffers)
            one.pick(buffers)
        assert_close(fast.logits, slow.logits, dtype)
        for got, expected in zip(fast.cache, slow.cache, strict=True):
            assert_close(got, expected, dtype)
        assert torch.equal(fast.lengths, slow.lengths)
        # Of half-precision logits that lie close, either may be the highest.
        slow.ids.copy_(fast.ids)
        best = slow.logits.max()
        assert slow.logits[0, fast.ids[0]] >= best - 0.05 * best.abs()


@pytest.mark.parametrize(("dtype", "bits"), KINDS)
def test_steps_equal_their_twin(device: torch.device, dtype: torch.dtype, bits: int) -> None:
    if device.type == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter has no product of bfloat16 blocks")
    assert_steps_agree(dtype, *pair(device, dtype, bits))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31, 63, 64, 65, 197])
def test_attention_of_every_kind_of_length(device: torch.device, length: int) -> None:
    assert_steps_agree(torch.float32, *pair(device, length=length))


@pytest.mark.parametrize(
    "changes",
    [
        {"kv_heads": 6},
        {"heads": 20, "width": 320},
        {"width": 128, "heads": 8, "inner": 512},
        {"width": 128, "heads": 4, "head_dim": 32, "inner": 132},
        {"layers": 1},
        {"layers": 5},
    ],
    ids=["multi-head", "more heads than a block", "round", "wide heads", "one layer", "five"],
)
def test_shapes(device: torch.device, changes: dict[str, int]) -> None:
    assert_steps_agree(torch.float32, *pair(device, **changes))


@pytest.mark.parametrize(
    "activation", ["relu", "silu", "gelu", "tanh", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"]
)
def test_every_activation(device: torch.device, activation: str) -> None:
    assert_steps_agree(torch.float32, *pair(device, layers=1, activation=activation))
