"""Each kernel against its slow twin, and a whole step of them."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.shapes import SHAPES
from bigcode_cli.kernels.step import Ops, run_layers
from bigcode_cli.kernels.tables import AttentionConfig, Config
from bigcode_cli.kernels.weights import Geometry
from tests.kernels.shapes import Numbers, copied, geometry

pytestmark = pytest.mark.usefixtures("few_programs")

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
FIXED_POINT = 5e-5
"""Of codes times a vector of whole numbers of 16 bits."""
ROWS = [1, 3]


def triton_ops(shape: Geometry, buffers: Buffers) -> Ops:
    from bigcode_cli.backends.wide_ops import WideOps
    from bigcode_cli.kernels.triton.ops import TritonOps

    device = buffers.ids.device
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
    wide = WideOps(shape, buffers.rows, device=device, overlaps=hopper)
    return TritonOps(
        shape,
        buffers.rows,
        device=device,
        number_bytes=buffers.query.element_size(),
        wide=wide,
        overlaps=hopper,
    )


def assert_close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    """By the norm of the difference: what one number loses to rounding says little."""
    assert got.isfinite().all()
    error = (got.double() - expected.double()).norm() / expected.double().norm()
    assert error < tolerance, error


class Pair:
    """The same work for the kernels and their twin."""

    def __init__(
        self,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        bits: int = 16,
        rows: int = 1,
        capacity: int = 100,
        **changes: int | str,
    ) -> None:
        torch.manual_seed(rows + bits)
        self.shape = geometry(**changes)
        numbers = Numbers(dtype, bits, device)
        self.tolerance = max(TOLERANCE[dtype], 0 if bits == 16 else FIXED_POINT)
        self.weights = numbers.weights(self.shape)
        self.layer = self.weights.layers[0]
        self.fast = numbers.buffers(self.shape, rows, capacity)
        self.slow = copied(self.fast)
        self.ops, self.twin = triton_ops(self.shape, self.fast), PlainOps(self.shape)

    def assert_same(self, *names: str) -> None:
        for name in names:
            if name == "cache":
                for got, expected in zip(self.fast.cache, self.slow.cache, strict=True):
                    assert_close(got, expected, self.tolerance)
            else:
                assert_close(getattr(self.fast, name), getattr(self.slow, name), self.tolerance)


def every_number() -> list[object]:
    kinds = [
        (torch.float32, 16), (torch.float16, 16), (torch.bfloat16, 16),
        (torch.float32, 8), (torch.float32, 4), (torch.bfloat16, 8), (torch.bfloat16, 4),
    ]  # fmt: skip
    return [pytest.param(*kind, id=f"{kind[0]}-{kind[1]}"[6:]) for kind in kinds]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("dtype", "bits"), every_number())
def test_products_equal_their_twin(
    device: torch.device, dtype: torch.dtype, bits: int, rows: int
) -> None:
    if device.type == "cpu" and dtype == torch.bfloat16 and rows > 1:
        pytest.skip("Triton's interpreter has no product of bfloat16 blocks")
    pair = Pair(device, dtype=dtype, bits=bits, rows=rows)
    inputs = torch.randn(rows, pair.shape.inner, device=device).to(dtype)
    for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
        ops.widen(pair.layer, buffers)
        ops.add(pair.layer.down, inputs, buffers)
    pair.assert_same("inner", "hidden")


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kv_heads", [1, 6])
@pytest.mark.parametrize("bits", [16, 8])
def test_queries_keys_and_values_go_where_attention_looks(
    device: torch.device, kv_heads: int, rows: int, bits: int
) -> None:
    pair = Pair(device, rows=rows, bits=bits, kv_heads=kv_heads)
    pair.ops.project(pair.layer, pair.fast.cache[0], pair.fast)
    pair.twin.project(pair.layer, pair.slow.cache[0], pair.slow)
    pair.assert_same("query", "cache")


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    "changes",
    [
        {"kv_heads": 1},
        {"kv_heads": 6},
        {"heads": 20, "width": 320},
        {"heads": 4, "head_dim": 24},
    ],
    ids=["multi-query", "multi-head", "more heads than a block", "odd heads"],
)
def test_attention_equals_its_twin(
    device: torch.device, changes: dict[str, Any], rows: int
) -> None:
    pair = Pair(device, rows=rows, **changes)
    pair.fast.query.normal_()
    pair.slow.query.copy_(pair.fast.query)
    pair.ops.attend(pair.layer, pair.fast.cache[0], pair.fast)
    pair.twin.attend(pair.layer, pair.slow.cache[0], pair.slow)
    pair.assert_same("attended")


@pytest.mark.parametrize("length", [0, 1, 31, 32, 63, 64, 65, 129, 1500])
def test_attention_at_every_kind_of_length(device: torch.device, length: int) -> None:
    """One split, several, blocks that end in the middle; twice, as tickets are given back."""
    pair = Pair(device, capacity=2000, positions=2000, layers=1)
    pair.fast.query.normal_()
    pair.slow.query.copy_(pair.fast.query)
    for _ in range(2):
        pair.fast.attended.fill_(torch.nan)
        for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
            buffers.lengths.fill_(length)
            ops.attend(pair.layer, buffers.cache[0], buffers)
        pair.assert_same("attended")


@pytest.mark.parametrize(
    "activation",
    ["relu", "silu", "gelu", "tanh", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"],
)
def test_every_activation(device: torch.device, activation: str) -> None:
    pair = Pair(device, activation=activation)
    pair.ops.widen(pair.layer, pair.fast)
    pair.twin.widen(pair.layer, pair.slow)
    pair.assert_same("inner")


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("bits", [16, 8])
def test_a_step_names_the_same_tokens(device: torch.device, bits: int, rows: int) -> None:
    pair = Pair(device, rows=rows, bits=bits)
    for _ in range(2):
        for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
            run_layers(ops, pair.weights, buffers)
            ops.pick(buffers)
        pair.assert_same("logits", "cache")
        assert torch.equal(pair.fast.ids, pair.slow.ids)
        assert torch.equal(pair.fast.lengths, pair.slow.lengths)
        assert torch.equal(pair.fast.told[0], pair.slow.told[0])


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_rows_that_end_within_a_word(device: torch.device, bits: int) -> None:
    """Of codes four or eight are read at a time."""
    pair = Pair(device, bits=bits, layers=1, inner=50, heads=5, head_dim=18, width=90)
    for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
        ops.run(pair.weights, buffers)
        ops.pick(buffers)
    pair.assert_same("logits", "cache")
    assert torch.equal(pair.fast.ids, pair.slow.ids)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("config", [Config(16, 128, tiles=3), Config(8, 256, tiles=4)])
def test_a_program_of_several_tiles(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, config: Config, bits: int
) -> None:
    """Rows of one block and of two, tiles that end beyond the last row, and a tile's own best."""
    from bigcode_cli.kernels.triton import ops as layouts

    monkeypatch.setattr(layouts, "config_of", lambda *_: config)
    pair = Pair(device, bits=bits, layers=1)
    for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
        ops.run(pair.weights, buffers)
        ops.pick(buffers)
    pair.assert_same("logits", "cache", "hidden")
    assert torch.equal(pair.fast.ids, pair.slow.ids)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("length", [0, 15, 16, 63, 64, 65, 191, 192, 400])
