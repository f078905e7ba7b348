"""What stands between the products of many rows, as Triton kernels.

With many tokens or many rows at once the matrix units are the limit, and cuBLAS's products reach
it. What is left to save is the memory that everything between them passes over:

- ``add_norm``: what a branch adds to the hidden states, and the norm that reads them, in one pass
  with the statistics in registers (Ba et al. 2016);
- ``place``: queries, keys and values out of one product to where attention looks for them;
- ``rank``: the best of each block of logits; ``matrix.pick`` joins the blocks;
- ``measure``: how likely a target is, its rank, and the entropy, out of one reading of the logits,
  by a running maximum and sum (Milakov and Gimelshein 2018).

Slow twins: ``model.layers`` for ``add_norm``, ``backends.plain_ops`` for ``place`` and ``rank``,
``backends.likelihood`` for ``measure``.
"""

import triton
import triton.language as tl

from bigcode_cli.kernels.triton.matrix import _begin, place_of


@triton.jit
def add_norm(
    hidden, branch, offset, weight, bias, out, epsilon,
    K: tl.constexpr, PADDED: tl.constexpr, HAS_BRANCH: tl.constexpr, HAS_OFFSET: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """LayerNorm, one row a program: ``norm(hidden + branch + offset)`` to ``out``.

    Args:
        hidden: ``(rows, K)``; takes in what ``branch`` ``(rows, K)`` adds to it, if there is one.
        offset: float32 ``(K,)``, added for the norm alone, if there is one.
        out: ``(rows, K)``.
    """
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, PADDED)
    here = k < K
    gain = tl.load(weight + k, mask=here, other=0.0).to(tl.float32)
    shift = tl.load(bias + k, mask=here, other=0.0).to(tl.float32)
    _begin(PDL)
    x = tl.load(hidden + row * K + k, mask=here, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        x += tl.load(branch + row * K + k, mask=here, other=0.0).to(tl.float32)
        tl.store(hidden + row * K + k, x.to(hidden.dtype.element_ty), mask=here)
    if HAS_OFFSET:
        x += tl.load(offset + k, mask=here, other=0.0)
    mean = tl.sum(x, 0) / K
    centred = tl.where(here, x - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 0) / K + epsilon)
    y = centred * deviation * gain + shift
    tl.store(out + row * K + k, y.to(out.dtype.element_ty), mask=here)


@triton.jit
def place(
    projected, query, cache, lengths, capacity, cache_row,
    N: tl.constexpr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid ``(rows, blocks of N)``: one new token a row.

    Args:
        projected: ``(rows, N)``, in the order of ``c_attn``.
        query: ``(rows, HEADS, HEAD_DIM)``.
        cache: ``(rows, KV_HEADS, capacity, 2 * HEAD_DIM)``, written at the slots ``lengths``; its
            rows lie ``cache_row`` numbers apart, 0 where they are several tokens of one sequence.
    """
    WIDTH: tl.constexpr = HEADS * HEAD_DIM
    row = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = n < N
    _begin(PDL)
    slot = tl.load(lengths + row)
    values = tl.load(projected + row * N + n, mask=here, other=0.0)
    is_query, in_query, head, in_slot = place_of(n, HEADS, HEAD_DIM, KV_HEADS)
    tl.store(query + row * WIDTH + in_query, values, mask=here & is_query)
    held = row * cache_row + (head * capacity + slot) * (2 * HEAD_DIM) + in_slot
    tl.store(cache + held, values, mask=here & (is_query == 0))


@triton.jit
def rank(logits, best, best_id, N: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """Grid ``(rows, blocks of N)``: the best of a block, the lowest id of equals; NaN if any is.

    Args:
        logits: float32 ``(rows, N)``.
        best: float32 ``(rows, blocks)``; ``best_id`` int32 of that shape.
    """
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    n = block * BLOCK + tl.arange(0, BLOCK)
    here = n < N
    _begin(PDL)
    x = tl.load(logits + row * N + n, mask=here, other=-float("inf"))
    # A maximum passes over what is no number: it is put in by hand, for the host to see.
    broken = tl.max((x != x).to(tl.int32), 0) > 0
    top, index = tl.max(tl.where(x == x, x, -float("inf")), 0, return_indices=True)
    place_ = row * tl.num_programs(1) + block
    tl.store(best + place_, tl.where(broken, float("nan"), top))
    tl.store(best_id + place_, block * BLOCK + index)


# Parts of a text are of all sizes, and none is worth a compilation of its own.
@triton.jit(do_not_specialize=["rows"])
def measure(
    logits, targets, told, rows,
    N: tl.constexpr, BLOCK: tl.constexpr, DETAIL: tl.constexpr,
):  # fmt: skip
    """One row of logits a program.

    Args:
        logits: ``(rows, N)``, of any float dtype.
        targets: int64 ``(rows,)``.
        told: float32 ``(3, rows)`` with ``DETAIL``, else ``(1, rows)``: the log-probability of the
            target, its rank from 1 (of equals the lower id comes first), the entropy in nats.
    """
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    chosen = tl.load(logits + row * N + target).to(tl.float32)
    # Not minus infinity: differences of it are no numbers.
    top = tl.full([], -1e30, tl.float32)
    total = tl.zeros([], tl.float32)
    spread = tl.zeros([], tl.float32)
    before = tl.zeros([], tl.int32)
    for at in tl.range(0, N, BLOCK):
        n = at + tl.arange(0, BLOCK)
        here = n < N
        x = tl.load(logits + row * N + n, mask=here, other=-float("inf"),
                    eviction_policy="evict_first").to(tl.float32)  # fmt: skip
        higher = tl.maximum(top, tl.max(x, 0))
        share = tl.exp(x - higher)
        shrink = tl.exp(top - higher)
        if DETAIL:
            # The sum of p (x - top), not yet divided, stands on the new maximum from here on.
            spread = shrink * (spread + (top - higher) * total)
            spread += tl.sum(share * tl.where(here, x - higher, 0.0), 0)
            ahead = (x > chosen) | ((x == chosen) & (n < target))
            before += tl.sum((here & ahead).to(tl.int32), 0)
        total = shrink * total + tl.sum(share, 0)
        top = higher
    tl.store(told + row, chosen - top - tl.log(total))
    if DETAIL:
        tl.store(told + rows + row, (before + 1).to(tl.float32))
        tl.store(told + 2 * rows + row, tl.log(total) - spread / total)
