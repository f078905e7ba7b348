"""Matrix-vector products with what stands before and after them, as Triton kernels.

One token's step reads every weight once and does two operations on it, so time is bytes over
bandwidth, and what counts is that bytes are asked for without a pause:

- ``matvec``, for one row: a program owns whole output rows, asks for its first weights before it
  waits for the kernel ahead of it (programmatic dependent launch: weights depend on nobody), and
  for the next ones before it uses those it has. LayerNorm is worked out anew in each program, from
  a vector that lies in the L2 cache, instead of in a launch of its own.
- ``matmul``, for a few rows: the same bytes through the matrix units, rows padded to 16. What a
  program would have to normalise is too much there, so ``normalise`` does it once.

Both end alike (``_finish``): store with an activation, add to the hidden states, put queries,
keys and values where attention looks for them, or store logits with the best of each block.

Slow twins: ``model.layers`` and ``model.quantize``; tests hold the kernels to them.
"""

import triton
import triton.language as tl

from bigcode_cli.kernels.triton.codes import (
    GROUP,
    columns,
    factors_of,
    fixed,
    lanes,
    times_codes,
    words,
)

STORE: tl.constexpr = tl.constexpr(0)
ADD: tl.constexpr = tl.constexpr(1)
APPEND: tl.constexpr = tl.constexpr(2)
RANK: tl.constexpr = tl.constexpr(3)


