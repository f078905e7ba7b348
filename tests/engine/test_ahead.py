"""What is done ahead comes in order, no further ahead than agreed, and ends with its reader."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from bigcode_cli.engine import ahead
from bigcode_cli.engine.ahead import begun, made_ahead, mapped_ahead


def until(holds: Callable[[], bool]) -> bool:
    """Whether something comes true soon."""
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.01)
    return False


class Source:
    """Counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = False

    def items(self) -> Iterator[int]:
        try:
            for self.taken in count(1):
                yield self.taken
        finally:
            self.closed = True


def test_items_come_in_order() -> None:
    assert list(made_ahead(range(100), 3)) == list(range(100))
    assert list(made_ahead([], 3)) == []


def test_no_more_is_made_than_agreed() -> None:
    source = Source()
    items = made_ahead(source.items(), 5)
    assert next(items) == 1
    assert until(lambda: source.taken == 7)
    time.sleep(0.05)
    assert source.taken == 7  # one read, five that wait, one in hand
    items.close()


def test_items_are_made_while_nobody_reads() -> None:
    source = Source()
    items = made_ahead(source.items(), 50)
    next(items)
    assert until(lambda: source.taken > 40)


def test_an_error_is_raised_behind_what_came_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    items = made_ahead(broken(), 10)
    assert next(items) == 1
    with pytest.raises(KeyError, match="gone"):
        next(items)


def test_the_source_is_closed_with_its_reader() -> None:
    source = Source()
    items = made_ahead(source.items(), 2)
    next(items)
    items.close()
    assert source.closed
    assert not any(one.name == "ahead" for one in threading.enumerate())


def test_a_source_that_hangs_does_not_hold_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PATIENCE_S", 0.05)
    release = threading.Event()

    def hanging() -> Iterator[int]:
        yield 1
        release.wait(30)

    items = made_ahead(hanging(), 2)
    next(items)
    items.close()
    release.set()


def test_the_first_items_are_made_at_once_and_the_others_in_their_turn() -> None:
    source = Source()
    items = begun(source.items(), 3)
    assert source.taken == 3
    assert [next(items) for _ in range(4)] == [1, 2, 3, 4]
    assert source.taken == 4
    assert list(begun([1], 3)) == [1]


def test_what_the_first_items_raise_is_raised_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    items = begun(broken(), 5)
    assert next(items) == 1
    with pytest.raises(KeyError, match="gone"):
        next(items)


def test_a_function_is_mapped_in_order() -> None:
    def slow_for_few(item: int) -> int:
        time.sleep(0.02 if item % 7 == 0 else 0)
        return item * item

    assert list(mapped_ahead(slow_for_few, range(50))) == [item * item for item in range(50)]


def test_no_more_is_mapped_than_two_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MAX_WORKERS", 1)
    source = Source()
    results = mapped_ahead(lambda item: item, source.items())
    assert [next(results), next(results)] == [1, 2]
    assert source.taken == 4  # two read, two ahead
    results.close()


def test_an_error_of_the_function_is_raised_in_its_place() -> None:
    results = mapped_ahead(lambda item: 1 // item, [2, 1, 0, 3])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
