"""Attention of one new token over the KV cache, as a Triton kernel.

All query heads of a key head (up to 16 a program) take the place of rows in products with the
matrix units, keys and values go by in blocks with a running softmax (Dao 2022). What one row asks
for is little work behind a long wait, so what counts is how little there is to wait for:

- Each warp has slots of its own, and a softmax of its own till the end.
- What earlier steps put into the cache is asked for before the kernel ahead has ended.
- Programs share out the columns of the values, and each reads all keys: no sum is theirs together.
- Only beyond ``WHOLE`` slots are the slots shared out as well (Dao et al. 2023, flash-decoding),
  and the last program to end joins the parts: that takes as long as to read some hundred slots.

How many take part follows from the length that lies on the device, so the same captured launch
serves every length.

Slow twin: ``model.attention.eager``.
"""

import triton
import triton.language as tl

HEAD_BLOCK: tl.constexpr = tl.constexpr(16)
_LINE: tl.constexpr = tl.constexpr(128)
"""Bytes that are brought into the L2 cache together."""


@triton.jit
def attend(
    query, cache, lengths, out, parts, maxima, sums, tickets, factor, capacity, cache_row,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED: tl.constexpr,
    COLUMNS: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr,
    LEAST: tl.constexpr, JOINED: tl.constexpr, WARPS: tl.constexpr, STAGES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid ``(rows, KV_HEADS * blocks of 16 heads, PADDED / COLUMNS * SPLITS)``.

    Args:
        query: ``(rows, HEADS, HEAD_DIM)``.
        cache: ``(rows, KV_HEADS, capacity, 2 * HEAD_DIM)``, the new slot filled; its rows lie
            ``cache_row`` numbers apart, 0 where they are several tokens of one sequence.
        lengths: int32 ``(rows,)``, slots before the new one.
        out: as ``query``.
        parts: float32 ``(groups, SPLITS, 16, COLUMNS)``; ``maxima``, ``sums`` ``(groups, SPLITS,
            16)``; ``tickets`` int32 ``(groups,)``, zeros before and after. A group is some columns
            of a row's block of heads.
        factor: of the scores, times log2(e).
        COLUMNS: of the values that a program has for its own.
        BLOCK: slots at a time, a multiple of 16 for each of ``WARPS``.
        WHOLE: slots up to which there is one split; LEAST: slots of one that is not the last.
        JOINED: parts joined at a time.
    """
    SHARED: tl.constexpr = HEADS // KV_HEADS
    HEAD_BLOCKS: tl.constexpr = (SHARED + 15) // 16
    row = tl.program_id(0)
    kv_head = tl.program_id(1) // HEAD_BLOCKS
    in_group = (tl.program_id(1) % HEAD_BLOCKS) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)
    share = tl.program_id(2) // SPLITS
    split = tl.program_id(2) % SPLITS
    group = (row * (KV_HEADS * HEAD_BLOCKS) + tl.program_id(1)) * (PADDED // COLUMNS) + share
    # The step before wrote the length, and ``embed`` lets nobody begin before that has ended.
    slots = tl.load(lengths + row) + 1
    chunk = tl.maximum(tl.cdiv(slots, SPLITS), LEAST)
    chunk = tl.where(slots <= WHOLE, slots, chunk)
    used = tl.cdiv(slots, chunk)
    if split < used:
        held = cache + row.to(tl.int64) * cache_row + kv_head * capacity * (2 * HEAD_DIM)
        first = split * chunk
        end = tl.minimum(first + chunk, slots)
        if PDL:
            tl.extra.cuda.gdc_launch_dependents()
            _ask_for(
                held + first * (2 * HEAD_DIM), (tl.minimum(end, slots - 1) - first) * 2 * HEAD_DIM,
                share, PADDED // COLUMNS, 32 * WARPS,
            )  # fmt: skip
            tl.extra.cuda.gdc_wait()
        head = row * HEADS + kv_head * SHARED + in_group
        top, total, mixed = _read(
            query + head[:, None] * HEAD_DIM, (in_group < SHARED)[:, None], held,
            share * COLUMNS, first, end, factor, HEAD_DIM, PADDED, COLUMNS, BLOCK, WARPS, STAGES,
        )  # fmt: skip
        column = tl.arange(0, COLUMNS)
        is_last = used == 1
        if used > 1:
            h = tl.arange(0, HEAD_BLOCK)
            part = (group * SPLITS + split) * HEAD_BLOCK + h
            tl.store(maxima + part, top)
            tl.store(sums + part, total)
            tl.store(parts + part[:, None] * COLUMNS + column[None, :], mixed)
            # All threads' stores come before the ticket, which makes them seen by the last one.
            tl.debug_barrier()
            is_last = tl.atomic_add(tickets + group, 1, sem="acq_rel", scope="gpu") == used - 1
        if is_last:
            if used > 1:
                total, mixed = _join(parts, maxima, sums, group, used, COLUMNS, SPLITS, JOINED)
                tl.store(tickets + group, 0)
            column += share * COLUMNS
            place = head[:, None] * HEAD_DIM + column[None, :]
            inside = (in_group < SHARED)[:, None] & (column < HEAD_DIM)[None, :]
            attended = mixed / total[:, None]
            tl.store(out + place, attended.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _ask_for(start, count, share, SHARES: tl.constexpr, THREADS: tl.constexpr):
    """Have ``count`` numbers from ``start`` on brought into the L2 cache; waits for nothing."""
    EACH: tl.constexpr = _LINE // (start.dtype.element_ty.primitive_bitwidth // 8)
    line = tl.arange(0, THREADS) * EACH
    for at in tl.range(share * (THREADS * EACH), count, SHARES * (THREADS * EACH)):
        # Beyond the end there need not be memory.
        place = start + tl.where(at + line < count, at + line, 0)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [place], dtype=tl.int32,
            is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def _read(
    query, is_head, held, column, first, end, factor,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    WARPS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """What slots ``first … end`` add up to, and by which softmax.

    Returns:
        the highest scores ``(16,)``, the sums of all weights under these ``(16,)``, and of the
        weighted values' ``COLUMNS`` columns from ``column`` on.
    """
    EACH: tl.constexpr = BLOCK // WARPS
    d = tl.arange(0, PADDED)
    is_key = (d < HEAD_DIM)[None, None, :]
    asked = tl.load(query + d[None, :], mask=is_head & (d < HEAD_DIM)[None, :], other=0.0)
    asked = tl.broadcast_to(asked[None, :, :], [WARPS, HEAD_BLOCK, PADDED])
    columns = column + tl.arange(0, COLUMNS)
    is_value = (columns < HEAD_DIM)[None, None, :]
    in_block = tl.arange(0, WARPS)[:, None] * EACH + tl.arange(0, EACH)[None, :]
    # Not infinity: a warp may have no slot, and what is less than that is no number.
    top = tl.full([WARPS, HEAD_BLOCK], -1e30, tl.float32)
    total = tl.zeros([WARPS, HEAD_BLOCK], tl.float32)
    mixed = tl.zeros([WARPS, HEAD_BLOCK, COLUMNS], tl.float32)
    for at in tl.range(first, end, BLOCK, num_stages=STAGES):
        slot = at + in_block
        seen = (slot < end)[:, :, None]
        inside = slot[:, :, None] * (2 * HEAD_DIM)
        keys = tl.load(held + inside + d[None, None, :], mask=seen & is_key, other=0.0)
        values = tl.load(
            held + HEAD_DIM + inside + columns[None, None, :], mask=seen & is_value, other=0.0
        )
        scores = tl.dot(asked, tl.permute(keys, (0, 2, 1)), input_precision="ieee") * factor
        scores = tl.where((slot < end)[:, None, :], scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 2))
        weights = tl.exp2(scores - higher[:, :, None])
        shrink = tl.exp2(top - higher)
        total = total * shrink + tl.sum(weights, 2)
        mixed = tl.dot(weights.to(values.dtype), values, mixed * shrink[:, :, None],
                       input_precision="ieee")  # fmt: skip
        top = higher
    highest = tl.max(top, 0)
    shrink = tl.exp2(top - highest[None, :])
    return highest, tl.sum(total * shrink, 0), tl.sum(mixed * shrink[:, :, None], 0)


@triton.jit
def _join(
    parts, maxima, sums, group, used,
    COLUMNS: tl.constexpr, SPLITS: tl.constexpr, JOINED: tl.constexpr,
):  # fmt: skip
    """A group's parts, each weighted by its share of the softmax: their sums, as ``_read``'s."""
    h = tl.arange(0, HEAD_BLOCK)
    column = tl.arange(0, COLUMNS)
    every = tl.arange(0, SPLITS)
    noted = (group * SPLITS + every)[:, None] * HEAD_BLOCK + h[None, :]
    tops = tl.load(
        maxima + noted, mask=(every < used)[:, None], other=-float("inf"), cache_modifier=".cg"
    )
    totals = tl.load(sums + noted, mask=(every < used)[:, None], other=0.0, cache_modifier=".cg")
    top = tl.max(tops, 0)
    total = tl.sum(totals * tl.exp2(tops - top[None, :]), 0)
    mixed = tl.zeros([HEAD_BLOCK, COLUMNS], tl.float32)
    for first in tl.range(0, used, JOINED):
        some = first + tl.arange(0, JOINED)
        at = (group * SPLITS + some)[:, None] * HEAD_BLOCK + h[None, :]
        share = tl.exp2(
            tl.load(
                maxima + at, mask=(some < used)[:, None], other=-float("inf"), cache_modifier=".cg"
            )
            - top[None, :]
        )
        part = tl.load(
            parts + at[:, :, None] * COLUMNS + column[None, None, :],
            mask=(some < used)[:, None, None],
            other=0.0,
            cache_modifier=".cg",
        )
        mixed += tl.sum(part * share[:, :, None], 0)
    return total, mixed
