"""Weights of eight and of four bits times a vector, as sums of products of four bytes at a time.

To make a float of each weight takes more instructions than there is time for while it is read.
Instead the vector is made of whole numbers, once a program: blocks of columns share a factor, and
each number is one of 16 bits, held as two bytes, ``256 * high + low``. An instruction then
multiplies four weights by four such bytes and adds up (``dp4a``), so two do by four numbers. They
are rounded by half a step at most, and the largest of a block is 32,767 steps; in bfloat16 each
number is rounded by up to a 512th of itself.

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
    scale, n, at, N: tl.constexpr, WHOLE: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr,
    BK: tl.constexpr,
):  # fmt: skip
    """What the products of codes of four bits are multiplied by, as ``words`` lie; else nothing."""
    factors = 1.0
    if BITS == 4:
        GROUPS: tl.constexpr = (K + 63) // 64
        LANES: tl.constexpr = lanes(BK, BITS)
        stretch = tl.arange(0, BK // 32 // LANES)
        block = tl.arange(0, LANES)[:, None] + stretch[None, :] * LANES
        group = ((at + 32 * block) // GROUP)[:, None, :]
        # Lanes come first here: that has a thread load what it is to multiply.
        place = n[None, :, None] * GROUPS + group
        if WHOLE == N and GROUPS * 64 % BK == 0:
            factors = tl.load(scale + place)
        else:
            here = (n < N)[None, :, None] & (group < GROUPS)
            factors = tl.load(scale + place, mask=here, other=0.0)
        factors = tl.permute(factors, [1, 2, 0])
    return factors


@triton.jit
def columns(at, BK: tl.constexpr, BITS: tl.constexpr):
    """Columns ``at … at + BK`` by blocks: ``(BK / 16 or 32, 16 or 32)``."""
    BLOCK: tl.constexpr = 128 // BITS
    block = tl.arange(0, BK // BLOCK)
    return at + block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]


@triton.jit
def _quarters(parts):
    """The four that the last two axes, of two each, have between them."""
    even, odd = tl.split(parts)
    n0, n2 = tl.split(even)
    n1, n3 = tl.split(odd)
    return n0, n1, n2, n3


@triton.jit
def _bytes(numbers, PTX: tl.constexpr):
    """Of four numbers of 16 bits the high bytes above the low ones, as one of 64 bits.

    One is exchanged between threads at once, where two words take two barriers more.
    """
    n0, n1, n2, n3 = numbers
    if PTX:
        high, low = tl.inline_asm_elementwise(
            """{ .reg .b32 first, last;
            prmt.b32 first, $2, $3, 0x5410; prmt.b32 last, $4, $5, 0x5410;
            prmt.b32 $0, first, last, 0x7531; prmt.b32 $1, first, last, 0x6420; }""",
            "=r,=r,r,r,r,r", [n0, n1, n2, n3],
            dtype=(tl.int32, tl.int32), is_pure=True, pack=1,
        )  # fmt: skip
    else:
        low = (n0 & 0xFF) | ((n1 & 0xFF) << 8) | ((n2 & 0xFF) << 16) | (n3 << 24)
        high = ((n0 >> 8) & 0xFF) | (n1 & 0xFF00) | ((n2 & 0xFF00) << 8) | ((n3 >> 8) << 24)
    return (high.to(tl.int64) << 32) | (low.to(tl.int64) & 0xFFFFFFFF)


@triton.jit
def fixed(values, BK: tl.constexpr, BITS: tl.constexpr, PTX: tl.constexpr):
    """A vector by blocks, as ``columns`` gives them, to whole numbers.

    Returns:
        the factor of each block, and the bytes of its numbers, four numbers of them together:
        neighbours for eight bits, ``(blocks, 4)``; for four bits, where eight weights are a word,
        those of the even columns, and of the odd, ``(blocks, 4, 2)``.
    """
    BLOCKS: tl.constexpr = BK * BITS // 128
    # As whole numbers they are in the same order, and what is no number is above all others.
    size = tl.max(values.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1).to(tl.float32, bitcast=True)
    size = tl.where(size < 1e-30, 1e-30, size)
    # What 1.5 * 2^23 is added to is rounded to a whole number, in the lowest bits of the sum.
    numbers = (values * (32767.0 / size)[:, None] + 12582912.0).to(tl.int32, bitcast=True)
    if BITS == 8:
        held = _bytes(_quarters(tl.reshape(numbers, [BLOCKS, 4, 2, 2])), PTX)
    else:
        even, odd = tl.split(tl.reshape(numbers, [BLOCKS, 4, 2, 2, 2]))
        held = tl.join(_bytes(_quarters(even), PTX), _bytes(_quarters(odd), PTX))
    return size * (1 / 32767), held


@triton.jit
def _words_of(held):
    """What ``_bytes`` gave, four by four: the words of high bytes, and those of low ones."""
    return _quarters((held >> 32).to(tl.int32)), _quarters(held.to(tl.int32))


@triton.jit
def _plus_products(sums, codes, numbers, SIGNED: tl.constexpr, PTX: tl.constexpr):
    """``sums``, and of each of four words the products of its signed bytes with four others.

    Args:
        SIGNED: whether those others are.
        PTX: by the GPU's own instruction, else, for Triton's interpreter, step by step.
    """
    for word in tl.static_range(4):
        if PTX:
            sums = tl.inline_asm_elementwise(
                "dp4a.s32.s32 $0, $1, $2, $3;" if SIGNED else "dp4a.s32.u32 $0, $1, $2, $3;",
                "=r,r,r,r", [codes[word], numbers[word], sums],
                dtype=tl.int32, is_pure=True, pack=1,
            )  # fmt: skip
        else:
            for place in tl.static_range(4):
                code = (codes[word] << (24 - 8 * place)) >> 24
                if SIGNED:
                    number = (numbers[word] << (24 - 8 * place)) >> 24
                else:
                    number = (numbers[word] >> (8 * place)) & 0xFF
                sums += code * number
    return sums


@triton.jit
def times_codes(
    tile, vector, factors,
    BN: tl.constexpr, BK: tl.constexpr, BITS: tl.constexpr, PTX: tl.constexpr,
):  # fmt: skip
    """What ``words`` gives times what ``fixed`` does, and ``factors_of``: ``(BN, lanes)``."""
    LANES: tl.constexpr = lanes(BK, BITS)
    STRETCHES: tl.constexpr = BK * BITS // 128 // LANES
    tile = tl.reshape(tile, [BN, STRETCHES, LANES, 2, 2])
    factor = tl.reshape(vector[0], [STRETCHES, LANES])[None, :, :]
    sums = tl.zeros([BN, STRETCHES, LANES], tl.int32)
    if BITS == 8:
        held = tl.reshape(vector[1], [STRETCHES, LANES, 2, 2])[None, :, :, :, :]
        high, low = _words_of(tl.broadcast_to(held, [BN, STRETCHES, LANES, 2, 2]))
        codes = _quarters(tile)
        sums = _plus_products(sums, codes, high, True, PTX)
        sums = _plus_products(sums << 8, codes, low, False, PTX)
    else:
        held = tl.reshape(vector[1], [STRETCHES, LANES, 2, 2, 2])[None, :, :, :, :, :]
        even, odd = tl.split(tl.broadcast_to(held, [BN, STRETCHES, LANES, 2, 2, 2]))
        high, low = _words_of(even)
        high_odd, low_odd = _words_of(odd)
        # Codes are stored as what they exceed the least by. Moved to the upper half of a byte, the
        # highest bit turned over, they are signed bytes of 16 times their size.
        codes = _quarters(((tile << 4) ^ -0x7F7F7F80) & -0x0F0F0F10)
        codes_odd = _quarters((tile ^ -0x77777778) & -0x0F0F0F10)
        sums = _plus_products(sums, codes, high, True, PTX)
        sums = _plus_products(sums, codes_odd, high_odd, True, PTX)
        sums = _plus_products(sums << 8, codes, low, False, PTX)
        sums = _plus_products(sums, codes_odd, low_odd, False, PTX)
        factor = factor * (1 / 16) * factors
    return tl.sum(sums.to(tl.float32) * factor, 1)
