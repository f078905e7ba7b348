"""The score interval against published values and its own definition."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.bench.intervals import Z_95, bootstrap_mean, paired_shares, wilson


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
