"""What stands between the products of many rows: each kernel, and a step of many rows of them."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.backends import likelihood
from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.backends.products import activated, float_product, product
from bigcode_cli.kernels.step import run_layers
from tests.kernels.shapes import Numbers, copied, geometry
from tests.kernels.test_triton_ops import TOLERANCE, Pair, assert_close, triton_ops

pytestmark = pytest.mark.usefixtures("few_programs")

# Wider than a model whose products Triton's own kernels take over, and no power of two.
WIDE: dict[str, Any] = {"width": 1040, "heads": 5, "head_dim": 208, "layers": 2}
DTYPES = list(TOLERANCE)


@pytest.mark.parametrize("width", [1, 96, 1000, 6144])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("has_branch", "has_offset", "is_float"),
    [(True, False, True), (False, True, False), (False, False, False), (True, True, False)],
    ids=["a step", "a pass", "a first norm", "both"],
)
def test_a_branch_is_added_and_the_sum_normalised(
    device: torch.device,
    width: int,
    dtype: torch.dtype,
    has_branch: bool,
    has_offset: bool,
    is_float: bool,
) -> None:
    from bigcode_cli.kernels.triton import launches

    torch.manual_seed(width)
    norm = Numbers(dtype, 16, device).norm(width)
    stream = torch.float32 if is_float else dtype
    hidden = (3 * torch.randn(5, width) + 2).to(device, stream)
    branch = torch.randn(5, width).to(device, dtype) if has_branch else None
    offset = torch.randn(width).to(device) if has_offset else None
    total = hidden.double() if branch is None else hidden.double() + branch
    read = total if offset is None else total + offset
    gain, shift = norm.weight.double(), norm.bias.double()
    expected = functional.layer_norm(read, (width,), gain, shift, norm.epsilon)
    out = torch.full((5, width), torch.nan, dtype=dtype, device=device)
    got = launches.add_norm(norm, hidden, out, branch=branch, offset=offset)
    assert got is out
    assert_close(out, expected, TOLERANCE[dtype])
    assert_close(hidden, total, TOLERANCE[stream])


def logits_of(rows: int, vocab: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Some far apart, many equal, in no order."""
    torch.manual_seed(vocab)
    steps = (8 * torch.randn(rows, vocab)).round() / 4
    steps[0] += 90
    return steps.to(device, dtype)


@pytest.mark.parametrize("vocab", [1, 151, 8192, 20001])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("detail", [True, False])
def test_likelihood_rank_and_entropy_out_of_one_reading(
    device: torch.device, vocab: int, dtype: torch.dtype, detail: bool
) -> None:
    from bigcode_cli.kernels.triton import launches

    logits = logits_of(7, vocab, dtype, device)
    targets = torch.randint(0, vocab, (7,), device=device)
    targets[:2] = torch.tensor([0, vocab - 1])
    got = launches.measure(logits, targets, detail=detail)
    expected = likelihood.measure(logits, targets, detail=detail)
    assert got.shape == expected.shape == (3 if detail else 1, 7)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    if detail:
        assert torch.equal(got[1], expected[1])


def test_a_logit_that_is_no_number_spoils_its_row_alone(device: torch.device) -> None:
    from bigcode_cli.kernels.triton import launches

    logits = logits_of(3, 9000, torch.float32, device)
    logits[1, 8500] = torch.nan
    told = launches.measure(logits, torch.tensor([1, 2, 3], device=device), detail=False)
    assert told.isnan().tolist() == [[False, True, False]]


@pytest.mark.parametrize("span", [2, 300])
def test_logits_that_rise_from_block_to_block_are_summed_up_right(
    device: torch.device, span: float
) -> None:
    """The maximum moves with each block, and what was summed up before shrinks."""
    from bigcode_cli.kernels.triton import launches

    logits = torch.linspace(-span, span, 30000, device=device).expand(2, -1).contiguous()
    for rows in (logits, logits.flip(1)):
        targets = torch.tensor([29999, 3], device=device)
        got = launches.measure(rows, targets, detail=True)
        expected = likelihood.measure(rows.double(), targets, detail=True)
        torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("vocab", [5, 4096, 4097, 9001])
