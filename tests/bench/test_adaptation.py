from collections.abc import Sequence

import pytest

from bigcode_cli.bench.adaptation import Change, Quality, measure
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.bench.quality import bits_per_byte
from bigcode_cli.records import Scored, Silence
from tests.sessions import random_session


def scored(nll: float, size: int) -> Scored:
    return Scored(
        request=0,
        id=None,
        model="m",
        tokens=size,
        scored_tokens=size,
        n_bytes=size,
        nll_sum=nll,
        context=8,
        stride=4,
        bos=True,
    )


def quality(*nlls: float, exact: Sequence[bool] = ()) -> Quality:
    return Quality(files=tuple(scored(nll, 100) for nll in nlls), exact=tuple(exact))


def test_texts_are_measured_as_they_are_scored() -> None:
    session = random_session()
    texts = ["def add(first, second):\n    return first + second\n", "a = 1\n" * 60]
    found = measure(session, texts, [], Silence())
    wanted = bits_per_byte(session, texts, context=128, stride=64)
    assert found.bits_per_byte == pytest.approx(wanted.value, rel=1e-5)
    assert [one.n_bytes for one in found.files] == [len(text) for text in texts]


def test_a_hole_counts_where_it_is_filled_exactly() -> None:
    session = random_session()
    task = InfillTask(prefix="a = 1\n", suffix="\nc = 3\n", middle="nothing like this")
    assert measure(session, ["a"], [task], Silence()).exact == (False,)


def test_files_weigh_as_much_as_they_have_bytes() -> None:
    both = Quality(files=(scored(10, 100), scored(60, 300)), exact=())
    assert both.bits_per_byte == pytest.approx(70 / 400 / 0.6931472)


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [
        ((50, 60, 70), (45, 54, 63), True),
        ((50, 60, 70), (55, 66, 77), False),
        ((50, 60, 70), (50, 60, 70), False),
        ((50, 60, 70), (49.999, 59.999, 69.999), False),
        # What falls by chance in one file and rises in another is no gain.
        ((50, 60, 70), (30, 62, 72), False),
    ],
)
def test_a_gain_must_hold_over_the_files(
    before: Sequence[float], after: Sequence[float], better: bool
) -> None:
    change = Change(quality(*before), quality(*after))
    assert change.is_better == better
    low, high = change.interval
    difference = change.after.bits_per_byte - change.before.bits_per_byte
    assert low <= difference <= high
    assert change.share == pytest.approx(sum(after) / sum(before) - 1)
