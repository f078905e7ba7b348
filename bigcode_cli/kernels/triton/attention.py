"""Attention of one new token over the KV cache, split over its length, as a Triton kernel.

The cache is read once: all query heads of a key head (up to 16 a program) take the place of rows
in one product with the matrix units, keys and values go by in blocks with a running softmax (Dao
2022), and the slots of a row are shared out among the programs (Dao et al. 2023, flash-decoding).
How many take part follows from the length that lies on the device, so the same captured launch
serves every length. The last program of a row to end joins the parts.

Slow twin: ``model.attention.eager``.
"""

import triton
import triton.language as tl

HEAD_BLOCK: tl.constexpr = tl.constexpr(16)


@triton.jit
def attend(
    query, cache, lengths, out, parts, maxima, sums, tickets, factor, capacity, cache_row,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr, LEAST: tl.constexpr, JOINED: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Grid ``(rows, KV_HEADS * blocks of 16 heads, SPLITS)``.

    Args:
        query: ``(rows, HEADS, HEAD_DIM)``.
        cache: ``(rows, KV_HEADS, capacity, 2 * HEAD_DIM)``, the new slot filled; its rows lie
            ``cache_row`` numbers apart, 0 where they are several tokens of one sequence.
        lengths: int32 ``(rows,)``, slots before the new one.
        out: as ``query``.
        parts: float32 ``(groups, SPLITS, 16, PADDED)``; ``maxima``, ``sums`` ``(groups, SPLITS,
            16)``; ``tickets`` int32 ``(groups,)``, zeros before and after. A group is a row's
            block of heads.
        factor: of the scores, times log2(e).
        BLOCK: slots at a time; LEAST: of a split that is not the last, a multiple of that: to join
            parts takes longer than to read some hundred slots.
        JOINED: parts joined at a time.
    """
    SHARED: tl.constexpr = HEADS // KV_HEADS
    HEAD_BLOCKS: tl.constexpr = (SHARED + 15) // 16
    row = tl.program_id(0)
    kv_head = tl.program_id(1) // HEAD_BLOCKS
    in_group = (tl.program_id(1) % HEAD_BLOCKS) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)
    split = tl.program_id(2)
    group = row * (KV_HEADS * HEAD_BLOCKS) + tl.program_id(1)
    d = tl.arange(0, PADDED)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    here = (in_group < SHARED)[:, None] & (d < HEAD_DIM)[None, :]
    place = (row * HEADS + kv_head * SHARED + in_group)[:, None] * HEAD_DIM + d[None, :]
    asked = tl.load(query + place, mask=here, other=0.0)
    slots = tl.load(lengths + row) + 1
    chunk = tl.maximum(tl.cdiv(tl.cdiv(slots, SPLITS), BLOCK) * BLOCK, LEAST)
    used = tl.cdiv(slots, chunk)
    if split < used:
        held = cache + row.to(tl.int64) * cache_row + kv_head * capacity * (2 * HEAD_DIM)
        top = tl.full([HEAD_BLOCK], -float("inf"), tl.float32)
        total = tl.zeros([HEAD_BLOCK], tl.float32)
        mixed = tl.zeros([HEAD_BLOCK, PADDED], tl.float32)
        end = tl.minimum((split + 1) * chunk, slots)
        for at in tl.range(split * chunk, end, BLOCK):
            slot = at + tl.arange(0, BLOCK)
            seen = (slot < end)[:, None] & (d < HEAD_DIM)[None, :]
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
        if used == 1:
            joined = mixed / total[:, None]
            tl.store(out + place, joined.to(out.dtype.element_ty), mask=here)
        else:
            h = tl.arange(0, HEAD_BLOCK)
            part = group * SPLITS + split
            tl.store(maxima + part * HEAD_BLOCK + h, top)
            tl.store(sums + part * HEAD_BLOCK + h, total)
            tl.store(parts + (part * HEAD_BLOCK + h)[:, None] * PADDED + d[None, :], mixed)
            # All threads' stores come before the ticket, which makes them seen by the last one.
            tl.debug_barrier()
            ticket = tl.atomic_add(tickets + group, 1, sem="acq_rel", scope="gpu")
            if ticket == used - 1:
                _join(
                    out, place, here, parts, maxima, sums, group, used,
                    PADDED, SPLITS, JOINED,
                )  # fmt: skip
                tl.store(tickets + group, 0)


@triton.jit
def _join(
    out, place, here, parts, maxima, sums, group, used,
    PADDED: tl.constexpr, SPLITS: tl.constexpr, JOINED: tl.constexpr,
):  # fmt: skip
    """Sum a group's parts, each weighted by its share of the softmax."""
    h = tl.arange(0, HEAD_BLOCK)
    d = tl.arange(0, PADDED)
    every = tl.arange(0, SPLITS)
    noted = (group * SPLITS + every)[:, None] * HEAD_BLOCK + h[None, :]
    tops = tl.load(
        maxima + noted, mask=(every < used)[:, None], other=-float("inf"), cache_modifier=".cg"
    )
    totals = tl.load(sums + noted, mask=(every < used)[:, None], other=0.0, cache_modifier=".cg")
    top = tl.max(tops, 0)
    total = tl.sum(totals * tl.exp2(tops - top[None, :]), 0)
    mixed = tl.zeros([HEAD_BLOCK, PADDED], tl.float32)
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
            parts + at[:, :, None] * PADDED + d[None, None, :],
            mask=(some < used)[:, None, None],
            other=0.0,
            cache_modifier=".cg",
        )
        mixed += tl.sum(part * share[:, :, None], 0)
    mixed = mixed / total[:, None]
    tl.store(out + place, mixed.to(out.dtype.element_ty), mask=here)
