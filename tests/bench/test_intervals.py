"""The score interval against published values and its own definition."""

import math
import statistics
from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.bench.intervals import (
    Z_95,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_ratio_difference,
    median_interval,
    paired_shares,
    shift,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    """81 of 263 is the example of Newcombe (1998), method 3."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 2000), st.data())
def test_the_bounds_are_where_the_score_test_turns(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    for bound in wilson(successes, trials):
        if 1e-9 < bound < 1 - 1e-9:
            deviation = abs(successes / trials - bound) / (bound * (1 - bound) / trials) ** 0.5
            assert deviation == pytest.approx(Z_95, rel=1e-5)


def test_no_trial_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


@pytest.mark.parametrize(
    ("both", "first", "second", "neither", "low", "high"),
    [
        (36, 12, 2, 0, 0.0569, 0.3404),
        (14, 5, 0, 22, 0.011, 0.226),
        (1, 1, 7, 12, -0.507, -0.026),
    ],
)
def test_published_paired_intervals(
    both: int, first: int, second: int, neither: int, low: float, high: float
) -> None:
    """Newcombe (1998); Altman et al. (2000), table 6.2; Fagerland et al. (2014)."""
    pairs = (
        [(True, True)] * both
        + [(True, False)] * first
        + [(False, True)] * second
        + [(False, False)] * neither
    )
    assert paired_shares(pairs) == pytest.approx((low, high), abs=1e-3)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_interval_holds_the_difference_and_turns_with_the_pairs(
    pairs: list[tuple[bool, bool]],
) -> None:
    low, high = paired_shares(pairs)
    difference = sum(first - second for first, second in pairs) / len(pairs)
    assert -1.0001 <= low <= difference <= high <= 1.0001
    turned = paired_shares((second, first) for first, second in pairs)
    assert turned == pytest.approx((-high, -low))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_bootstrap_stays_between_the_values_and_repeats_itself(values: list[float]) -> None:
    low, high = bootstrap_mean(values, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap_mean(values, resamples=200) == (low, high)


def test_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    values = [place % 10 / 10 for place in range(400)]
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    half = Z_95 * deviation / len(values) ** 0.5
    assert bootstrap_mean(values) == pytest.approx((mean - half, mean + half), abs=half / 10)


def test_no_value_and_no_pair_give_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="at least one"):
        paired_shares([])


Parts = list[tuple[float, float]]
pairs_of_parts = st.lists(
    st.tuples(
        st.tuples(st.floats(0, 100), st.integers(1, 50)),
        st.tuples(st.floats(0, 100), st.integers(1, 50)),
    ),
    min_size=1,
    max_size=4,
)


def ratio_difference(first: Parts, second: Parts) -> float:
    above, below = (math.fsum(part) for part in zip(*first, strict=True))
    other_above, other_below = (math.fsum(part) for part in zip(*second, strict=True))
    return other_above / other_below - above / below


@settings(deadline=None, max_examples=25)
@given(pairs_of_parts)
def test_ratio_interval_is_that_of_every_way_to_draw(
    pairs: list[tuple[tuple[float, float], tuple[float, float]]],
) -> None:
    """Of few pairs all draws can be tried; between their quantiles, with some room, it lies."""
    every = sorted(
        ratio_difference([one for one, _ in drawn], [other for _, other in drawn])
        for drawn in product(pairs, repeat=len(pairs))
    )
    low, high = bootstrap_ratio_difference([one for one, _ in pairs], [two for _, two in pairs])

    def between(bound: float, share: float) -> bool:
        last = len(every) - 1
        first, second = (
            every[round(last * min(1, max(0, share + room)))] for room in (-0.015, 0.015)
        )
        return first - 1e-9 <= bound <= second + 1e-9

    assert between(low, 0.025)
    assert between(high, 0.975)


@given(pairs_of_parts)
def test_ratio_interval_turns_with_the_pairs_and_repeats_itself(
    pairs: list[tuple[tuple[float, float], tuple[float, float]]],
) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    low, high = bootstrap_ratio_difference(first, second, resamples=100)
    assert bootstrap_ratio_difference(first, second, resamples=100) == (low, high)
    turned = bootstrap_ratio_difference(second, first, resamples=100)
    assert turned == pytest.approx((-high, -low), abs=1e-9)
    assert bootstrap_ratio_difference(first, first, resamples=100) == (0, 0)


@pytest.mark.parametrize(("items", "wanted"), [(10, 0.80), (50, 0.90)])
def test_ratio_interval_holds_the_truth_about_as_often_as_it_says(
    items: int, wanted: float
) -> None:
    """Files of very unequal sizes, hard for both or for neither; the second costs 0.1 more."""
    random, held, trials = Random(1), 0, 200
    for _ in range(trials):
        first, second = [], []
        for _ in range(items):
            size, hard = random.lognormvariate(7, 0.7), random.gauss(1, 0.5)
            first.append((size * hard, size))
            second.append((size * (hard + random.gauss(0.1, 0.2)), size))
        low, high = bootstrap_ratio_difference(first, second, resamples=200)
        held += low <= 0.1 <= high
    assert wanted <= held / trials <= 0.99


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    random = Random(2)
    hard = [random.gauss(5, 2) for _ in range(100)]
    first = [(value, 1.0) for value in hard]
    second = [(value + random.gauss(0.1, 0.05), 1.0) for value in hard]
    low, high = bootstrap_ratio_difference(first, second)
    assert 0.08 < low < 0.1 < high < 0.12
    random.shuffle(second)
    low, high = bootstrap_ratio_difference(first, second)
    assert high - low > 0.5


def test_ratios_weigh_large_items_more() -> None:
    first = [(100.0, 100.0)] * 20 + [(1.0, 1.0)] * 20
    second = [(200.0, 100.0)] * 20 + [(1.0, 1.0)] * 20
    low, high = bootstrap_ratio_difference(first, second)
    assert 0.97 < low <= 0.99 <= high < 1


def test_ratios_without_a_pair_or_a_partner_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_ratio_difference([], [])
    with pytest.raises(ValueError, match="zip"):
        bootstrap_ratio_difference([(1, 1)], [])


@pytest.mark.parametrize(
    ("count", "place"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (20, 5), (25, 7)]
)
def test_the_interval_of_a_median_is_that_of_the_tables(count: int, place: int) -> None:
    """Conover 1999, table A3, at 95 %: ranks from 0."""
    values = [float(value) for value in range(count)]
    assert median_interval(values[::-1]) == (place, count - 1 - place)


@pytest.mark.parametrize("draw", [Random.random, lambda random: random.lognormvariate(0, 2)])
@pytest.mark.parametrize(("count", "wanted"), [(5, 0.92), (9, 0.94), (15, 0.94)])
def test_the_interval_of_a_median_holds_it(
    draw: Callable[[Random], float], count: int, wanted: float
) -> None:
    random = Random(3)
    median = statistics.median(draw(random) for _ in range(20_001))
    held = 0
    for _ in range(2000):
        low, high = median_interval([draw(random) for _ in range(count)])
        held += low <= median <= high
    assert held / 2000 >= wanted


def test_a_shift_is_exact_where_nothing_scatters() -> None:
    assert shift([5.0] * 5, [7.0] * 5) == (2.0, 2.0, 2.0)


def test_a_shift_leaves_out_what_the_rank_sum_test_leaves_out() -> None:
    """5 and 5 values: 2 of the 25 differences on each side (critical value 2 at 5 %)."""
    first, second = [0.0, 1, 2, 3, 4], [0.0, 10, 20, 30, 40]
    ranked = sorted(other - one for one, other in product(first, second))
    assert shift(first, second) == (ranked[12], ranked[2], ranked[-3])


@pytest.mark.parametrize("sizes", [(4, 4), (5, 5), (3, 8), (10, 6)])
def test_the_interval_of_a_shift_holds_it(sizes: tuple[int, int]) -> None:
    random, held = Random(4), 0
    for _ in range(2000):
        first = [random.expovariate(1) for _ in range(sizes[0])]
        second = [random.expovariate(1) + 0.5 for _ in range(sizes[1])]
        _, low, high = shift(first, second)
        held += low <= 0.5 <= high
    assert held / 2000 >= 0.94


def test_one_outlier_moves_a_shift_little() -> None:
    estimate, low, high = shift([1.0, 1.1, 0.9, 1.0, 50.0], [2.0, 2.1, 1.9, 2.0, 2.0])
    assert 0.9 < estimate < 1.1
    assert low < estimate < high < 1.3


def test_medians_and_shifts_of_nothing_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        median_interval([])
    with pytest.raises(ValueError, match="at least one"):
        shift([1.0], [])


def test_a_ratio_of_sums_has_an_interval_of_whole_items() -> None:
    assert bootstrap_ratio([(2.0, 1.0)] * 5) == (2.0, 2.0)
    items = [(float(n % 7 + 1), float(n % 3 + 1)) for n in range(60)]
    low, high = bootstrap_ratio(items)
    ratio = sum(one for one, _ in items) / sum(other for _, other in items)
    assert low < ratio < high
    assert bootstrap_ratio(items) == (low, high)
    wide = bootstrap_ratio(items[:8])
    assert wide[1] - wide[0] > high - low
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_ratio([])
