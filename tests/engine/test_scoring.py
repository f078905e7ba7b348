"""Windows against their law, spelled out by brute force."""

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.engine import scoring
from bigcode_cli.engine.protocol import Backend
from bigcode_cli.errors import UsageError


@given(st.integers(0, 200), st.integers(2, 40), st.data())
def test_every_id_but_the_first_is_scored_once_with_the_left_context_promised(
    length: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    left_context: dict[int, int] = {}
    for window in scoring.windows(length, context, stride):
        assert 0 <= window.start < window.stop <= length
        assert window.stop - window.start <= context
        for position in range(window.scored, window.stop):
            assert position not in left_context
            left_context[position] = position - window.start
    assert sorted(left_context) == list(range(1, length))
    for position, left in left_context.items():
        assert left >= min(position, context - stride)


class Echo:
    """A backend whose scores tell which left context each was given: -(id + 1000 * start)."""

    def score(self, ids: Sequence[int]) -> list[float]:
        return [-(id_ + 1000.0 * ids[0]) for id_ in ids[1:]]


def test_scores_come_from_the_window_that_counts_them() -> None:
    scores = scoring.score(cast("Backend", Echo()), range(10), context=4, stride=2)
    starts = [0, 0, 0, 2, 2, 4, 4, 6, 6]
    assert scores == [-(i + 1000.0 * start) for i, start in enumerate(starts, start=1)]


@pytest.mark.parametrize("stride", [0, -1, 8, 9])
def test_a_stride_that_leaves_no_left_context_is_refused(stride: int) -> None:
    with pytest.raises(UsageError, match="stride"):
        list(scoring.windows(10, 8, stride))
