"""Confidence intervals of the shares and means that a measurement reports."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

Z_95 = 1.959964
"""Two-sided 95 % of the standard normal distribution."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a binomial share (Wilson 1927).

    Raises:
        ValueError: there was no trial.
    """
    if trials < 1:
        raise ValueError("an interval needs at least one trial")
    share, z2 = successes / trials, Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    half /= 1 + z2 / trials
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_mean(values: Sequence[float], *, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % percentile interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Of differences between pairs it is the paired interval. The draws are the same every time.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    draw = Random(0).choices
    count = len(values)
    means = sorted(sum(draw(values, k=count)) / count for _ in range(resamples))
    tail = round(resamples * 0.025)
    return means[tail], means[-tail - 1]


def bootstrap_ratio(
    items: Sequence[tuple[float, float]], *, resamples: int = 2000
) -> tuple[float, float]:
    """The 95 % percentile interval of a ratio of sums, such as of two times over all tasks.

    Whole items are drawn; see ``bootstrap_ratio_difference``. The draws are the same every time.

    Args:
        items: numerator and denominator of each; the denominators are above 0.

    Raises:
        ValueError: there is no item.
    """
    if not items:
        raise ValueError("an interval needs at least one item")
    draw = Random(0).choices
    ratios = []
    for _ in range(resamples):
        above, below = map(sum, zip(*draw(items, k=len(items)), strict=True))
        ratios.append(above / below)
    ratios.sort()
    tail = round(resamples * 0.025)
    return ratios[tail], ratios[-tail - 1]


def bootstrap_ratio_difference(
    first: Sequence[tuple[float, float]],
    second: Sequence[tuple[float, float]],
    *,
    resamples: int = 2000,
) -> tuple[float, float]:
    """The 95 % percentile interval of the second ratio of sums less the first, over paired items.

    Whole pairs are drawn, each with both its parts (Efron and Tibshirani 1993, chapter 8), so that
    what makes an item hard for both leaves the difference alone. Of few items, fewer than about 20,
    it is somewhat too narrow, as percentile intervals are. The draws are the same every time.

    Args:
        first: numerator and denominator of each item, such as bits and bytes; the denominators
            are above 0.
        second: likewise, of the same items.

    Raises:
        ValueError: there is no pair, or a partner is missing.
    """
    pairs = [(*one, *other) for one, other in zip(first, second, strict=True)]
    if not pairs:
        raise ValueError("an interval needs at least one pair")
    draw = Random(0).choices
    count = len(pairs)
    differences = []
    for _ in range(resamples):
        above, below, other_above, other_below = map(sum, zip(*draw(pairs, k=count), strict=True))
        differences.append(other_above / other_below - above / below)
    differences.sort()
    tail = round(resamples * 0.025)
    return differences[tail], differences[-tail - 1]


def paired_shares(pairs: Iterable[tuple[bool, bool]]) -> tuple[float, float]:
    """The 95 % interval of the first share less the second, both of the same trials.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", method 10: two score intervals, joined by the pairs' correlation.

    Raises:
        ValueError: there is no pair.
    """
    counts = Counter((bool(first), bool(second)) for first, second in pairs)
    both, neither = counts[True, True], counts[False, False]
    first_alone, second_alone = counts[True, False], counts[False, True]
    total = counts.total()
    first, second = both + first_alone, both + second_alone
    first_low, first_high = (abs(bound - first / total) for bound in wilson(first, total))
    second_low, second_high = (abs(bound - second / total) for bound in wilson(second, total))
    agreement: float = both * neither - first_alone * second_alone
    if agreement > 0:
        agreement = max(0.0, agreement - total / 2)
    spread = math.sqrt(first * (total - first) * second * (total - second))
    correlation = agreement / spread if spread else 0.0
    difference = (first - second) / total
    return (
        difference - _joined(first_low, second_high, correlation),
        difference + _joined(first_high, second_low, correlation),
    )


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a median, whatever the distribution: two of the values themselves.

    The narrowest pair of order statistics that the median lies between with 95 % (David and
    Nagaraja 2003, section 7.1). Of fewer than 6 values the extremes are all there is: of 5 they
    hold the median with 94 %.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    ranked, count = sorted(values), len(values)
    cut, below = 0, 0.0
    while cut < count // 2:
        below += math.comb(count, cut) / 2**count
        if below > 0.025:
            break
        cut += 1
    at = max(cut - 1, 0)
    return ranked[at], ranked[-at - 1]


def shift(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """By how much the second values are above the first, with its 95 % interval.

    The median of all differences between one and another (Hodges and Lehmann 1963), and the
    differences that the rank-sum test leaves (Hollander, Wolfe and Chicken 2014, section 4.3):
    free of the distribution, and of a few outliers. Where there are too few values for 95 %, fewer
    than 4 on both sides, the interval is as wide as the differences.

    Raises:
        ValueError: a side has no value.
    """
    if not first or not second:
        raise ValueError("a shift needs at least one value on each side")
    differences = sorted(other - one for one in first for other in second)
    counts = _rank_sums(len(first), len(second))
    total, below, cut = sum(counts), 0, 0
    while below + counts[cut] <= 0.025 * total:
        below += counts[cut]
        cut += 1
    at = max(cut - 1, 0)
    middle = len(differences) // 2
    estimate = (differences[middle] + differences[-middle - 1]) / 2
    return estimate, differences[at], differences[-at - 1]


def _rank_sums(first: int, second: int) -> list[int]:
    """In how many orders of both sides each count of pairs is the wrong way round: from 0."""
    counts = [1]
    for size in range(1, second + 1):
        # Gaussian binomial coefficients, one factor (1 - q^(first + size)) / (1 - q^size) a round.
        wider = [0] * (first * size + 1)
        for at in range(len(wider)):
            value = counts[at] if at < len(counts) else 0
            if at >= first + size and at - first - size < len(counts):
                value -= counts[at - first - size]
            wider[at] = value + (wider[at - size] if at >= size else 0)
        counts = wider
    return counts