@triton.jit
def _tanh(x):
    """Without an exponential that could overflow."""
    shrunk = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - shrunk) / (1.0 + shrunk)
    return tl.where(x < 0, -size, size)


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    """One of ``model.layers.ACTIVATION_FUNCTIONS``; their forms of GELU by tanh are one here."""
    if ACTIVATION == "gelu_tanh":
        x = 0.5 * x * (1.0 + _tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "relu":
        x = tl.maximum(x, 0.0)
    elif ACTIVATION == "silu":
        x = 0.5 * x * (1.0 + _tanh(0.5 * x))
    elif ACTIVATION == "tanh":
        x = _tanh(x)
    return x


@triton.jit
def _begin(PDL: tl.constexpr):
    """Let the next kernel be brought onto the device, then wait for all that the last one wrote."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def _weights(
    weight, n, at, N: tl.constexpr, WHOLE: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr,
    BK: tl.constexpr,
):  # fmt: skip
    """Rows ``n`` and columns ``at … at + BK``: ``(BN, BK)``; codes as ``codes.words``.

    Args:
        WHOLE: ``N`` where no row can be beyond it.
    """
    if BITS != 16:
        tile = words(weight, n, at, N, WHOLE, K, BITS, BK)
    else:
        k = at + tl.arange(0, BK)
        place = n[:, None] * K + k[None, :]
        if WHOLE == N and K % BK == 0:
            tile = tl.load(weight + place, eviction_policy="evict_first")
        else:
            here = (n < N)[:, None] & (k < K)[None, :]
            tile = tl.load(weight + place, mask=here, other=0, eviction_policy="evict_first")
    return tile


@triton.jit
def _row_factors(scale, n, N: tl.constexpr, BITS: tl.constexpr):
    """What outputs ``n`` of codes of eight bits are multiplied by; else nothing."""
    factors = 1.0
    if BITS == 8:
        factors = tl.load(scale + n, mask=n < N, other=0.0)
    return factors


@triton.jit
def _moments(x, row, epsilon, K: tl.constexpr, PADDED: tl.constexpr):
    """Mean and reciprocal standard deviation of a row, in two passes over registers."""
    k = tl.arange(0, PADDED)
    values = tl.load(x + row * K + k, mask=k < K, other=0.0).to(tl.float32)
    mean = tl.sum(values, 0) / K
    centred = tl.where(k < K, values - mean, 0.0)
    return mean, tl.rsqrt(tl.sum(centred * centred, 0) / K + epsilon)


@triton.jit
def _gains(weight, bias, k, K: tl.constexpr, NORM: tl.constexpr):
    """What LayerNorm multiplies columns ``k`` by and adds to them; nobody writes these."""
    gain = 1.0
    shift = 0.0
    if NORM:
        gain = tl.load(weight + k, mask=k < K, other=0.0).to(tl.float32)
        shift = tl.load(bias + k, mask=k < K, other=0.0).to(tl.float32)
    return gain, shift


@triton.jit
def _inputs(x, k, mean, deviation, gain, shift, K: tl.constexpr, NORM: tl.constexpr):
    """Columns ``k`` of the one row, normalised if asked for; 0 beyond its end."""
    values = tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)
    if NORM:
        values = tl.where(k < K, (values - mean) * deviation * gain + shift, 0.0)
    return values


@triton.jit
def _bias(bias, n, N: tl.constexpr, BN: tl.constexpr, HAS_BIAS: tl.constexpr):
    added = tl.zeros([BN], tl.float32)
    if HAS_BIAS:
        added = tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)
    return added


@triton.jit
def _before(out, lengths, m, n, rows, N: tl.constexpr, EPILOGUE: tl.constexpr):
    """What the end needs of what the last kernels wrote: asked for early, it is there in time."""
    old = 0.0
    slot = 0
    if EPILOGUE == ADD:
        here = (m < rows)[:, None] & (n < N)[None, :]
        old = tl.load(out + m[:, None] * N + n[None, :], mask=here, other=0.0)
    if EPILOGUE == APPEND:
        slot = tl.load(lengths + m, mask=m < rows, other=0)
    return old, slot


@triton.jit
def place_of(n, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr):
    """Where output ``n`` of the projection goes.

    Returns:
        whether it is of a query, its place among the queries, its key head, and its place among
        that one's key and value.
    """
    if KV_HEADS == 1:
        is_query = n < HEADS * HEAD_DIM
        return is_query, n, n * 0, n - HEADS * HEAD_DIM
    else:  # noqa: RET505 -- the language allows no return within a branch but in its last place
        head = n // (3 * HEAD_DIM)
        inside = n % (3 * HEAD_DIM)
        return inside < HEAD_DIM, head * HEAD_DIM + inside, head, inside - HEAD_DIM


@triton.jit
def _finish(
    y, added, old, slot, m, n, rows, scale, out, cache, best, best_id, block, blocks, capacity,
    cache_row, N: tl.constexpr, BITS: tl.constexpr, EPILOGUE: tl.constexpr,
    ACTIVATION: tl.constexpr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """What is done with outputs ``y`` ``(BM, BN)`` of rows ``m`` and columns ``n``.

    Args:
        block: of columns, of all ``blocks``.
        cache_row: numbers from a row of the cache to the next; 0 where rows are several tokens of
            one sequence.
    """
    here = (m < rows)[:, None] & (n < N)[None, :]
    if BITS == 8:
        y *= tl.load(scale + n, mask=n < N, other=0.0)[None, :]
    y += added[None, :]
    place = m[:, None] * N + n[None, :]
    if EPILOGUE == STORE:
        y = activated(y, ACTIVATION)
        tl.store(out + place, y.to(out.dtype.element_ty), mask=here)
    elif EPILOGUE == ADD:
        tl.store(out + place, old + y, mask=here)
    elif EPILOGUE == APPEND:
        WIDTH: tl.constexpr = HEADS * HEAD_DIM
        is_query, in_query, head, in_slot = place_of(n, HEADS, HEAD_DIM, KV_HEADS)
        y = y.to(out.dtype.element_ty)
        tl.store(out + m[:, None] * WIDTH + in_query[None, :], y, mask=here & is_query[None, :])
        held = (head[None, :] * capacity + slot[:, None]) * (2 * HEAD_DIM) + in_slot[None, :]
        held += m.to(tl.int64)[:, None] * cache_row
        tl.store(cache + held, y, mask=here & (is_query[None, :] == 0))
    else:
        tl.store(out + place, y, mask=here)
        # A maximum passes over what is no number: it is put in by hand, for the host to see.
        broken = tl.max((y != y).to(tl.int32), 1) > 0
        top, index = tl.max(tl.where(here & (y == y), y, -float("inf")), 1, return_indices=True)
        top = tl.where(broken, float("nan"), top)
        tl.store(best + m * blocks + block, top, mask=m < rows)
        first = block * BN
        tl.store(best_id + m * blocks + block, first + index, mask=m < rows)


@triton.jit
def matvec(
    x, weight, scale, bias, norm_weight, norm_bias, out, cache, lengths, best, best_id,
    epsilon, capacity,
    N: tl.constexpr, K: tl.constexpr, PADDED: tl.constexpr, BITS: tl.constexpr,
    NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr, EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, TILES: tl.constexpr, PDL: tl.constexpr,
    PTX: tl.constexpr,
):  # fmt: skip
    """``y = W norm(x) + b`` for one row; ``TILES`` times ``BLOCK_N`` outputs a program.

    What a program does to the vector is done once for all its tiles, if a row is one block.
    """
    STEPS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    WHOLE: tl.constexpr = N if N % (BLOCK_N * TILES) == 0 else 1
    PARTS: tl.constexpr = BLOCK_K if BITS == 16 else lanes(BLOCK_K, BITS)
    first = tl.program_id(0) * (BLOCK_N * TILES)
    m = tl.arange(0, 1)
    n = first + tl.arange(0, BLOCK_N)
    ahead = _weights(weight, n, 0, N, WHOLE, K, BITS, BLOCK_K)
    factors_ahead = factors_of(scale, n, 0, N, WHOLE, K, BITS, BLOCK_K)
    added = _bias(bias, n, N, BLOCK_N, HAS_BIAS)
    row_factors = _row_factors(scale, n, N, BITS)
    k = tl.arange(0, BLOCK_K) if BITS == 16 else columns(0, BLOCK_K, BITS)
    gain, shift = _gains(norm_weight, norm_bias, k, K, NORM)
    _begin(PDL)
    old, slot = _before(out, lengths, m, n, 1, N, EPILOGUE)
    mean = 0.0
    deviation = 1.0
    if NORM:
        mean, deviation = _moments(x, 0, epsilon, K, PADDED)
    values = _inputs(x, k, mean, deviation, gain, shift, K, NORM)
    if BITS != 16:
        values = fixed(values, BLOCK_K, BITS, PTX)
    for at in tl.static_range(TILES):
        n = first + at * BLOCK_N + tl.arange(0, BLOCK_N)
        if at > 0:
            added = _bias(bias, n, N, BLOCK_N, HAS_BIAS)
            row_factors = _row_factors(scale, n, N, BITS)
            old, slot = _before(out, lengths, m, n, 1, N, EPILOGUE)
        partial = tl.zeros([BLOCK_N, PARTS], tl.float32)
        for step in tl.static_range(STEPS):
            tile = ahead
            factors = factors_ahead
            if step + 1 < STEPS:
                later = (step + 1) * BLOCK_K
                ahead = _weights(weight, n, later, N, WHOLE, K, BITS, BLOCK_K)
                factors_ahead = factors_of(scale, n, later, N, WHOLE, K, BITS, BLOCK_K)
            elif at + 1 < TILES:
                ahead = _weights(weight, n + BLOCK_N, 0, N, WHOLE, K, BITS, BLOCK_K)
                factors_ahead = factors_of(scale, n + BLOCK_N, 0, N, WHOLE, K, BITS, BLOCK_K)
            if STEPS > 1 and at + step > 0:
                if BITS == 16:
                    k = step * BLOCK_K + tl.arange(0, BLOCK_K)
                else:
                    k = columns(step * BLOCK_K, BLOCK_K, BITS)
                gain, shift = _gains(norm_weight, norm_bias, k, K, NORM)
                values = _inputs(x, k, mean, deviation, gain, shift, K, NORM)
                if BITS != 16:
                    values = fixed(values, BLOCK_K, BITS, PTX)
            if BITS == 16:
                partial += tile.to(tl.float32) * values[None, :]
            else:
                partial += times_codes(tile, values, factors, BLOCK_N, BLOCK_K, BITS, PTX)
        y = tl.sum(partial, 1) * row_factors
        # Of sixteen bits, as far as the end is concerned: they have been multiplied.
        _finish(
            y[None, :], added, old, slot, m, n, 1, scale, out, cache, best, best_id,
            tl.program_id(0) * TILES + at, tl.num_programs(0) * TILES, capacity,
            0, N, 16, EPILOGUE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS, BLOCK_N,
        )  # fmt: skip


@triton.jit
def matmul(
    x, weight, scale, bias, out, cache, lengths, best, best_id, rows, capacity, cache_row,
    N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr,
    HAS_BIAS: tl.constexpr, EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """``y = x W^T + b`` for a few rows; ``x`` ``(rows, K)`` is normalised already."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    is_row = (m < rows)[:, None]
    WHOLE: tl.constexpr = N if N % BLOCK_N == 0 else 1
    added = _bias(bias, n, N, BLOCK_N, HAS_BIAS)
    _begin(PDL)
    old, slot = _before(out, lengths, m, n, rows, N, EPILOGUE)
    y = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if BITS == 4:
        GROUPS: tl.constexpr = (K + 63) // 64
        byte = tl.arange(0, 32)
        for group in tl.range(0, GROUPS, num_stages=STAGES):
            even = group * GROUP + 2 * byte[None, :]
            place = m[:, None] * K + even
            low = tl.load(x + place, mask=is_row & (even < K), other=0.0)
            high = tl.load(x + place + 1, mask=is_row & (even + 1 < K), other=0.0)
            held = n[:, None] * (GROUPS * 32) + group * 32 + byte[None, :]
            codes = tl.load(weight + held, mask=(n < N)[:, None], other=0).to(tl.int32)
            factor = tl.load(scale + n * GROUPS + group, mask=n < N, other=0.0)
            part = tl.dot(low, tl.trans(((codes & 15) - 8).to(x.dtype.element_ty)),
                          input_precision="ieee")  # fmt: skip
            part = tl.dot(high, tl.trans(((codes >> 4) - 8).to(x.dtype.element_ty)), part,
                          input_precision="ieee")  # fmt: skip
            y += part * factor[None, :]
    else:
        for at in tl.range(0, K, BLOCK_K, num_stages=STAGES):
            k = at + tl.arange(0, BLOCK_K)
            values = tl.load(x + m[:, None] * K + k[None, :], mask=is_row & (k < K)[None, :],
                             other=0.0)  # fmt: skip
            # Bytes as they are: what feeds the matrix units is converted on its way to them.
            tile = _weights(weight, n, at, N, WHOLE, K, 16, BLOCK_K).to(x.dtype.element_ty)
            y = tl.dot(values, tl.trans(tile), y, input_precision="ieee")
    _finish(
        y, added, old, slot, m, n, rows, scale, out, cache, best, best_id,
        tl.program_id(0), tl.num_programs(0), capacity,
        cache_row, N, BITS, EPILOGUE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS, BLOCK_N,
    )  # fmt: skip


@triton.jit
def normalise(
    x, weight, bias, out, epsilon,
    K: tl.constexpr, PADDED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """LayerNorm, one row a program: ``x`` float32 ``(rows, K)`` to ``out``."""
    row = tl.program_id(0)
    _begin(PDL)
    mean, deviation = _moments(x, row, epsilon, K, PADDED)
    k = tl.arange(0, PADDED)
    gain, shift = _gains(weight, bias, k, K, True)
    values = _inputs(x + row * K, k, mean, deviation, gain, shift, K, True)
    tl.store(out + row * K + k, values.to(out.dtype.element_ty), mask=k < K)


@triton.jit
def embed(
    ids, lengths, tokens, scale, positions, out,
    K: tl.constexpr, BITS: tl.constexpr, BLOCK_K: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The token's and the position's embedding, added in float32.

    Of a step's kernels none begins before the last step has ended: what that wrote, they may read
    without waiting for the kernel ahead of them.
    """
    row = tl.program_id(0)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    token = tl.load(ids + row)
    position = tl.load(lengths + row).to(tl.int64)
    values = tl.load(tokens + token * K + k, mask=k < K, other=0).to(tl.float32)
    if BITS == 8:
        values *= tl.load(scale + token)
    values += tl.load(positions + position * K + k, mask=k < K, other=0.0).to(tl.float32)
    tl.store(out + row * K + k, values, mask=k < K)


@triton.jit
def pick(
    best, best_id, ids, told, lengths, active, rows,
    BLOCKS: tl.constexpr, PADDED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The best of the blocks' best, the lowest id of equals; then one token more in the cache.

    ``told`` float64 ``(2, rows)`` takes the id and its logit, or NaN where any was.
    """
    row = tl.program_id(0)
    block = tl.arange(0, PADDED)
    _begin(PDL)
    tops = tl.load(best + row * BLOCKS + block, mask=block < BLOCKS, other=-float("inf"))
    broken = tl.max((tops != tops).to(tl.int32), 0) > 0
    top, winner = tl.max(tl.where(tops == tops, tops, -float("inf")), 0, return_indices=True)
    id_ = tl.load(best_id + row * BLOCKS + winner)
    tl.store(ids + row, id_.to(tl.int64))
    tl.store(told + row, id_.to(tl.float64))
    tl.store(told + rows + row, tl.where(broken, float("nan"), top).to(tl.float64))
    tl.store(lengths + row, tl.load(lengths + row) + tl.load(active + row))
