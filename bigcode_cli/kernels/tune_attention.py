"""The layouts of attention that ``tune`` tries, and how it times them.

Alone, or behind its like, attention is another kernel than between two products: what it waits for
is different, and so is who leaves it room. So whole layers are timed, of random weights.
"""

from itertools import product
from typing import Any

import torch

from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.shapes import SHAPES
from bigcode_cli.kernels.step import Ops
from bigcode_cli.kernels.tables import AttentionConfig
from bigcode_cli.kernels.timing import timed
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm

DEPTHS = (500, 900, 1900)
"""Slots that a row fills while it is timed."""

_SLOTS = 2048
_WEIGHTS = 2**28
"""Bytes of all layers at least: more than the L2 cache of any GPU holds."""
_SPLITS = 8
_HELD = 2**15
"""Numbers in shared memory at most: what asks for more is not let in beside the kernel ahead."""


def layouts(name: str) -> list[AttentionConfig]:
    """Layouts of one row's attention worth timing."""
    width = SHAPES[name].head_dim
    return [
        AttentionConfig(16 * 4 * each, columns, _SPLITS, 8, 4, whole, 1, stages)
        for each, columns, whole, stages in product((1, 2), (16, 32, 64), (512, 1024), (2, 3))
        if 16 * 4 * each * (width + columns) * stages <= _HELD
    ]


def arguments(shape: Geometry, config: AttentionConfig) -> dict[str, Any]:
    """What ``attend`` is launched with beside tensors; see ``triton.ops``."""
    return {
        "factor": shape.head_dim**-0.5,
        "capacity": _SLOTS,
        "cache_row": _SLOTS * 2 * shape.head_dim,
        "HEADS": shape.heads,
        "KV_HEADS": 1,
        "HEAD_DIM": shape.head_dim,
        "PADDED": shape.head_dim,
        "COLUMNS": config.columns,
        "SPLITS": config.splits,
        "BLOCK": config.slots,
        "WHOLE": config.whole,
        "LEAST": config.least,
        "JOINED": config.joined,
        "WARPS": config.warps,
        "STAGES": config.stages,
        "PDL": True,
        "num_warps": config.warps,
        "launch_pdl": True,
    }


def compiled(name: str, layout: AttentionConfig) -> None:
    """As ``tune.compiled``."""
    from bigcode_cli.kernels.triton import attention

    half, single, count = torch.bfloat16, torch.float32, torch.int32
    kinds = (half, half, count, half, single, single, single, count)
    fixed = arguments(SHAPES[name], layout)
    attention.attend.warmup(*kinds, grid=(1,), **fixed)


def measured(name: str, layouts: list[AttentionConfig]) -> tuple[AttentionConfig, list[float]]:
    """The best of these layouts for a shape; a layer's time in seconds at each of ``DEPTHS``."""
    from bigcode_cli.kernels.triton.ops import TritonOps

    shape, device = SHAPES[name], torch.device("cuda")
    buffers = Buffers.allocate(shape, 1, _SLOTS, dtype=torch.bfloat16, device=device)
    for held in buffers.cache:
        held.normal_()
    layers = _layers(shape)

    def run(ops: Ops, number: int) -> None:
        layer, cache = layers[number], buffers.cache[number % shape.layers]
        ops.project(layer, cache, buffers)
        ops.attend(layer, cache, buffers)
        ops.add(layer.output, buffers.attended, buffers)
        ops.widen(layer, buffers)
        ops.add(layer.down, buffers.inner, buffers)

    def time_of(config: AttentionConfig) -> list[float]:
        ops = TritonOps(
            shape, 1, device=device, number_bytes=2, wide=None, overlaps=True, attention=config
        )
        times = []
        for depth in DEPTHS:
            buffers.lengths.fill_(depth)
            times.append(timed(lambda number: run(ops, number), len(layers)))
        return times

    every = {config: time_of(config) for config in layouts}
    best = min(every, key=lambda config: sum(every[config]))
    return best, every[best]


def _layers(shape: Geometry) -> list[Layer]:
    """Of random weights, as many as ``_WEIGHTS`` asks for."""

    def numbers(*sizes: int) -> torch.Tensor:
        return 0.02 * torch.randn(sizes, device="cuda", dtype=torch.bfloat16)

    def matrix(rows: int, columns: int) -> Matrix:
        return Matrix(numbers(rows, columns), 16, columns, bias=numbers(rows))

    def norm() -> Norm:
        return Norm(1 + numbers(shape.width), numbers(shape.width), 1e-5)

    layers: list[Layer] = []
    stored = 0
    while stored < _WEIGHTS:
        parts = (
            matrix(shape.width + 2 * shape.kv_heads * shape.head_dim, shape.width),
            matrix(shape.width, shape.width),
            matrix(shape.inner, shape.width),
            matrix(shape.width, shape.inner),
        )
        stored += sum(part.stored_bytes for part in parts)
        projection, output, up, down = parts
        layers.append(Layer(norm(), projection, output, norm(), up, down, shape.head_dim**-0.5))
    return layers
