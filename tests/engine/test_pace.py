"""How far it is guessed: what may be lost, and what is won."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.engine.pace import MIN_PLAIN, SLACK, WIDTHS, Pace, Rate, expected

PLAIN = 0.040


def cost(width: int, token: float) -> float:
    return PLAIN + token * (width - 1)


def decode(pace: Pace, chance: float, held: int, tokens: int, token: float, rows: int = 1) -> float:
    """Seconds that decoding takes where so many of the guesses hold."""
    done, spent = 0, 0.0
    while done < tokens:
        width = pace.width([[chance] * 15] * rows, [tokens - done] * rows)
        taken = min(held, width - 1) + 1
        pace.learn(width, [taken] * rows, cost(width, token), 0.0)
        spent += cost(width, token)
        done += taken
    return spent


@given(
    st.floats(0.1, 1.0),
    st.floats(0.0, PLAIN / 8),
    st.integers(0, 2000),
    st.integers(1, 300),
    st.integers(1, 4),
)
def test_guesses_that_never_hold_cost_no_more_than_the_slack(
    chance: float, token: float, prompt: int, tokens: int, rows: int
) -> None:
    pace = Pace()
    for _ in range(3):
        prefill = prompt * 0.001
        pace.begin(prompt, prefill)
        spent = decode(pace, chance, 0, tokens, token, rows)
        assert prefill + spent <= (prefill + tokens * PLAIN) * (1 + SLACK) + 1e-9


@given(st.floats(0.2, 1.0), st.floats(PLAIN / 8, PLAIN))
def test_passes_that_cost_more_than_was_thought_are_soon_left_alone(
    chance: float, token: float
) -> None:
    pace = Pace()
    pace.begin(500, 0.5)
    spent = decode(pace, chance, 0, 300, token)
    # One pass of each width is needed to tell; none may be tried before the slack allows it.
    assert spent <= 300 * PLAIN * (1 + 1.5 * SLACK) + 15 * token


def test_guesses_that_hold_pay() -> None:
    pace = Pace()
    pace.begin(500, 0.5)
    assert decode(pace, 0.9, 15, 400, PLAIN / 16) < 400 * PLAIN / 5


def test_what_guesses_have_won_may_be_risked() -> None:
    pace = Pace()
    pace.begin(0, 0.0)
    for _ in range(MIN_PLAIN):
        pace.learn(1, [1], PLAIN, 0.0)
    assert pace.width([[0.99] * 15], [99]) == 1  # 2 % of two passes is less than any guess costs
    pace.learn(2, [2], PLAIN * 1.1, 0.0)
    assert pace.width([[0.99] * 15], [99]) > 4


def test_nothing_is_guessed_before_plain_passes_were_measured() -> None:
    pace = Pace()
    pace.begin(0, 100.0)
    for _ in range(MIN_PLAIN):
        assert pace.width([[1.0] * 15], [99]) == 1
        pace.learn(1, [1], PLAIN, 0.0)
    assert pace.width([[1.0] * 15], [99]) == 16
    assert pace.width([[1.0] * 15] * 2, [99] * 2) == 1  # two rows are another matter
    assert pace.width([[]], [99]) == 1


def test_a_guess_is_as_long_as_is_expected_to_pay() -> None:
    pace = Pace()
    pace.begin(0, 100.0)
    for width in (1, 1, *WIDTHS):
        pace.learn(width, [1], cost(width, PLAIN / 4), 0.0)
    pace.begin(0, 100.0)
    assert pace.width([[0.1] * 15], [99]) == 1
    assert pace.width([[0.6] * 15], [99]) in {2, 3}
    assert pace.width([[0.99] * 15], [99]) == 16
    assert pace.width([[0.99] * 5], [99]) == 6
    assert pace.width([[0.6] * 15], [99], guess_s=PLAIN) == 1
    assert pace.width([[0.99] * 15], [20], begin_s=PLAIN * 5) == 16
    assert pace.width([[0.99] * 15], [10], begin_s=PLAIN * 5) == 1
    assert pace.width([[0.99] * 15], [1000], begin_s=PLAIN * 5) == 16


def test_passes_without_guesses_are_measured_anew() -> None:
    pace = Pace()
    pace.begin(0, 100.0)
    widths = []
    for _ in range(120):
        widths.append(pace.width([[1.0] * 15], [99]))
        pace.learn(widths[-1], [widths[-1]], cost(widths[-1], PLAIN / 16), 0.0)
    assert 4 <= widths.count(1) <= 6


def test_expected_tokens_count_guesses_behind_those_that_hold() -> None:
    assert expected([]) == 1
    assert expected([0.5, 0.5]) == pytest.approx(1 + 0.5 + 0.25)


def test_a_rate_forgets() -> None:
    rate = Rate(0.5, 8)
    assert rate.mean == 0.5
    for _ in range(300):
        rate.add(1.0)
    assert rate.mean > 0.999
    for _ in range(60):
        rate.add(0.0)
    assert rate.mean < 0.2
    assert Rate().mean == 0
