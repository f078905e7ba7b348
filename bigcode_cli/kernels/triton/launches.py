"""The kernels of ``wide``, launched: which grid, which layout, which arguments.

Nothing here is tuned: a row is as many numbers as a few vector loads of each thread, and rows are
many. Every function works on contiguous tensors and waits for nothing.
"""

import torch
from torch import Tensor

from bigcode_cli.kernels.triton import matrix, wide
from bigcode_cli.kernels.weights import Geometry, Norm

PLACE_BLOCK = 1024
RANK_BLOCK = 4096
MEASURE_BLOCK = 8192

_NARROW = 4096
"""Width up to which four warps hold a row: 32 numbers a thread."""


def add_norm(
    norm: Norm,
    hidden: Tensor,
    out: Tensor,
    *,
    branch: Tensor | None = None,
    offset: Tensor | None = None,
    overlaps: bool = False,
) -> Tensor:
    """``out``: the norm of ``hidden``, which takes in ``branch``; see ``wide.add_norm``.

    Args:
        hidden, branch, out: ``(rows, width)``, each of any float dtype.
        offset: float32 ``(width,)``.
        overlaps: the kernel may begin before the last one has ended.
    """
    rows, width = hidden.shape
    padded = power_of_two(width)
    wide.add_norm[(rows,)](
        hidden,
        hidden if branch is None else branch,
        hidden if offset is None else offset,
        norm.weight,
        norm.bias,
        out,
        norm.epsilon,
        K=width,
        PADDED=padded,
        HAS_BRANCH=branch is not None,
        HAS_OFFSET=offset is not None,
        PDL=overlaps,
        num_warps=4 if padded <= _NARROW else 8,
        **launch_options(overlaps),
    )
    return out


def place(
    geometry: Geometry,
    projected: Tensor,
    query: Tensor,
    cache: Tensor,
    lengths: Tensor,
    *,
    overlaps: bool = False,
) -> None:
    """Queries, keys and values of one new token a row: see ``wide.place``."""
    rows, columns = projected.shape
    wide.place[(rows, -(-columns // PLACE_BLOCK))](
        projected,
        query,
        cache,
        lengths,
        cache.shape[2],
        cache.stride(0),
        N=columns,
        HEADS=geometry.heads,
        HEAD_DIM=geometry.head_dim,
        KV_HEADS=geometry.kv_heads,
        BLOCK=PLACE_BLOCK,
        PDL=overlaps,
        **launch_options(overlaps),
    )


def rank_blocks(vocab: int) -> int:
    """Into how many blocks ``rank`` divides a row of logits."""
    return -(-vocab // RANK_BLOCK)


def rank(logits: Tensor, best: Tensor, best_id: Tensor, *, overlaps: bool = False) -> None:
    """The best of each block of logits: see ``wide.rank``."""
    rows, vocab = logits.shape
    wide.rank[(rows, rank_blocks(vocab))](
        logits,
        best,
        best_id,
        N=vocab,
        BLOCK=RANK_BLOCK,
        PDL=overlaps,
        **launch_options(overlaps),
    )


def pick(
    best: Tensor,
    best_id: Tensor,
    ids: Tensor,
    told: Tensor,
    lengths: Tensor,
    active: Tensor,
    *,
    overlaps: bool = False,
) -> None:
    """Each row's best of ``(rows, blocks)``, and one token more in its cache: ``matrix.pick``."""
    rows, blocks = best.shape
    matrix.pick[(rows,)](
        best,
        best_id,
        ids,
        told,
        lengths,
        active,
        rows,
        BLOCKS=blocks,
        PADDED=power_of_two(blocks),
        PDL=overlaps,
        num_warps=1,
        **launch_options(overlaps),
    )


def measure(logits: Tensor, targets: Tensor, *, detail: bool) -> Tensor:
    """Float32 ``(3, rows)`` or, without detail, ``(1, rows)``: see ``wide.measure``.

    The slow twin is ``backends.likelihood.measure``.
    """
    rows, vocab = logits.shape
    told = torch.empty(3 if detail else 1, rows, dtype=torch.float32, device=logits.device)
    block = min(MEASURE_BLOCK, power_of_two(vocab))
    wide.measure[(rows,)](
        logits, targets, told, rows, N=vocab, BLOCK=block, DETAIL=detail, num_warps=8
    )
    return told


def launch_options(overlaps: bool) -> dict[str, bool]:
    """What a launch that may overlap is told; the interpreter knows no such option."""
    return {"launch_pdl": True} if overlaps else {}


def power_of_two(count: int) -> int:
    """The least that is not below."""
    return 1 << (count - 1).bit_length()
