"""The score interval against published values and its own definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.bench.intervals import Z_95, wilson


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
