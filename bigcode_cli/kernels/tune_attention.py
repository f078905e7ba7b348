"""The layouts of attention that ``tune`` tries, and how it times them."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from bigcode_cli.kernels.shapes import SHAPES
from bigcode_cli.kernels.tables import HEAD_BLOCK, AttentionConfig
from bigcode_cli.kernels.timing import timed
from bigcode_cli.kernels.weights import Geometry

DEPTHS = (500, 900, 1900)
"""Slots that a row fills while it is timed."""

_SLOTS = 2048
_SPLITS = 8
_HELD = 2**15
"""Numbers in shared memory at most: what asks for more is not let in beside the kernel ahead."""

_COPIES = 512
"""Of the cache: together more than the L2 cache of any GPU holds, as layers behind weights are."""


def layouts(name: str) -> list[AttentionConfig]:
    """Layouts of one row's attention worth timing."""
    width = SHAPES[name].head_dim
    return [
        AttentionConfig(16 * warps * each, columns, _SPLITS, 8, warps, whole, 1, stages)
        for warps, each, columns, whole, stages in product(
            (2, 4), (1, 2), (16, 32, 64), (512, 1024), (2, 3)
        )
        if 16 * warps * each * (width + columns) * stages <= _HELD
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
    """The best of these layouts for a shape, and its time in seconds at each of ``DEPTHS``."""
    from bigcode_cli.kernels.triton import attention

    shape = SHAPES[name]
    groups = -(-shape.heads // HEAD_BLOCK)
    query = torch.randn(shape.heads * shape.head_dim, device="cuda").to(torch.bfloat16)
    caches = torch.randn(_COPIES, _SLOTS * 2 * shape.head_dim, device="cuda").bfloat16()
    shares = max(shape.head_dim // config.columns for config in layouts)
    lengths = torch.zeros(1, dtype=torch.int32, device="cuda")
    tickets = torch.zeros(groups * shares, dtype=torch.int32, device="cuda")
    noted = torch.zeros(2, groups * shares * _SPLITS * HEAD_BLOCK, device="cuda")
    parts = torch.zeros(groups * _SPLITS * HEAD_BLOCK * shape.head_dim, device="cuda")

    def tensors(copy: int) -> tuple[Tensor, ...]:
        return query, caches[copy], lengths, query, parts, *noted.unbind(), tickets

    def time_of(config: AttentionConfig) -> list[float]:
        fixed = arguments(shape, config)
        launch = attention.attend[1, groups, shape.head_dim // config.columns * config.splits]
        times = []
        for depth in DEPTHS:
            lengths.fill_(depth)
            times.append(timed(lambda copy: launch(*tensors(copy), **fixed), _COPIES))
        return times

    every = {config: time_of(config) for config in layouts}
    best = min(every, key=lambda config: sum(every[config]))
    return best, every[best]
