"""A buffer read once from end to end, into nothing but sums: what a device reads at most.

A product of a matrix and a vector reads as much and does more; a library's sum is seldom made for
gigabytes. What no kernel here reaches is no limit that decoding could be held to.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILES = (4096, 8192, 16384)
"""Numbers that a program reads at once."""
_TURNS = (1, 4)
"""How often it does."""
_WARPS = (4, 8)
_CHUNK = max(_TILES) * max(_TURNS)


@triton.jit
def _sums(data, out, TILE: tl.constexpr, TURNS: tl.constexpr):
    program = tl.program_id(0)
    places = program * (TILE * TURNS) + tl.arange(0, TILE)
    total = tl.zeros((TILE,), tl.float32)
    for turn in tl.static_range(TURNS):
        total += tl.load(data + places + turn * TILE)
    tl.store(out + program, tl.sum(total))


def readers(buffer: Tensor) -> list[Callable[[], Tensor]]:
    """Ways to read a buffer, to be timed: each gives partial sums, which add up to the buffer's.

    Args:
        buffer: contiguous float32, up to 8 GiB; what is no whole chunk of 65,536 numbers at its end
            is left out.
    """
    flat = buffer.view(-1)
    flat = flat[: flat.numel() // _CHUNK * _CHUNK]
    found: list[Callable[[], Tensor]] = []
    for tile, turns, warps in product(_TILES, _TURNS, _WARPS):
        out = torch.empty(flat.numel() // (tile * turns), dtype=torch.float32, device=flat.device)
        found.append(partial(_read, flat, out, tile, turns, warps))
    return found


def _read(data: Tensor, out: Tensor, tile: int, turns: int, warps: int) -> Tensor:
    _sums[(out.numel(),)](data, out, tile, turns, num_warps=warps)
    return out
