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
def _addresses(table, layer, FIELD: tl.constexpr, NUMBER: tl.constexpr):
    """Of a matrix: its weights as words, its factors and its biases."""
    weight = _address(table, layer, FIELD, tl.int32)
    scale = _address(table, layer, FIELD + 1, tl.float32)
    bias = _address(table, layer, FIELD + 2, NUMBER)
    return weight, scale, bias


@triton.jit
def _ask(
    weight, item, first, end,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, WORD: tl.constexpr,
):  # fmt: skip
    """Piece ``item`` of rows ``first`` to ``end``, ``(BN, BK / WORD)``, as words of ``WORD`` weights.

    What is on its way between two loops must be whole registers: numbers of 16 bits would be taken
    apart there, that is, waited for.
    """
    n = first + item * BN + tl.arange(0, BN)
    k = tl.arange(0, BK // WORD)
    if K % BK == 0:
        here = (n < end)[:, None]
    else:
        here = (n < end)[:, None] & (k < K // WORD)[None, :]
    place = n[:, None] * (K // WORD) + k[None, :]
    return tl.load(weight + place, mask=here, other=0, eviction_policy="evict_first")


@triton.jit
def _number(words, AT: tl.constexpr, WEIGHT: tl.constexpr):
    """Number ``AT`` of each word, as float32."""
    if WEIGHT == tl.float32:
        return words.to(tl.float32, bitcast=True)
    elif WEIGHT == tl.bfloat16:  # noqa: RET505 -- a branch that is not compiled returns nothing
        if AT == 0:
            return (words << 16).to(tl.float32, bitcast=True)
        else:  # noqa: RET505
            return (words & -65536).to(tl.float32, bitcast=True)
    elif WEIGHT == tl.float16:
        half = (words >> (16 * AT)).to(tl.int16)
        return half.to(tl.float16, bitcast=True).to(tl.float32)
    else:
        return ((words << (24 - 8 * AT)) >> 24).to(tl.float32)


@triton.jit
def _dealt(values, BK: tl.constexpr, WORD: tl.constexpr):
    """Numbers ``(BK,)`` as a word holds weights: ``WORD`` times every ``WORD``-th of them."""
    if WORD == 1:
        return (values,)
    elif WORD == 2:  # noqa: RET505
        return tl.split(tl.reshape(values, [BK // 2, 2]))
    else:
        even, odd = tl.split(tl.reshape(values, [BK // 4, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        return first, second, third, fourth


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
    tile, tile_1, values, weight, scale, bias, first, end, out, cache, slot, capacity,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, WEIGHT: tl.constexpr, WORD: tl.constexpr,
    EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
):  # fmt: skip
    """Rows ``first`` to ``end`` of a matrix times ``values`` ``(BK,)``, 0 beyond ``K``.

    Args:
        tile, tile_1: the first two pieces, asked for long ago.

    Returns:
        of ``RANK``: the best of the outputs, its row, and whether any is no number.
    """
    top = -float("inf")
    winner = 0
    broken = 0
    dealt = _dealt(values, BK, WORD)
    for at in tl.range(0, tl.cdiv(end - first, BN), 2):
        # Two by name and not in a row: to move what is on its way is to wait for it.
        for half in tl.static_range(2):
            n = first + (at + half) * BN + tl.arange(0, BN)
            added = tl.zeros([BN], tl.float32)
            if EPILOGUE != RANK:
                added = tl.load(bias + n, mask=n < end, other=0.0).to(tl.float32)
            if EPILOGUE == ADD:
                # None but this program ever writes these.
                added += tl.load(out + n, mask=n < end, other=0.0)
            if WEIGHT == tl.int8:
                factor = tl.load(scale + n, mask=n < end, other=0.0)
            product = tl.zeros([BN, BK // WORD], tl.float32)
            for place in tl.static_range(WORD):
                if half == 0:
                    product += _number(tile, place, WEIGHT) * dealt[place][None, :]
                else:
                    product += _number(tile_1, place, WEIGHT) * dealt[place][None, :]
            if half == 0:
                tile = _ask(weight, at + 2, first, end, K, BN, BK, WORD)
            else:
                tile_1 = _ask(weight, at + 3, first, end, K, BN, BK, WORD)
            y = tl.sum(product, 1)
            if WEIGHT == tl.int8:
                y *= factor
            y += added
            _finish(
                y, n, end, out, cache, slot, capacity,
                EPILOGUE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
            )  # fmt: skip
            if EPILOGUE == RANK:
                # A maximum passes over what is no number.
                broken = tl.maximum(broken, tl.max((y != y).to(tl.int32), 0))
                best, index = tl.max(
                    tl.where((n < end) & (y == y), y, -float("inf")), 0, return_indices=True
                )
                winner = tl.where(best > top, first + (at + half) * BN + index, winner)
                top = tl.maximum(top, best)
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
    WIDTH: tl.constexpr, WEIGHT: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """This program's share of the token's and the position's embedding."""
    id_ = tl.load(ids)
    for at in tl.range(own, own_end, BN):
        n = at + tl.arange(0, BN)
        value = tl.load(tokens + id_ * WIDTH + n, mask=n < own_end, other=0).to(tl.float32)
        if WEIGHT == tl.int8:
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
    ACTIVATION: tl.constexpr, WEIGHT: tl.constexpr, WORD: tl.constexpr, NUMBER: tl.constexpr,
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
        NUMBER: of norms, biases and the cache; ``WEIGHT``: of matrices, ``WORD`` of them in 32 bits.
        BN, BK: rows and columns at a time of matrices ``WIDTH`` wide, ``LONG_…`` of the other; no row
            is longer.
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

    w, s, b = _addresses(table, 0, PROJECTION, NUMBER)
    tile = _ask(w, 0, first, end, WIDTH, BN, BK, WORD)
    tile_1 = _ask(w, 1, first, end, WIDTH, BN, BK, WORD)
    gain, shift = _gains(table, 0, NORM_1, NUMBER, WIDTH, BK)
    _embed(
        ids, length, tokens, token_scale, positions, hidden, own, own_end, WIDTH, WEIGHT, BN
    )  # fmt: skip
    _arrive(clock)
    goal += programs
    _wait(clock, goal)

    for layer in tl.range(0, layers, num_stages=1):
        cache = _address(table, layer, CACHE, NUMBER)
        values = _normed(hidden, gain, shift, epsilon, WIDTH, BK)
        _multiply(
            tile, tile_1, values, w, s, b, first, end, query, cache, length, capacity, WIDTH, BN, BK, WEIGHT, WORD,
            APPEND, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        w, s, b = _addresses(table, layer, OUTPUT, NUMBER)
        tile = _ask(w, 0, own, own_end, WIDTH, BN, BK, WORD)
        tile_1 = _ask(w, 1, own, own_end, WIDTH, BN, BK, WORD)
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
            tile, tile_1, values, w, s, b,
            own, own_end, hidden, cache, length, capacity, WIDTH, BN, BK, WEIGHT, WORD,
            ADD, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        w, s, b = _addresses(table, layer, UP, NUMBER)
        tile = _ask(w, 0, wide, wide_end, WIDTH, BN, BK, WORD)
        tile_1 = _ask(w, 1, wide, wide_end, WIDTH, BN, BK, WORD)
        goal += programs
        _wait(clock, goal)
        values = _normed(hidden, gain, shift, epsilon, WIDTH, BK)
        _multiply(
            tile, tile_1, values, w, s, b,
            wide, wide_end, inner, cache, length, capacity, WIDTH, BN, BK, WEIGHT, WORD,
            STORE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        w, s, b = _addresses(table, layer, DOWN, NUMBER)
        long = _ask(w, 0, own, own_end, INNER, LONG_BN, LONG_BK, WORD)
        long_1 = _ask(w, 1, own, own_end, INNER, LONG_BN, LONG_BK, WORD)
        goal += programs
        _wait(clock, goal)
        k = tl.arange(0, LONG_BK)
        values = tl.load(inner + k, mask=k < INNER, other=0.0).to(tl.float32)
        _multiply(
            long, long_1, values, w, s, b, own, own_end, hidden, cache, length, capacity, INNER, LONG_BN, LONG_BK, WEIGHT, WORD,
            ADD, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        _arrive(clock)
        # The head stands where one layer more would have its projection.
        if layer + 1 == layers:
            first, end = _share(VOCAB)
        w, s, b = _addresses(table, layer + 1, PROJECTION, NUMBER)
        tile = _ask(w, 0, first, end, WIDTH, BN, BK, WORD)
        tile_1 = _ask(w, 1, first, end, WIDTH, BN, BK, WORD)
        gain, shift = _gains(table, layer + 1, NORM_1, NUMBER, WIDTH, BK)
        goal += programs
        _wait(clock, goal)

    values = _normed(hidden, gain, shift, epsilon, WIDTH, BK)
    top, winner, broken = _multiply(
        tile, tile_1, values, w, s, b, first, end, logits, logits, length, capacity, WIDTH, BN, BK, WEIGHT, WORD,
        RANK, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
    )  # fmt: skip
    tl.store(best + program, tl.where(broken > 0, float("nan"), top))
    tl.store(best_id + program, winner)
    if program == 0:
        tl.store(clock + 1, goal)
