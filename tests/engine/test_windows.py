"""Windows and batches against their laws, spelled out by brute force."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.engine.protocol import Passage
from bigcode_cli.engine.windows import LOOKAHEAD, Done, batches, run_batched, window_sizes, windows
from bigcode_cli.errors import UsageError


@st.composite
def streams(draw: st.DrawFn) -> list[list[int]]:
    """The ids 0, 1, 2 … in chunks, some of them empty."""
    sizes = draw(st.lists(st.integers(0, 60), max_size=8))
    ids = iter(range(sum(sizes)))
    return [[next(ids) for _ in range(size)] for size in sizes]


def expected_windows(length: int, context: int, stride: int, first: int) -> list[tuple[int, ...]]:
    """(start, counted from, stop) of each window, from positions alone."""
    found: list[tuple[int, ...]] = []
    counted = first
    while counted < length:
        stop = min(context if counted < context else counted + stride, length)
        found.append((max(0, stop - context), counted, stop))
        counted = stop
    return found


@given(streams(), st.integers(2, 40), st.integers(0, 1), st.data())
def test_windows_are_those_that_positions_give(
    chunks: list[list[int]], context: int, first: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    length = sum(map(len, chunks))
    found = list(windows(chunks, context=context, stride=stride, first=first))
    assert found == [
        Passage(tuple(range(start, stop)), counted - start)
        for start, counted, stop in expected_windows(length, context, stride, first)
    ]


@given(streams(), st.integers(2, 40), st.integers(0, 1), st.data())
def test_every_id_counts_once_with_the_left_context_promised(
    chunks: list[list[int]], context: int, first: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    left: list[int] = []
    for window in windows(chunks, context=context, stride=stride, first=first):
        assert 0 <= window.counted < len(window.ids) <= context
        assert window.ids[window.counted] == len(left) + first
        left += range(window.counted, len(window.ids))
    assert len(left) + first == max(sum(map(len, chunks)), first)
    for position, seen in enumerate(left, start=first):
        assert seen >= min(position, context - stride)


def test_no_more_is_held_than_a_chunk_and_a_window() -> None:
    taken = 0

    def chunks() -> Sequence[int]:
        nonlocal taken
        taken += 10
        return range(taken - 10, taken)

    stream = windows((chunks() for _ in range(100)), context=20, stride=10, first=0)
    for window in stream:
        assert taken - window.ids[-1] <= 10 + 1


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_batches_hold_each_once_and_no_more_than_fits(lengths: list[int], limit: int) -> None:
    found = list(batches(lengths, limit))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= limit


def passages(lengths: Sequence[int | None]) -> list[tuple[int, Passage | None]]:
    return [
        (key, None if length is None else Passage((key,) * length, 1))
        for key, length in enumerate(lengths)
    ]


class Flight(Done[list[int]]):
    """A batch that says whether it is done, and notes who waited."""

    def __init__(self, result: list[int], *, is_done: bool) -> None:
        super().__init__(result)
        self._is_done = is_done
        self.was_waited_for = False

    def is_done(self) -> bool:
        return self._is_done

    def wait(self) -> list[int]:
        self.was_waited_for = True
        return super().wait()


@given(st.lists(st.none() | st.integers(2, 30), max_size=60), st.integers(1, 100))
def test_results_come_in_the_order_of_the_items(lengths: list[int | None], limit: int) -> None:
    """Whether a batch is done at once or after others were begun."""

    def begin(some: Sequence[Passage]) -> Flight:
        return Flight([passage.ids[0] for passage in some], is_done=draws.random() < 0.3)

    draws = Random(limit)
    assert list(run_batched(passages(lengths), begin, limit)) == [
        (key, None if length is None else key) for key, length in enumerate(lengths)
    ]


def test_the_next_batch_is_begun_before_the_last_is_waited_for() -> None:
    flights: list[Flight] = []
    seen: list[list[bool]] = []

    def begin(some: Sequence[Passage]) -> Flight:
        seen.append([flight.was_waited_for for flight in flights])
        flights.append(Flight([passage.ids[0] for passage in some], is_done=False))
        return flights[-1]

    list(run_batched(passages([10] * 5), begin, 10))
    assert seen == [[], [False], [True, False], [True, True, False], [True] * 3 + [False]]
    assert all(flight.was_waited_for for flight in flights)


def test_what_is_done_is_told_before_the_next_is_begun() -> None:
    begun = 0

    def begin(some: Sequence[Passage]) -> Flight:
        nonlocal begun
        begun += 1
        return Flight([0] * len(some), is_done=True)

    for told, _ in enumerate(run_batched(passages([10] * 5), begin, 10), start=1):
        assert told == begun


def test_a_batch_gathers_what_is_of_similar_length() -> None:
    seen: list[list[int]] = []

    def begin(some: Sequence[Passage]) -> Done[list[None]]:
        seen.append([len(passage.ids) for passage in some])
        return Done([None] * len(some))

    list(run_batched(passages([2, 30, 3, 29, 2, 28]), begin, 90))
    assert seen == [[30, 29, 28], [3, 2, 2]]


def test_no_more_is_taken_ahead_than_a_few_batches() -> None:
    taken = 0

    def item() -> tuple[int, Passage | None]:
        nonlocal taken
        taken += 1
        return taken, Passage((0,) * 10, 1)

    results = run_batched(
        (item() for _ in range(1000)), lambda some: Done([0] * len(some)), batch_tokens=40
    )
    next(results)
    assert taken == LOOKAHEAD * 40 // 10


def test_the_context_is_all_that_the_model_takes_and_the_stride_half_of_it() -> None:
    assert window_sizes(None, None, 2048) == (2048, 1024)
    assert window_sizes(100, None, 2048) == (100, 50)
    assert window_sizes(2, None, 2) == (2, 1)


@pytest.mark.parametrize(("context", "stride"), [(2049, 10), (10, 10), (10, 11), (8, 0)])
def test_sizes_that_do_not_fit_are_refused(context: int, stride: int) -> None:
    with pytest.raises(UsageError, match=r"does not fit|exceeds"):
        window_sizes(context, stride, 2048)
