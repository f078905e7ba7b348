"""Weights of eight and of four bits, multiplied as the words of 32 bits that they are read as.

A word is taken apart where it is used: to carry bytes would be to convert them one by one.

Slow twin: ``model.quantize``.
"""

import triton
import triton.language as tl

GROUP: tl.constexpr = tl.constexpr(64)


@triton.jit
def dealt(values, BK: tl.constexpr, BITS: tl.constexpr):
    """Numbers ``(BK,)`` as words hold codes: four times every fourth, or eight every eighth."""
    if BITS == 8:
        even, odd = tl.split(tl.reshape(values, [BK // 4, 2, 2]))
        n0, n2 = tl.split(even)
        n1, n3 = tl.split(odd)
        return n0, n1, n2, n3
    else:  # noqa: RET505 -- the language allows no return within a branch but in its last place
        even, odd = tl.split(tl.reshape(values, [BK // 8, 2, 2, 2]))
        n0_4, n2_6 = tl.split(even)
        n1_5, n3_7 = tl.split(odd)
        n0, n4 = tl.split(n0_4)
        n1, n5 = tl.split(n1_5)
        n2, n6 = tl.split(n2_6)
        n3, n7 = tl.split(n3_7)
        return n0, n1, n2, n3, n4, n5, n6, n7


@triton.jit
def _code(words, AT: tl.constexpr, BITS: tl.constexpr):
    """Code ``AT`` of each word, as float32, without a conversion: as the end of a power of two.

    A byte is moved to the lowest place of 2^23, which is one instruction. Of four bits it takes
    fewer to leave them where they are, under an exponent that makes their lowest count 1.
    """
    PLACE: tl.constexpr = AT * BITS % 16 if BITS == 4 else 0
    MOVED: tl.constexpr = AT * BITS - PLACE
    held = words if MOVED == 0 else words >> MOVED
    held = (held & (((1 << BITS) - 1) << PLACE)) | ((150 - PLACE) << 23)
    # Codes are stored as what they exceed the least by.
    return held.to(tl.float32, bitcast=True) - ((1 << (23 - PLACE)) + (1 << (BITS - 1)))


@triton.jit
def times_int8(words, numbers):
    """Words ``(BN, BK / 4)`` times numbers as ``dealt`` deals them: ``(BN, BK / 4)``."""
    flipped = words ^ -0x7F7F7F80
    product = tl.zeros(words.shape, tl.float32)
    for place in tl.static_range(4):
        product += _code(flipped, place, 8) * numbers[place][None, :]
    return product


@triton.jit
def times_int4(words, numbers, scale, n, at, N: tl.constexpr, K: tl.constexpr, BN: tl.constexpr,
                BK: tl.constexpr):  # fmt: skip
    """Words ``(BN, BK / 8)`` times numbers, by groups with their factors: ``(BN, BK / 64)``."""
    GROUPS: tl.constexpr = (K + 63) // 64
    group = at // GROUP + tl.arange(0, BK // GROUP)
    here = (n < N)[:, None] & (group < GROUPS)[None, :]
    factor = tl.load(scale + n[:, None] * GROUPS + group[None, :], mask=here, other=0.0)
    product = tl.zeros([BN, BK // 8], tl.float32)
    for place in tl.static_range(8):
        product += _code(words, place, 4) * numbers[place][None, :]
    return tl.sum(tl.reshape(product, [BN, BK // GROUP, 8]), 2) * factor
