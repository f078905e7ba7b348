"""A whole decoding step of one row as one launch: a persistent kernel.

Launched one by one, five kernels a layer spend more time on beginning and ending than on reading
weights, once a model is small or the memory fast. Here one program sits on each multiprocessor
from the embedding to the logits. Each owns the same share of every matrix's rows, and what it needs
of the next matrix is on its way before the vector to multiply it by is there: weights depend on
nobody.

Vectors go from one program to all others by ``_post`` and ``_await``: each number lies in one word
with the mark of its writing, so that whoever reads it sees whether it is the one that is wanted.
That takes one way to memory and one back, where a barrier takes three and a fence (the protocol is
LL of NCCL). Nothing is overwritten too early: a program writes a vector after it has read the one
before whole, to which each program has added what it made of all it had to read.

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
def _post(words, bits, mark, mask):
    """Store 32 bits with their mark, for any program to await."""
    word = (mark.to(tl.int64) << 32) | (bits.to(tl.int64) & 0xFFFFFFFF)
    tl.store(words, word, mask=mask)


@triton.jit
def _post_number(words, number, mark, mask):
    """Store a float32 with its mark."""
    _post(words, number.to(tl.int32, bitcast=True), mark, mask)


@triton.jit
def _await(words, mark, mask):
    """The 32 bits of each word, once all bear this mark; whatever bits where the mask is 0."""
    held = tl.load(words, mask=mask, other=0, volatile=True)
    while tl.sum((((held >> 32).to(tl.int32) != mark) & mask).to(tl.int32)) > 0:
        held = tl.load(words, mask=mask, other=0, volatile=True)
    return held.to(tl.int32)


@triton.jit
def _await_numbers(words, mark, mask):
    """The float32 of each word, as ``_await``; 0 where the mask is."""
    numbers = _await(words, mark, mask).to(tl.float32, bitcast=True)
    return tl.where(mask, numbers, 0.0)


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
def _normed(hidden, mark, gain, shift, epsilon, K: tl.constexpr, BK: tl.constexpr):
    """LayerNorm of ``hidden`` ``(K,)``, awaited, in two passes over registers; 0 beyond."""
    k = tl.arange(0, BK)
    values = _await_numbers(hidden + k, mark, k < K)
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
def _awaited_inner(
    inner, mark, K: tl.constexpr, BK: tl.constexpr, WORD: tl.constexpr, NUMBER: tl.constexpr
):  # fmt: skip
    """What ``_finish`` posted of the up-projection, dealt (see ``_dealt``)."""
    if NUMBER == tl.float32:
        k = tl.arange(0, BK)
        return _dealt(_await_numbers(inner + k, mark, k < K), BK, WORD)
    else:  # noqa: RET505
        k = tl.arange(0, BK // 2)
        pairs = _await(inner + k, mark, k < K // 2)
        pairs = tl.where(k < K // 2, pairs, 0)
        even, odd = _number(pairs, 0, NUMBER), _number(pairs, 1, NUMBER)
        if WORD == 2:
            return even, odd
        else:  # noqa: RET505
            first, third = tl.split(tl.reshape(even, [BK // 4, 2]))
            second, fourth = tl.split(tl.reshape(odd, [BK // 4, 2]))
            return first, second, third, fourth


@triton.jit
def _finish(
    y, n, end, out, mark, cache, slot, capacity,
    BN: tl.constexpr, NUMBER: tl.constexpr, EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
):  # fmt: skip
    """What is done with outputs ``y`` ``(BN,)`` of rows ``n``."""
    here = n < end
    if EPILOGUE == STORE:
        y = activated(y, ACTIVATION)
        if NUMBER == tl.float32:
            _post_number(out + n, y, mark, here)
        else:
            even, odd = tl.split(tl.reshape(y.to(NUMBER).to(tl.int16, bitcast=True), [BN // 2, 2]))
            pairs = (odd.to(tl.int32) << 16) | (even.to(tl.int32) & 0xFFFF)
            # A share begins and ends with a pair.
            pair = tl.min(n, 0) // 2 + tl.arange(0, BN // 2)
            _post(out + pair, pairs, mark, pair < end // 2)
    elif EPILOGUE == ADD:
        _post_number(out + n, y, mark, here)
    elif EPILOGUE == APPEND:
        y = y.to(NUMBER)
        _post_number(out + n, y.to(tl.float32), mark, here)
        is_query, _, head, in_slot = place_of(n, HEADS, HEAD_DIM, KV_HEADS)
        held = (head * capacity + slot) * (2 * HEAD_DIM) + in_slot
        tl.store(cache + held, y, mask=here & (is_query == 0))
    else:
        tl.store(out + n, y, mask=here)


@triton.jit
def _multiply(
    tile, tile_1, dealt, weight, scale, bias, first, end, out, mark, cache, slot, capacity,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, WEIGHT: tl.constexpr, WORD: tl.constexpr,
    NUMBER: tl.constexpr, EPILOGUE: tl.constexpr, ACTIVATION: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
):  # fmt: skip
    """Rows ``first`` to ``end`` of a matrix times a vector.

    Args:
        dealt: the vector, 0 beyond ``K`` (see ``_dealt``).
        tile, tile_1: the first two pieces, asked for long ago.

    Returns:
        of ``RANK``: the best of the outputs, its row, and whether any is no number.
    """
    top = -float("inf")
    winner = 0
    broken = 0
    for at in tl.range(0, tl.cdiv(end - first, BN), 2):
        # Two by name and not in a row: to move what is on its way is to wait for it.
        for half in tl.static_range(2):
            n = first + (at + half) * BN + tl.arange(0, BN)
            added = tl.zeros([BN], tl.float32)
            if EPILOGUE != RANK:
                added = tl.load(bias + n, mask=n < end, other=0.0).to(tl.float32)
            if EPILOGUE == ADD:
                # None but this program ever writes these.
                old = tl.load(out + n, mask=n < end, other=0).to(tl.int32)
                added += old.to(tl.float32, bitcast=True)
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
                y, n, end, out, mark, cache, slot, capacity, BN, NUMBER, EPILOGUE,
                ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
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
def _chunk(length, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """How many slots a split takes, and how many splits there are; the new slot is no part."""
    chunk = tl.maximum(tl.cdiv(tl.cdiv(length, SPLITS), BLOCK), 1) * BLOCK
    return chunk, tl.maximum(tl.cdiv(length, chunk), 1)


@triton.jit
def _absorb(asked, keys, values, is_slot, factor, top, total, mixed):
    """Take a block of slots into the running softmax (Dao 2022)."""
    scores = tl.dot(asked, tl.trans(keys), input_precision="ieee") * factor
    scores = tl.where(is_slot[None, :], scores, -float("inf"))
    higher = tl.maximum(top, tl.max(scores, 1))
    weights = tl.exp2(scores - higher[:, None])
    shrink = tl.exp2(top - higher)
    total = total * shrink + tl.sum(weights, 1)
    mixed = tl.dot(weights.to(values.dtype), values, mixed * shrink[:, None],
                   input_precision="ieee")  # fmt: skip
    return higher, total, mixed


@triton.jit
def _attend(
    item, projected, cache, length, parts, maxima, sums, mark, factor, capacity,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One split of one block of 16 heads: its weighted sum, its highest score and its total.

    The new slot is the first split's, which awaits its key and value as all await their queries;
    the other slots were written by earlier launches.

    Args:
        projected: words of the projection's outputs.
        cache: ``(KV_HEADS, capacity, 2 * HEAD_DIM)``.
        parts: words ``(SPLITS, HEADS, HEAD_DIM)``; ``maxima``, ``sums`` ``(SPLITS, HEADS)``.
        factor: of the scores, times log2(e).
    """
    SHARED: tl.constexpr = HEADS // KV_HEADS
    HEAD_BLOCKS: tl.constexpr = (SHARED + 15) // 16
    split = item % SPLITS
    kv_head = item // SPLITS // HEAD_BLOCKS
    in_group = (item // SPLITS % HEAD_BLOCKS) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)
    head = kv_head * SHARED + in_group
    here = in_group < SHARED
    d = tl.arange(0, HEAD_DIM)
    chunk, used = _chunk(length, SPLITS, BLOCK)
    if split < used:
        first = split * chunk
        end = tl.minimum(first + chunk, length)
        held = cache + kv_head.to(tl.int64) * capacity * (2 * HEAD_DIM)
        slot = first + tl.arange(0, BLOCK)
        inside = slot[:, None] * (2 * HEAD_DIM) + d[None, :]
        keys = tl.load(held + inside, mask=(slot < end)[:, None], other=0.0)
        values = tl.load(held + HEAD_DIM + inside, mask=(slot < end)[:, None], other=0.0)
        # With one key head all queries come first, else each is followed by its key and value.
        if KV_HEADS == 1:
            at = head * HEAD_DIM
            new = HEADS * HEAD_DIM
        else:
            at = head * (3 * HEAD_DIM)
            new = kv_head * (3 * HEAD_DIM) + HEAD_DIM
        wanted = here[:, None] & (d >= 0)[None, :]
        query = _await_numbers(projected + at[:, None] + d[None, :], mark, wanted)
        asked = query.to(keys.dtype)
        top = tl.full([HEAD_BLOCK], -float("inf"), tl.float32)
        total = tl.zeros([HEAD_BLOCK], tl.float32)
        mixed = tl.zeros([HEAD_BLOCK, HEAD_DIM], tl.float32)
        if split == 0:
            key = _await_numbers(projected + new + d, mark, d >= 0)
            value = _await_numbers(projected + new + HEAD_DIM + d, mark, d >= 0)
            top = tl.sum(query * key[None, :], 1) * factor
            total += 1.0
            mixed += value[None, :]
        if first < end:
            top, total, mixed = _absorb(
                asked, keys, values, slot < end, factor, top, total, mixed
            )
            for start in tl.range(first + BLOCK, end, BLOCK):
                slot = start + tl.arange(0, BLOCK)
                inside = slot[:, None] * (2 * HEAD_DIM) + d[None, :]
                keys = tl.load(held + inside, mask=(slot < end)[:, None], other=0.0)
                values = tl.load(held + HEAD_DIM + inside, mask=(slot < end)[:, None], other=0.0)
                top, total, mixed = _absorb(
                    asked, keys, values, slot < end, factor, top, total, mixed
                )
        _post_number(maxima + split * HEADS + head, top, mark, here)
        _post_number(sums + split * HEADS + head, total, mark, here)
        place = split * (HEADS * HEAD_DIM) + head[:, None] * HEAD_DIM + d[None, :]
        _post_number(parts + place, mixed, mark, wanted)


@triton.jit
def _join(
    head, parts, maxima, sums, length, attended, mark,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What one head attended to: the parts by their share of the softmax (flash-decoding)."""
    _, used = _chunk(length, SPLITS, BLOCK)
    split = tl.arange(0, SPLITS)
    d = tl.arange(0, HEAD_DIM)
    tops = _await_numbers(maxima + split * HEADS + head, mark, split < used)
    totals = _await_numbers(sums + split * HEADS + head, mark, split < used)
    tops = tl.where(split < used, tops, -float("inf"))
    share = tl.exp2(tops - tl.max(tops, 0))
    place = split[:, None] * (HEADS * HEAD_DIM) + head * HEAD_DIM + d[None, :]
    wanted = (split < used)[:, None] & (d >= 0)[None, :]
    mixed = tl.sum(_await_numbers(parts + place, mark, wanted) * share[:, None], 0)
    mixed /= tl.sum(totals * share, 0)
    _post_number(attended + head * HEAD_DIM + d, mixed, mark, d >= 0)


@triton.jit
def _share(N: tl.constexpr, UNIT: tl.constexpr):
    """Which of ``N`` rows this program owns, in whole units."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    return program * (N // UNIT) // programs * UNIT, (program + 1) * (N // UNIT) // programs * UNIT


@triton.jit
def _embed(
    ids, length, tokens, token_scale, positions, hidden, mark, own, own_end,
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
        _post_number(hidden + n, value, mark, n < own_end)


@triton.jit
def step(
    table, ids, lengths, tokens, token_scale, positions,
    hidden, projected, attended, inner, parts, maxima, sums, logits, best, best_id, clock,
    layers, epsilon, factor, capacity,
    WIDTH: tl.constexpr, INNER: tl.constexpr, VOCAB: tl.constexpr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, KV_HEADS: tl.constexpr,
    ACTIVATION: tl.constexpr, WEIGHT: tl.constexpr, WORD: tl.constexpr, NUMBER: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, LONG_BN: tl.constexpr, LONG_BK: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Feed ``ids``; ``logits``, ``best`` and ``best_id`` tell what comes next.

    Grid: no more programs than are sure to run at once, and none without a share of every matrix.

    Args:
        table: int64 ``(layers + 1, FIELDS)``: addresses of each layer's tensors; in the last row
            those of the final norm and of the head.
        tokens, token_scale, positions: the embeddings.
        hidden, projected, attended, inner: int64 words, of ``WIDTH``, the projection's outputs,
            ``WIDTH`` and ``INNER`` numbers.
        parts, maxima, sums: see ``_attend``.
        logits: float32 ``(VOCAB,)``.
        best, best_id: of each program's share of the logits.
        clock: int32 ``(1,)``: no mark of an earlier launch is above it.
        factor: of the scores, times log2(e).
        NUMBER: of norms, biases and the cache; ``WEIGHT``: of matrices, ``WORD`` of them in 32
            bits.
        BN, BK: rows and columns at a time of matrices ``WIDTH`` wide, ``LONG_…`` of the other; no
            row is longer.
        SPLITS, BLOCK: of the attention.
    """
    PROJECTED: tl.constexpr = (HEADS + 2 * KV_HEADS) * HEAD_DIM
    GROUPS: tl.constexpr = KV_HEADS * ((HEADS // KV_HEADS + 15) // 16)
    program, programs = tl.program_id(0), tl.num_programs(0)
    mark = tl.load(clock) + 1
    length = tl.load(lengths)
    own, own_end = _share(WIDTH, 1)
    wide, wide_end = _share(INNER, 2)
    first, end = _share(PROJECTED, 1)

    w, s, b = _addresses(table, 0, PROJECTION, NUMBER)
    tile = _ask(w, 0, first, end, WIDTH, BN, BK, WORD)
    tile_1 = _ask(w, 1, first, end, WIDTH, BN, BK, WORD)
    gain, shift = _gains(table, 0, NORM_1, NUMBER, WIDTH, BK)
    _embed(
        ids, length, tokens, token_scale, positions, hidden, mark, own, own_end, WIDTH, WEIGHT, BN
    )

    for layer in tl.range(0, layers, num_stages=1):
        cache = _address(table, layer, CACHE, NUMBER)
        values = _normed(hidden, mark, gain, shift, epsilon, WIDTH, BK)
        _multiply(
            tile, tile_1, _dealt(values, BK, WORD), w, s, b, first, end,
            projected, mark, cache, length, capacity, WIDTH, BN, BK, WEIGHT, WORD, NUMBER,
            APPEND, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        w, s, b = _addresses(table, layer, OUTPUT, NUMBER)
        tile = _ask(w, 0, own, own_end, WIDTH, BN, BK, WORD)
        tile_1 = _ask(w, 1, own, own_end, WIDTH, BN, BK, WORD)
        for item in tl.range(program, GROUPS * SPLITS, programs, num_stages=1):
            _attend(
                item, projected, cache, length, parts, maxima, sums, mark, factor, capacity,
                HEADS, HEAD_DIM, KV_HEADS, SPLITS, BLOCK,
            )  # fmt: skip
        for head in tl.range(programs - 1 - program, HEADS, programs, num_stages=1):
            _join(
                head, parts, maxima, sums, length, attended, mark, HEADS, HEAD_DIM, SPLITS, BLOCK
            )
        gain, shift = _gains(table, layer, NORM_2, NUMBER, WIDTH, BK)
        k = tl.arange(0, BK)
        values = _await_numbers(attended + k, mark, k < WIDTH)
        _multiply(
            tile, tile_1, _dealt(values, BK, WORD), w, s, b, own, own_end,
            hidden, mark + 1, cache, length, capacity, WIDTH, BN, BK, WEIGHT, WORD, NUMBER,
            ADD, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        w, s, b = _addresses(table, layer, UP, NUMBER)
        tile = _ask(w, 0, wide, wide_end, WIDTH, BN, BK, WORD)
        tile_1 = _ask(w, 1, wide, wide_end, WIDTH, BN, BK, WORD)
        values = _normed(hidden, mark + 1, gain, shift, epsilon, WIDTH, BK)
        _multiply(
            tile, tile_1, _dealt(values, BK, WORD), w, s, b, wide, wide_end,
            inner, mark, cache, length, capacity, WIDTH, BN, BK, WEIGHT, WORD, NUMBER,
            STORE, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        w, s, b = _addresses(table, layer, DOWN, NUMBER)
        long = _ask(w, 0, own, own_end, INNER, LONG_BN, LONG_BK, WORD)
        long_1 = _ask(w, 1, own, own_end, INNER, LONG_BN, LONG_BK, WORD)
        _multiply(
            long, long_1, _awaited_inner(inner, mark, INNER, LONG_BK, WORD, NUMBER), w, s, b,
            own, own_end, hidden, mark + 2, cache, length, capacity,
            INNER, LONG_BN, LONG_BK, WEIGHT, WORD, NUMBER,
            ADD, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
        )  # fmt: skip
        mark += 2
        # The head stands where one layer more would have its projection.
        if layer + 1 == layers:
            first, end = _share(VOCAB, 1)
        w, s, b = _addresses(table, layer + 1, PROJECTION, NUMBER)
        tile = _ask(w, 0, first, end, WIDTH, BN, BK, WORD)
        tile_1 = _ask(w, 1, first, end, WIDTH, BN, BK, WORD)
        gain, shift = _gains(table, layer + 1, NORM_1, NUMBER, WIDTH, BK)

    values = _normed(hidden, mark, gain, shift, epsilon, WIDTH, BK)
    top, winner, broken = _multiply(
        tile, tile_1, _dealt(values, BK, WORD), w, s, b, first, end,
        logits, mark, logits, length, capacity, WIDTH, BN, BK, WEIGHT, WORD, NUMBER,
        RANK, ACTIVATION, HEADS, HEAD_DIM, KV_HEADS,
    )  # fmt: skip
    tl.store(best + program, tl.where(broken > 0, float("nan"), top))
    tl.store(best_id + program, winner)
    if program == 0:
        tl.store(clock, mark)
