"""Weights of eight and of four bits times a vector, as sums of products of four bytes at a time.

To make a float of each weight takes more instructions than there is time for while it is read.
Instead the vector is made of whole numbers, once a program: blocks of columns share a factor, and
each number is one of 16 bits, held as two bytes, ``256 * high + low``. An instruction then
multiplies four weights by four such bytes and adds up (``dp4a``), two instructions by the numbers
themselves. The largest number of a block is 32,767 of its steps: a vector in bfloat16 has 128 to
256 of them below each of its numbers.

A block is what a thread reads at a time, four words of 32 bits: 16 columns of eight bits, or 32 of
four. No sum of a block goes beyond 32 bits: it is at most 32 * 2^7 * 2^15 = 2^27.

Slow twin: ``model.quantize``.
"""

import triton
import triton.language as tl

GROUP: tl.constexpr = tl.constexpr(64)

@triton.constexpr_function
def lanes(block_k: int, bits: int) -> int:
    """Blocks that lie side by side in a tile: those that a warp reads at a time, or fewer."""
    return min(32, block_k * bits // 128)


@triton.jit
def words(
    weight, n, at, N: tl.constexpr, WHOLE: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr,
    BK: tl.constexpr,
):  # fmt: skip
    """Codes of rows ``n`` and columns ``at … at + BK``: ``(BN, stretches, 4 * lanes)``.

    A warp is to own rows: what it reads is then added up within it. So a row's words are in
    stretches of what a warp reads at a time, and warps are spread over rows first.
    """
    HELD: tl.constexpr = 32 // BITS
    WORDS: tl.constexpr = (K + 63) // 64 * 8 if BITS == 4 else K // 4
    WIDE: tl.constexpr = 4 * lanes(BK, BITS)
    stretch = tl.arange(0, BK // HELD // WIDE)
    word = at // HELD + stretch[:, None] * WIDE + tl.arange(0, WIDE)[None, :]
    place = n[:, None, None] * WORDS + word[None, :, :]
    if WHOLE == N and WORDS * HELD % BK == 0:
        tile = tl.load(weight + place, eviction_policy="evict_first")
    else:
        here = (n < N)[:, None, None] & (word < WORDS)[None, :, :]
        tile = tl.load(weight + place, mask=here, other=0, eviction_policy="evict_first")
    return tile


@triton.jit
def factors_of(
    scale, n, at, N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, BK: tl.constexpr
):
    """What the products of codes of four bits are multiplied by, as ``words`` lie; else nothing."""
    factors = 1.0
    if BITS == 4:
        GROUPS: tl.constexpr = (K + 63) // 64
        LANES: tl.constexpr = lanes(BK, BITS)
        stretch = tl.arange(0, BK // 32 // LANES)
        block = stretch[:, None] * LANES + tl.arange(0, LANES)[None, :]
        group = (at + 32 * block) // GROUP
        here = (n < N)[:, None, None] & (group < GROUPS)[None, :, :]
        place = n[:, None, None] * GROUPS + group[None, :, :]
        factors = tl.load(scale + place, mask=here, other=0.0)
    return factors


@triton.jit
def columns(at, BK: tl.constexpr, BITS: tl.constexpr):
    """Columns ``at … at + BK`` by blocks: ``(BK / 16 or 32, 16 or 32)``."""
    BLOCK: tl.constexpr = 128 // BITS
    block = tl.arange(0, BK // BLOCK)
    return at + block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]


@triton.jit
def _bytes(n0, n1, n2, n3):
    """The high and the low bytes of four numbers of 16 bits, as words."""
    low = (n0 & 0xFF) | ((n1 << 8) & 0xFF00)
    low_last = (n2 & 0xFF) | ((n3 << 8) & 0xFF00)
    high = ((n0 >> 8) & 0xFF) | (n1 & 0xFF00)
    high_last = ((n2 >> 8) & 0xFF) | (n3 & 0xFF00)
    return high | (high_last << 16), low | (low_last << 16)


@triton.jit
def fixed(values, BK: tl.constexpr, BITS: tl.constexpr):
    """A vector by blocks, as ``columns`` gives them, to whole numbers.

    Returns:
        the factor of each block, then the high and the low bytes of its numbers, ``(blocks, 4)``
        each: four neighbours a word for eight bits; for four, where eight weights are a word,
        those of the even columns, then those of the odd ones.
    """
    BLOCKS: tl.constexpr = BK * BITS // 128
    # As whole numbers they are in the same order, and what is no number is above all others.
    size = tl.max(values.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1).to(tl.float32, bitcast=True)
    size = tl.where(size < 1e-30, 1e-30, size)
    # What 1.5 * 2^23 is added to is rounded to a whole number, in the lowest bits of the sum.
    numbers = (values * (32767.0 / size)[:, None] + 12582912.0).to(tl.int32, bitcast=True)
    factor = size * (1 / 32767)
    if BITS == 8:
        even, odd = tl.split(tl.reshape(numbers, [BLOCKS, 4, 2, 2]))
        n0, n2 = tl.split(even)
        n1, n3 = tl.split(odd)
        high, low = _bytes(n0, n1, n2, n3)
        return factor, high, low
    else:  # noqa: RET505 -- the language allows no return within a branch but in its last place
        even, odd = tl.split(tl.reshape(numbers, [BLOCKS, 4, 2, 2, 2]))
        n0_4, n2_6 = tl.split(even)
        n1_5, n3_7 = tl.split(odd)
        n0, n4 = tl.split(n0_4)
        n1, n5 = tl.split(n1_5)
        n2, n6 = tl.split(n2_6)
        n3, n7 = tl.split(n3_7)
        high, low = _bytes(n0, n2, n4, n6)
        high_odd, low_odd = _bytes(n1, n3, n5, n7)
        return factor, high, low, high_odd, low_odd


@triton.jit
def plus_products(sums, codes, numbers, SIGNED: tl.constexpr, DP4A: tl.constexpr):
    """``sums`` and the products of four signed bytes a word with four others.

    Args:
        SIGNED: whether those others are.
        DP4A: by the GPU's instruction, else, for Triton's interpreter, step by step.
    """
    if DP4A:
        if SIGNED:
            sums = tl.inline_asm_elementwise(
                "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [codes, numbers, sums],
                dtype=tl.int32, is_pure=True, pack=1,
            )  # fmt: skip
        else:
            sums = tl.inline_asm_elementwise(
                "dp4a.s32.u32 $0, $1, $2, $3;", "=r,r,r,r", [codes, numbers, sums],
                dtype=tl.int32, is_pure=True, pack=1,
            )  # fmt: skip
    else:
        for place in tl.static_range(4):
            code = (codes << (24 - 8 * place)) >> 24
            if SIGNED:
                number = (numbers << (24 - 8 * place)) >> 24
            else:
                number = (numbers >> (8 * place)) & 0xFF
            sums += code * number
    return sums


@triton.jit
def times_codes(
    tile, numbers, factors,
    BN: tl.constexpr, BK: tl.constexpr, BITS: tl.constexpr, DP4A: tl.constexpr,
):  # fmt: skip
    """What ``words`` gives times what ``fixed`` does, and ``factors_of``: ``(BN, lanes)``."""
    LANES: tl.constexpr = lanes(BK, BITS)
    STRETCHES: tl.constexpr = BK * BITS // 128 // LANES
    tile = tl.reshape(tile, [BN, STRETCHES, LANES, 4])
    high = tl.reshape(numbers[1], [STRETCHES, LANES, 4])[None, :, :, :]
    low = tl.reshape(numbers[2], [STRETCHES, LANES, 4])[None, :, :, :]
    factor = tl.reshape(numbers[0], [STRETCHES, LANES])[None, :, :]
    if BITS == 8:
        upper = plus_products(0, tile, high, True, DP4A)
        lower = plus_products(0, tile, low, False, DP4A)
    else:
        # Codes are stored as what they exceed the least by. Moved to the upper half of a byte, the
        # highest bit turned over, they are signed bytes of 16 times their size.
        even = ((tile << 4) ^ -0x7F7F7F80) & -0x0F0F0F10
        odd = (tile ^ -0x77777778) & -0x0F0F0F10
        high_odd = tl.reshape(numbers[3], [STRETCHES, LANES, 4])[None, :, :, :]
        low_odd = tl.reshape(numbers[4], [STRETCHES, LANES, 4])[None, :, :, :]
        upper = plus_products(0, even, high, True, DP4A)
        upper = plus_products(upper, odd, high_odd, True, DP4A)
        lower = plus_products(0, even, low, False, DP4A)
        lower = plus_products(lower, odd, low_odd, False, DP4A)
        factor = factor * (1 / 16) * factors
    sums = (tl.sum(upper, 3) << 8) + tl.sum(lower, 3)
    return tl.sum(sums.to(tl.float32) * factor, 1)
