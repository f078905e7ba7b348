"""A whole decoding step of one row as one launch: a persistent kernel.

Launched one by one, five kernels a layer spend more time on beginning and ending than on reading
weights, once a model is small or the memory fast. Here one program sits on each multiprocessor
from the embedding to the logits. Each owns the same share of every matrix's rows; between two
products all wait for each other at a counter in memory (``_wait``), and what a program needs of the
next matrix is on its way before that: weights depend on nobody.

The attention's parts (Dao et al. 2023, flash-decoding) are joined by every program for itself, as
each needs all of them: a wait less than joining them first.

Slow twin: ``backends.plain_ops``, as of the kernels launched one by one.
"""

import triton
import triton.language as tl

from bigcode_cli.kernels.triton.matrix import activated, place_of

STORE: tl.constexpr = tl.constexpr(0)
ADD: tl.constexpr = tl.constexpr(1)
APPEND: tl.constexpr = tl.constexpr(2)
RANK: tl.constexpr = tl.constexpr(3)

# Of a layer's row in the table of addresses, in this order; ``persistent_ops`` fills it in.
NORM_1: tl.constexpr = tl.constexpr(0)
PROJECTION: tl.constexpr = tl.constexpr(2)
OUTPUT: tl.constexpr = tl.constexpr(5)
NORM_2: tl.constexpr = tl.constexpr(8)
UP: tl.constexpr = tl.constexpr(10)
DOWN: tl.constexpr = tl.constexpr(13)
CACHE: tl.constexpr = tl.constexpr(16)
FIELDS: tl.constexpr = tl.constexpr(17)

HEAD_BLOCK: tl.constexpr = tl.constexpr(16)


@triton.jit
def _arrive(counter):
    """Tell that all this program has stored is there for others to see."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def _wait(counter, goal):
    """Until so many have arrived; the counter may wrap around."""
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") - goal < 0:
        pass
    tl.debug_barrier()


@triton.jit
def _address(table, layer, FIELD: tl.constexpr, DTYPE: tl.constexpr):
    """Field of a layer's row as a pointer; PyTorch aligns what it allocates."""
    held = tl.load(table + layer * FIELDS + FIELD)
    return tl.multiple_of(held.to(tl.pointer_type(DTYPE)), 16)


@triton.jit
def _addresses(
    table, layer, FIELD: tl.constexpr, WEIGHT: tl.constexpr, NUMBER: tl.constexpr
):  # fmt: skip
    """Of a matrix: its weights, factors and biases."""
    weight = _address(table, layer, FIELD, WEIGHT)
    scale = _address(table, layer, FIELD + 1, tl.float32)
    bias = _address(table, layer, FIELD + 2, NUMBER)
    return weight, scale, bias