def test_the_best_of_many_rows_is_found(device: torch.device, vocab: int) -> None:
    from bigcode_cli.kernels.triton import launches

    logits = logits_of(6, vocab, torch.float32, device)
    logits[3] = 1.0  # of equals the lowest id
    logits[4, vocab // 2] = torch.nan
    blocks = launches.rank_blocks(vocab)
    best = torch.zeros(6, blocks, device=device)
    best_id = torch.zeros(6, blocks, dtype=torch.int32, device=device)
    launches.rank(logits, best, best_id)
    ids, told = torch.zeros(6, dtype=torch.int64), torch.zeros(2, 6, dtype=torch.float64)
    lengths, active = torch.tensor([4, 5, 6, 7, 8, 9]), torch.tensor([1, 0, 1, 1, 1, 0])
    ids, told = ids.to(device), told.to(device)
    held, goes_on = lengths.int().to(device), active.int().to(device)
    launches.pick(best, best_id, ids, told, held, goes_on)
    sound = [0, 1, 2, 3, 5]
    assert torch.equal(ids[sound], logits[sound].argmax(-1))
    assert torch.equal(told[0], ids.double())
    assert torch.equal(told[1, sound], logits[sound].amax(-1).double())
    assert told[1, 4].isnan()
    assert torch.equal(held, (lengths + active).int().to(device))


@pytest.mark.parametrize(
    "activation", ["relu", "silu", "gelu", "tanh", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_in_the_epilogue_is_the_activation(
    device: torch.device, activation: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    numbers = Numbers(dtype, 16, device)
    matrix, inputs = numbers.matrix(200, 96), (2 * torch.randn(33, 96)).to(device, dtype)
    twin = PlainOps(geometry(activation=activation))
    expected = twin._activation(product(matrix, inputs).float())
    out = torch.full((33, 200), torch.nan, dtype=dtype, device=device)
    activated(matrix, inputs, activation, out=out)
    assert_close(out, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_are_not_rounded_to_half(device: torch.device, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    head = Numbers(dtype, 16, device).matrix(160, 96, bias=False)
    inputs, out = torch.randn(9, 96).to(device, dtype), torch.empty(9, 151, device=device)
    float_product(head, inputs, out)
    expected = inputs.double() @ head.weight[:151].double().T
    assert_close(out, expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize("rows", [2, 18])
@pytest.mark.parametrize("kv_heads", [1, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_of_many_rows_names_the_same_tokens(
    device: torch.device, kv_heads: int, rows: int, dtype: torch.dtype
) -> None:
    if device.type == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter has no product of bfloat16 blocks")
    pair = Pair(device, rows=rows, dtype=dtype, kv_heads=kv_heads, **WIDE)
    for _ in range(2):
        for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
            run_layers(ops, pair.weights, buffers)
            ops.pick(buffers)
        pair.assert_same("logits", "cache")
        if dtype == torch.float32:
            assert torch.equal(pair.fast.ids, pair.slow.ids)
        else:
            pair.slow.ids.copy_(pair.fast.ids)
        assert torch.equal(pair.fast.lengths, pair.slow.lengths)


def test_many_rows_of_a_narrow_model_too(device: torch.device) -> None:
    pair = Pair(device, rows=12, layers=2)
    for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
        run_layers(ops, pair.weights, buffers)
        ops.pick(buffers)
    pair.assert_same("logits", "cache")
    assert torch.equal(pair.fast.ids, pair.slow.ids)


@pytest.mark.parametrize("kv_heads", [1, 5])
def test_what_is_written_is_the_new_slot_alone(device: torch.device, kv_heads: int) -> None:
    pair = Pair(device, rows=4, kv_heads=kv_heads, **WIDE)
    before = copied(pair.fast)
    pair.ops.project(pair.layer, pair.fast.cache[0], pair.fast)
    pair.twin.project(pair.layer, pair.slow.cache[0], pair.slow)
    pair.assert_same("query")
    changed = (pair.fast.cache[0] != before.cache[0]).any(-1).any(1)
    slots = torch.arange(changed.shape[1], device=device)
    assert torch.equal(changed, slots == pair.fast.lengths[:, None])
    assert_close(pair.fast.cache[0], pair.slow.cache[0], TOLERANCE[torch.float32])


def test_a_branch_waits_for_the_norm_that_adds_it(device: torch.device) -> None:
    pair = Pair(device, rows=3, **WIDE)
    inputs = torch.randn(3, pair.shape.inner, device=device)
    for ops, buffers in ((pair.ops, pair.fast), (pair.twin, pair.slow)):
        ops.add(pair.layer.down, inputs, buffers)
        ops.widen(pair.layer, buffers)
    pair.assert_same("hidden", "inner")


def test_eight_launches_a_layer(device: torch.device) -> None:
    """Counted where they can be: by what a GPU is asked to do."""
    if device.type != "cuda":
        pytest.skip("what is launched is counted on a GPU")
    counts = []
    for layers in (2, 4):
        pair = Pair(device, rows=18, dtype=torch.float16, **WIDE | {"layers": layers})
        ops = triton_ops(pair.shape, pair.fast)
        run_layers(ops, pair.weights, pair.fast)
        torch.cuda.synchronize()
        kinds = [torch.profiler.ProfilerActivity.CUDA]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a profiler thinks of its cycles
            with torch.profiler.profile(activities=kinds) as profile:
                run_layers(ops, pair.weights, pair.fast)
                torch.cuda.synchronize()
        events = [event for event in profile.events() if "Sync" not in event.name]
        counts.append(len([event for event in events if event.device_type.name == "CUDA"]))
    # A product may be two: split along its columns, and joined.
    assert 8 * 2 <= counts[1] - counts[0] <= 12 * 2
