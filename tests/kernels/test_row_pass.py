"""Several tokens of one sequence as rows that share its cache: of the kernels and their twin."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.backends.graph_pass import RowPass
from bigcode_cli.backends.plain_ops import PlainOps
from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.weights import Geometry, Weights
from tests.kernels.shapes import Numbers, geometry
from tests.kernels.test_triton_ops import FIXED_POINT, TOLERANCE, assert_close, triton_ops

pytestmark = pytest.mark.usefixtures("few_programs")

HELD = 37
CAPACITY = 48


def steps(weights: Weights, cache: list[Tensor], ids: list[int]) -> Tensor:
    """What the slow twin gives for one token after the other: logits ``(tokens, vocab)``."""
    buffers = Buffers.allocate(
        weights.geometry, 1, CAPACITY, dtype=torch.float32, device=cache[0].device, shared=cache
    )
    ops, logits = PlainOps(weights.geometry), []
    for place, id_ in enumerate(ids):
        buffers.ids.fill_(id_)
        buffers.lengths.fill_(HELD + place)
        ops.run(weights, buffers)
        logits.append(buffers.logits.clone())
    return torch.cat(logits)


def step_of(kind: str, shape: Geometry, tokens: int, device: torch.device) -> Step:
    if kind == "plain":
        return PlainOps(shape)
    buffers = Buffers.allocate(shape, tokens, CAPACITY, dtype=torch.float32, device=device)
    return triton_ops(shape, buffers)


WIDE = {"width": 1040, "heads": 5, "head_dim": 208, "layers": 1}
"""Whose products are left to cuBLAS where there are several rows."""


@pytest.mark.parametrize("kv_heads", [1, 6])
@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize(("size", "count"), [(2, 2), (4, 3), (8, 1)])
def test_tokens_at_once_are_tokens_one_by_one(
    device: torch.device, size: int, count: int, bits: int, kv_heads: int
) -> None:
    assert_tokens_are_steps(device, "plain", size, count, bits, kv_heads=kv_heads)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("kv_heads", [1, 6])
def test_tokens_at_once_by_the_kernels(device: torch.device, bits: int, kv_heads: int) -> None:
    assert_tokens_are_steps(device, "fused", 4, 3, bits, kv_heads=kv_heads, layers=1)


@pytest.mark.parametrize("kv_heads", [1, 5])
def test_tokens_at_once_by_other_products(device: torch.device, kv_heads: int) -> None:
    assert_tokens_are_steps(device, "fused", 2, 2, 16, kv_heads=kv_heads, vocab=40, **WIDE)


def assert_tokens_are_steps(
    device: torch.device, kind: str, size: int, count: int, bits: int, **changes: Any
) -> None:
    torch.manual_seed(size + count)
    shape = geometry(**changes)
    weights = Numbers(torch.float32, bits, device).weights(shape)
    cache = [
        torch.randn(1, shape.kv_heads, CAPACITY, 2 * shape.head_dim, device=device)
        for _ in range(shape.layers)
    ]
    before = [layer.clone() for layer in cache]
    ids = torch.randint(0, shape.vocab, (count,)).tolist()
    row_pass = RowPass(
        weights,
        size,
        cache,
        dtype=torch.float32,
        device=device,
        step=step_of(kind, shape, size, device),
        pool=None,
    )
    with torch.inference_mode():
        row_pass.prepare(HELD)
        told = row_pass.run(ids, HELD).wait()
        got, held = row_pass.logits[:count].clone(), [layer.clone() for layer in cache]
        expected = steps(weights, cache, ids)
    tolerance = max(TOLERANCE[torch.float32], 0 if bits == 16 else FIXED_POINT)
    assert_close(got, expected, tolerance)
    assert told[0][:count] == expected.argmax(-1).tolist()
    assert told[1][:count] == pytest.approx(expected.amax(-1).tolist(), rel=1e-4)
    for ours, theirs, old in zip(held, cache, before, strict=True):
        assert_close(ours, theirs, tolerance)
        # Tokens that the pass has room for and was not given write nothing of their own.
        for left in (slice(HELD), slice(HELD + count, None)):
            assert torch.equal(ours[:, :, left], old[:, :, left])