@triton.jit
def _ask(
    weight, item, first, end,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Piece ``item`` ``(BN, BK)`` of rows ``first`` to ``end``; those of one row are neighbours."""
    BLOCKS: tl.constexpr = (K + BK - 1) // BK
    n = first + item // BLOCKS * BN + tl.arange(0, BN)
    k = item % BLOCKS * BK + tl.arange(0, BK)
    if K % BK == 0:
        here = (n < end)[:, None]
    else:
        here = (n < end)[:, None] & (k < K)[None, :]
    place = n[:, None] * K + k[None, :]
    return tl.load(weight + place, mask=here, other=0, eviction_policy="evict_first")


@triton.jit
def _normed(hidden, gain, shift, epsilon, K: tl.constexpr, BK: tl.constexpr):
    """LayerNorm of ``hidden``, float32 ``(K,)``, in two passes over registers; 0 beyond."""
    k = tl.arange(0, BK)
    values = tl.load(hidden + k, mask=k < K, other=0.0)
    mean = tl.sum(values, 0) / K
    centred = tl.where(k < K, values - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 0) / K + epsilon)
    return centred * deviation * gain.to(tl.float32) + shift.to(tl.float32)


@triton.jit
def _gains(
    table, layer, FIELD: tl.constexpr, NUMBER: tl.constexpr, K: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    """Weight and bias of a norm."""
    k = tl.arange(0, BK)
    gain = tl.load(_address(table, layer, FIELD, NUMBER) + k, mask=k < K, other=0.0)
    shift = tl.load(_address(table, layer, FIELD + 1, NUMBER) + k, mask=k < K, other=0.0)
    return gain, shift


@triton.jit
def _finish(
    y, n, end, out, cache, slot, capacity,
    EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
):  # fmt: skip
    """What is done with outputs ``y`` ``(BN,)`` of rows ``n``."""
    here = n < end
    if EPILOGUE == STORE:
        tl.store(out + n, activated(y, ACTIVATION).to(out.dtype.element_ty), mask=here)
    elif EPILOGUE == APPEND:
        is_query, in_query, head, in_slot = place_of(n, HEADS, HEAD_DIM, KV_HEADS)
        y = y.to(out.dtype.element_ty)
        tl.store(out + in_query, y, mask=here & is_query)
        held = (head * capacity + slot) * (2 * HEAD_DIM) + in_slot
        tl.store(cache + held, y, mask=here & (is_query == 0))
    else:
        tl.store(out + n, y, mask=here)


@triton.jit
def _multiply(
    tile, tile_1, values, inputs, weight, scale, bias, first, end, out, cache, slot, capacity,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BITS: tl.constexpr,
    EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
):  # fmt: skip
    """Rows ``first`` to ``end`` of a matrix times a vector.

    Args:
        tile, tile_1: the first two pieces, asked for long ago.
        values: the vector, ``(BK,)``, if rows are no longer than that;
        inputs: else where it lies.

    Returns:
        of ``RANK``: the best of the outputs, its row, and whether any is no number.
    """
    BLOCKS: tl.constexpr = (K + BK - 1) // BK
    top = -float("inf")
    winner = 0
    broken = 0
    y = tl.zeros([BN], tl.float32)
    for item in tl.range(0, tl.cdiv(end - first, BN) * BLOCKS):
        n = first + item // BLOCKS * BN + tl.arange(0, BN)
        tile_2 = _ask(weight, item + 2, first, end, K, BN, BK)
        added = tl.zeros([BN], tl.float32)
        if EPILOGUE != RANK:
            added = tl.load(bias + n, mask=n < end, other=0.0).to(tl.float32)
        if EPILOGUE == ADD:
            # None but this program ever writes these.
            added += tl.load(out + n, mask=n < end, other=0.0)
        if BITS == 8:
            factor = tl.load(scale + n, mask=n < end, other=0.0)
        if BLOCKS > 1:
            k = item % BLOCKS * BK + tl.arange(0, BK)
            values = tl.load(inputs + k, mask=k < K, other=0.0).to(tl.float32)
        sums = tl.sum(tile.to(tl.float32) * values[None, :], 1)
        if BLOCKS > 1:
            y = tl.where(item % BLOCKS == 0, 0.0, y) + sums
        else:
            y = sums
        if item % BLOCKS == BLOCKS - 1:
            z = y
            if BITS == 8:
                z *= factor
            z += added
            _finish(
                z, n, end, out, cache, slot, capacity,
                EPILOGUE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
            )  # fmt: skip
            if EPILOGUE == RANK:
                # A maximum passes over what is no number.
                broken = tl.maximum(broken, tl.max((z != z).to(tl.int32), 0))
                best, index = tl.max(
                    tl.where((n < end) & (z == z), z, -float("inf")), 0, return_indices=True
                )
                winner = tl.where(best > top, first + item // BLOCKS * BN + index, winner)
                top = tl.maximum(top, best)
        tile = tile_1
        tile_1 = tile_2
    return top, winner, broken


@triton.jit
def _attend(
    item, query, cache, length, parts, maxima, sums, factor, capacity,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One split of one block of 16 heads: its weighted sum, its highest score and its total.

    Args:
        query: ``(HEADS, HEAD_DIM)``.
        cache: ``(KV_HEADS, capacity, 2 * HEAD_DIM)``, the new slot filled.
        parts: float32 ``(SPLITS, HEADS, HEAD_DIM)``; ``maxima``, ``sums`` ``(SPLITS, HEADS)``.
        factor: of the scores, times log2(e).
    """
    SHARED: tl.constexpr = HEADS // KV_HEADS
    HEAD_BLOCKS: tl.constexpr = (SHARED + 15) // 16
    split = item % SPLITS
    kv_head = item // SPLITS // HEAD_BLOCKS
    in_group = (item // SPLITS % HEAD_BLOCKS) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)
    head = kv_head * SHARED + in_group
    d = tl.arange(0, HEAD_DIM)
    slots = length + 1
    chunk = tl.cdiv(tl.cdiv(slots, SPLITS), BLOCK) * BLOCK
    first = split * chunk
    end = tl.minimum(first + chunk, slots)
    if first < end:
        here = in_group < SHARED
        place = head[:, None] * HEAD_DIM + d[None, :]
        asked = tl.load(query + place, mask=here[:, None], other=0.0)
        held = cache + kv_head.to(tl.int64) * capacity * (2 * HEAD_DIM)
        top = tl.full([HEAD_BLOCK], -float("inf"), tl.float32)
        total = tl.zeros([HEAD_BLOCK], tl.float32)
        mixed = tl.zeros([HEAD_BLOCK, HEAD_DIM], tl.float32)
        for at in tl.range(first, end, BLOCK):
            slot = at + tl.arange(0, BLOCK)
            seen = (slot < end)[:, None]
            inside = slot[:, None] * (2 * HEAD_DIM) + d[None, :]
            keys = tl.load(held + inside, mask=seen, other=0.0)
            values = tl.load(held + HEAD_DIM + inside, mask=seen, other=0.0)
            scores = tl.dot(asked, tl.trans(keys), input_precision="ieee") * factor
            scores = tl.where((slot < end)[None, :], scores, -float("inf"))
            higher = tl.maximum(top, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            shrink = tl.exp2(top - higher)
            total = total * shrink + tl.sum(weights, 1)
            mixed = tl.dot(weights.to(values.dtype), values, mixed * shrink[:, None],
                           input_precision="ieee")  # fmt: skip
            top = higher
        tl.store(maxima + split * HEADS + head, top, mask=here)
        tl.store(sums + split * HEADS + head, total, mask=here)
        tl.store(parts + split * (HEADS * HEAD_DIM) + place, mixed, mask=here[:, None])


@triton.jit
def _joined(
    parts, maxima, sums, length,
    HEADS: tl.constexpr, PADDED: tl.constexpr, HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What all heads attended to, ``(PADDED * HEAD_DIM,)``: parts by their share of the softmax."""
    slots = length + 1
    chunk = tl.cdiv(tl.cdiv(slots, SPLITS), BLOCK) * BLOCK
    used = tl.cdiv(slots, chunk)
    h = tl.arange(0, PADDED)
    d = tl.arange(0, HEAD_DIM)
    place = h[:, None] * HEAD_DIM + d[None, :]
    top = tl.full([PADDED], -float("inf"), tl.float32)
    for split in tl.static_range(SPLITS):
        here = (h < HEADS) & (split < used)
        top = tl.maximum(top, tl.load(maxima + split * HEADS + h, mask=here, other=-float("inf")))
    top = tl.where(h < HEADS, top, 0.0)
    total = tl.zeros([PADDED], tl.float32)
    mixed = tl.zeros([PADDED, HEAD_DIM], tl.float32)
    for split in tl.static_range(SPLITS):
        here = (h < HEADS) & (split < used)
        own = tl.load(maxima + split * HEADS + h, mask=here, other=-float("inf"))
        share = tl.exp2(own - top)
        total += share * tl.load(sums + split * HEADS + h, mask=here, other=0.0)
        part = tl.load(parts + split * (HEADS * HEAD_DIM) + place, mask=here[:, None], other=0.0)
        mixed += share[:, None] * part
    mixed = mixed / tl.where(h < HEADS, total, 1.0)[:, None]
    return tl.reshape(mixed, [PADDED * HEAD_DIM])


@triton.jit
def _share(N: tl.constexpr):
    """Which of ``N`` rows this program owns."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    return program * N // programs, (program + 1) * N // programs


@triton.jit
def _embed(
    ids, length, tokens, token_scale, positions, hidden, own, own_end,
    WIDTH: tl.constexpr, BITS: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """This program's share of the token's and the position's embedding."""
    id_ = tl.load(ids)
    for at in tl.range(own, own_end, BN):
        n = at + tl.arange(0, BN)
        value = tl.load(tokens + id_ * WIDTH + n, mask=n < own_end, other=0).to(tl.float32)
        if BITS == 8:
            value *= tl.load(token_scale + id_)
        place = length.to(tl.int64) * WIDTH + n
        value += tl.load(positions + place, mask=n < own_end, other=0.0).to(tl.float32)
        tl.store(hidden + n, value, mask=n < own_end)


@triton.jit
def step(
    table, ids, lengths, tokens, token_scale, positions,
    hidden, query, inner, logits, parts, maxima, sums, best, best_id, clock,
    layers, epsilon, factor, capacity,
    WIDTH: tl.constexpr, INNER: tl.constexpr, VOCAB: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    ACTIVATION: tl.constexpr, BITS: tl.constexpr, WEIGHT: tl.constexpr, NUMBER: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, LONG_BN: tl.constexpr, LONG_BK: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Feed ``ids``; ``logits``, ``best`` and ``best_id`` tell what comes next.

    Grid: as many programs as there are multiprocessors, all of them at once on the device.

    Args:
        table: int64 ``(layers + 1, FIELDS)``: addresses of each layer's tensors; in the last row
            those of the final norm and of the head.
        tokens, token_scale, positions: the embeddings.
        hidden, query, inner, logits: see ``Buffers``.
        parts, maxima, sums: see ``_attend``.
        best, best_id: of each program's share of the logits.
        clock: int32 ``(2,)``: arrivals so far, and what they were when the last launch ended.
        factor: of the scores, times log2(e).
        NUMBER: of norms, biases and the cache; ``WEIGHT``: of matrices, ``BITS`` 8 or 16 for any
            float.
        BN, BK: rows and columns at a time of matrices ``WIDTH`` wide, ``LONG_…`` of the other.
        SPLITS, BLOCK: of the attention.
    """
    PROJECTED: tl.constexpr = (HEADS + 2 * KV_HEADS) * HEAD_DIM
    GROUPS: tl.constexpr = KV_HEADS * ((HEADS // KV_HEADS + 15) // 16)
    program, programs = tl.program_id(0), tl.num_programs(0)
    goal = tl.load(clock + 1)
    length = tl.load(lengths)
    own, own_end = _share(WIDTH)
    wide, wide_end = _share(INNER)
    first, end = _share(PROJECTED)

    w, s, b = _addresses(table, 0, PROJECTION, WEIGHT, NUMBER)
    tile = _ask(w, 0, first, end, WIDTH, BN, BK)
    tile_1 = _ask(w, 1, first, end, WIDTH, BN, BK)
    gain, shift = _gains(table, 0, NORM_1, NUMBER, WIDTH, BK)
    _embed(
        ids, length, tokens, token_scale, positions, hidden, own, own_end, WIDTH, BITS, BN
    )  # fmt: skip
    _arrive(clock)
    goal += programs
    _wait(clock, goal)

    for layer in tl.range(0, layers, num_stages=1):
        cache = _address(table, layer, CACHE, NUMBER)
        values = _normed(hidden, gain, shift, epsilon, WIDTH, BK)
        _multiply(
            tile, tile_1, values, inner, w, s, b, first, end, query, cache, length, capacity, WIDTH, BN, BK, BITS,
            APPEND, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        w, s, b = _addresses(table, layer, OUTPUT, WEIGHT, NUMBER)
        tile = _ask(w, 0, own, own_end, WIDTH, BN, BK)
        tile_1 = _ask(w, 1, own, own_end, WIDTH, BN, BK)
        goal += programs
        _wait(clock, goal)
        for item in tl.range(program, GROUPS * SPLITS, programs, num_stages=1):
            _attend(
                item, query, cache, length, parts, maxima, sums, factor, capacity,
                HEADS, HEAD_DIM, KV_HEADS, SPLITS, BLOCK,
            )  # fmt: skip
        _arrive(clock)
        gain, shift = _gains(table, layer, NORM_2, NUMBER, WIDTH, BK)
        goal += programs
        _wait(clock, goal)
        values = _joined(
            parts, maxima, sums, length, HEADS, BK // HEAD_DIM, HEAD_DIM, SPLITS, BLOCK
        )
        _multiply(
            tile, tile_1, values, inner, w, s, b,
            own, own_end, hidden, cache, length, capacity, WIDTH, BN, BK, BITS,
            ADD, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        w, s, b = _addresses(table, layer, UP, WEIGHT, NUMBER)
        tile = _ask(w, 0, wide, wide_end, WIDTH, BN, BK)
        tile_1 = _ask(w, 1, wide, wide_end, WIDTH, BN, BK)
        goal += programs
        _wait(clock, goal)
        values = _normed(hidden, gain, shift, epsilon, WIDTH, BK)
        _multiply(
            tile, tile_1, values, inner, w, s, b,
            wide, wide_end, inner, cache, length, capacity, WIDTH, BN, BK, BITS,
            STORE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        w, s, b = _addresses(table, layer, DOWN, WEIGHT, NUMBER)
        long = _ask(w, 0, own, own_end, INNER, LONG_BN, LONG_BK)
        long_1 = _ask(w, 1, own, own_end, INNER, LONG_BN, LONG_BK)
        goal += programs
        _wait(clock, goal)
        k = tl.arange(0, LONG_BK)
        values = tl.load(inner + k, mask=k < INNER, other=0.0).to(tl.float32)
        _multiply(
            long, long_1, values, inner, w, s, b, own, own_end, hidden, cache, length, capacity, INNER, LONG_BN, LONG_BK, BITS,
            ADD, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        # The head stands where one layer more would have its projection.
        if layer + 1 == layers:
            first, end = _share(VOCAB)
        w, s, b = _addresses(table, layer + 1, PROJECTION, WEIGHT, NUMBER)
        tile = _ask(w, 0, first, end, WIDTH, BN, BK)
        tile_1 = _ask(w, 1, first, end, WIDTH, BN, BK)
        gain, shift = _gains(table, layer + 1, NORM_1, NUMBER, WIDTH, BK)
        goal += programs
        _wait(clock, goal)

    values = _normed(hidden, gain, shift, epsilon, WIDTH, BK)
    top, winner, broken = _multiply(
        tile, tile_1, values, inner, w, s, b, first, end, logits, logits, length, capacity, WIDTH, BN, BK, BITS,
        RANK, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
    )  # fmt: skip
    tl.store(best + program, tl.where(broken > 0, float("nan"), top))
    tl.store(best_id + program, winner)
    if program == 0:
        tl.store(clock + 1, goal)