@pytest.mark.parametrize(
    "layout",
    [
        AttentionConfig(16, 16, 4, 2, 1, whole=64, least=64),
        AttentionConfig(16, 32, 4, 4, 1, whole=64),
        AttentionConfig(64, 16, 1, 1, 4, whole=1024),
        AttentionConfig(32, 16, 8, 2, 2),
    ],
    ids=["least", "all columns", "no splits", "two warps"],
)
def test_however_attention_is_shared_out(
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    layout: AttentionConfig,
    length: int,
    rows: int,
) -> None:
    """By columns and by slots: one split, the last one short, as many as there may be."""
    from bigcode_cli.kernels.triton import ops as layouts

    monkeypatch.setattr(layouts, "attention_config", lambda *_, **__: layout)
    pair = Pair(
        device, rows=rows, capacity=410, positions=410, layers=1, heads=3, head_dim=24, width=72
    )
    pair.fast.query.normal_()
    pair.slow.query.copy_(pair.fast.query)
    for _ in range(2):
        pair.fast.attended.fill_(torch.nan)
        for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
            buffers.lengths.fill_(length)
            ops.attend(pair.layer, buffers.cache[0], buffers)
        pair.assert_same("attended")


def test_of_equal_logits_the_lowest_id_is_taken(device: torch.device) -> None:
    pair = Pair(device)
    pair.weights.head.weight.zero_()
    run_layers(pair.ops, pair.weights, pair.fast)
    pair.ops.pick(pair.fast)
    assert pair.fast.ids.tolist() == [0]


@pytest.mark.parametrize("place", [0, 77, 150])
def test_a_logit_that_is_no_number_is_told(device: torch.device, place: int) -> None:
    pair = Pair(device)
    pair.weights.head.weight[place, 5] = torch.nan
    run_layers(pair.ops, pair.weights, pair.fast)
    pair.ops.pick(pair.fast)
    assert pair.fast.told[1].isnan().all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_hidden_states_that_are_no_numbers_are_told(device: torch.device, bits: int) -> None:
    pair = Pair(device, bits=bits, layers=1)
    pair.weights.positions[:, 5] = torch.nan
    run_layers(pair.ops, pair.weights, pair.fast)
    pair.ops.pick(pair.fast)
    assert pair.fast.told[1].isnan().all()


def test_rows_that_do_not_go_on_keep_their_length(device: torch.device) -> None:
    pair = Pair(device, rows=3)
    pair.fast.active[1] = 0
    before = pair.fast.lengths.tolist()
    run_layers(pair.ops, pair.weights, pair.fast)
    pair.ops.pick(pair.fast)
    assert pair.fast.lengths.tolist() == [before[0] + 1, before[1], before[2] + 1]


def test_more_rows_than_a_block_has(device: torch.device) -> None:
    """Unquantised they go through PyTorch's products, quantised through several blocks."""
    for bits in (16, 8):
        pair = Pair(device, rows=18, bits=bits, layers=1)
        for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
            run_layers(ops, pair.weights, buffers)
            ops.pick(buffers)
        pair.assert_same("logits", "cache")
        assert torch.equal(pair.fast.ids, pair.slow.ids)


def test_kernels_serve_as_many_rows_as_they_were_measured_to_serve_well(
    device: torch.device,  # noqa: ARG001
) -> None:
    from bigcode_cli.kernels.triton.ops import most_rows

    rows = {name: most_rows(shape.width) for name, shape in SHAPES.items()}
    assert rows.pop("tiny_starcoder_py") == 8
    assert set(rows.values()) == {1}


def test_a_model_outside_of_the_kernels_reach_is_named(device: torch.device) -> None:  # noqa: ARG001
    from bigcode_cli.kernels.triton.ops import unsupported

    assert unsupported(geometry()) is None
    assert unsupported(dataclasses.replace(geometry(), activation="mish")) == "the activation mish"
