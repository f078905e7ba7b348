"""Rows that join and leave at any time, against each of them alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.backends.graph_seat import Mode, Seat
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.backends.torch_rows import TorchRows
from bigcode_cli.engine.decode import closed_up
from bigcode_cli.engine.protocol import Backend, Prompt, Rows
from bigcode_cli.errors import ModelTooLargeError
from bigcode_cli.model.cache import KVCache
from tests.backends.wide import (
    GREEDY,
    GREEDY_PENALISED,
    PENALISED,
    SAMPLED,
    VOCAB,
    graph_backend,
    ids_of,
    native_backend,
    needs_engine,
    prompt,
    wide_backend,
)

KINDS = (GREEDY, SAMPLED, PENALISED, GREEDY_PENALISED)


@dataclass(eq=False)
class Asked:
    """One row: what it gives alone, and how much of that it has given here."""

    prompt: Prompt
    expected: list[int]
    at: int = 0

    @property
    def left(self) -> int:
        return len(self.expected) - self.at


BUDGET = 30


@cache
def lone(multi_query: bool, length: int, kind: int, seed: int) -> list[int]:
    """What a row gives that nothing stands beside."""
    one = asked(length, BUDGET, kind, seed)
    return ids_of(wide_backend(multi_query=multi_query), [one], BUDGET)[0]


def asked(length: int, budget: int, kind: int, seed: int) -> Prompt:
    ids = [(seed * 31 + 7 * place) % VOCAB for place in range(length)]
    return prompt(ids, budget, KINDS[kind], seeds=[seed])


class Traffic:
    """Rows that come and go by chance; what each gives is checked at once."""

    def __init__(self, backend: Backend, *, multi_query: bool, kinds: int, seed: int) -> None:
        self._backend, self._multi_query, self._kinds = backend, multi_query, kinds
        self._chance = random.Random(seed)
        self._rows: Rows | None = None
        self._live: list[Asked] = []
        self.joined = self.most = 0

    def run(self, count: int) -> None:
        for _ in range(count):
            if self._rows is None or (self._chance.random() < 0.25 and len(self._live) < 12):
                self._arrive()
            else:
                # Now and then something else than steps, which run ahead and have to be taken back.
                self._chance.choice([self._step] * 5 + [self._verify, self._back])()
            self._leave()
            self.most = max(self.most, len(self._live))

    def _arrive(self) -> None:
        chance = self._chance
        several = [self._new() for _ in range(chance.choice([1, 1, 2, 3]))]
        rows = self._backend.prefill([one.prompt for one in several])
        for _ in range(chance.choice([1, 1, 1, 3])):
            self._took(several, [[token.id] for token in rows.step()])
        if self._rows is None:
            self._rows, self._live = rows, several
        else:
            self._rows.join(rows)
            self._live += several
            self.joined += len(several)

    def _new(self) -> Asked:
        chance = self._chance
        budget = chance.randint(4, BUDGET)
        length, kind = chance.choice([1, 2, 7, 20, 61]), chance.randrange(self._kinds)
        seed = chance.randrange(3)
        expected = lone(self._multi_query, length, kind, seed)[:budget]
        return Asked(asked(length, budget, kind, seed), expected)

    def _step(self) -> None:
        assert self._rows is not None
        self._took(self._live, [[token.id] for token in self._rows.step()])

    def _verify(self) -> None:
        assert self._rows is not None
        guesses = []
        for one in self._live:
            guess = one.expected[one.at : one.at + self._chance.randrange(4)][: one.left - 1]
            if len(guess) < one.left - 1 and self._chance.random() < 0.5:
                guess.append(self._chance.randrange(VOCAB))
            guesses.append(guess)
        taken = self._rows.verify(guesses)
        self._took(self._live, [[token.id for token in row] for row in taken])

    def _back(self) -> None:
        """Some tokens back, and as far forward as may be, by what is known to come."""
        assert self._rows is not None
        dropped, told = [], []
        for one in self._live:
            drop = self._chance.randrange(min(one.at, 4))
            at = one.at - drop
            new = one.expected[at : at + self._chance.randrange(4)][: len(one.expected) - at - 1]
            dropped.append(drop)
            told.append(new)
            one.at = at + len(new)
        self._rows.replace(dropped, told)

    def _leave(self) -> None:
        assert self._rows is not None
        going = [one.left == 0 or self._chance.random() < 0.01 for one in self._live]
        stay = closed_up([row for row, gone in enumerate(going) if not gone])
        if self._chance.random() < 0.1:
            self._chance.shuffle(stay)
        if stay and stay != list(range(len(self._live))):
            self._rows.keep(stay)
        self._live = [self._live[row] for row in stay]
        if not stay:
            self._rows = None

    @staticmethod
    def _took(rows: Sequence[Asked], ids: list[list[int]]) -> None:
        for one, new in zip(rows, ids, strict=True):
            assert new == one.expected[one.at : one.at + len(new)]
            one.at += len(new)


@pytest.mark.parametrize("kinds", [1, len(KINDS)], ids=["greedy", "mix"])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_join_and_leave_give_what_they_give_alone(
    seed: int, multi_query: bool, kinds: int
) -> None:
    backend = wide_backend(multi_query=multi_query)
    traffic = Traffic(backend, multi_query=multi_query, kinds=kinds, seed=seed)
    traffic.run(120)
    assert traffic.joined > 15
    assert traffic.most > 5


@pytest.mark.usefixtures("small_seats")
@pytest.mark.parametrize("kinds", [1, len(KINDS)], ids=["greedy", "mix"])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_so_they_do_in_seats(seed: int, multi_query: bool, kinds: int) -> None:
    backend = graph_backend(multi_query=multi_query)
    traffic = Traffic(backend, multi_query=multi_query, kinds=kinds, seed=seed)
    traffic.run(120)
    assert traffic.joined > 15
    assert traffic.most > 5


@needs_engine
@pytest.mark.parametrize("kinds", [1, len(KINDS)], ids=["greedy", "mix"])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_so_they_do_in_the_native_engine(seed: int, multi_query: bool, kinds: int) -> None:
    backend = native_backend(multi_query=multi_query)
    traffic = Traffic(backend, multi_query=multi_query, kinds=kinds, seed=seed)
    traffic.run(120)
    assert traffic.joined > 15
    assert traffic.most > 5


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), seats=st.booleans())
def test_so_they_do_by_any_schedule(seed: int, seats: bool) -> None:
    backend = graph_backend() if seats else wide_backend()
    Traffic(backend, multi_query=True, kinds=len(KINDS), seed=seed).run(60)


def begun(backend: TorchBackend, *prompts: Prompt, steps: int = 1) -> TorchRows:
    rows = backend.prefill(prompts)
    for _ in range(steps):
        rows.step()
    return rows


def test_a_larger_cache_has_room_ahead_and_is_not_copied_again() -> None:
    backend = wide_backend()
    rows = begun(backend, prompt([1, 2], 9))
    caches = []
    for row in range(10):
        rows.join(begun(backend, prompt([row], 9)))
        caches.append(rows._cache)
    assert rows._cache.room == 16
    assert rows._cache.capacity == backend.info.n_positions
    assert [id(cache) for cache in caches].count(id(rows._cache)) == 3
    addresses = [layer.data_ptr() for layer in rows._cache.layers]
    rows.keep([0, 10, 9, 3])
    rows.join(begun(backend, prompt([5], 9)))
    assert [layer.data_ptr() for layer in rows._cache.layers] == addresses


def test_what_was_kept_of_a_prompt_is_reused_after_its_row_was_joined() -> None:
    ids = list(range(30))
    for backend in (wide_backend(), graph_backend()):
        rows = begun(backend, prompt(ids, 20), steps=4)
        other = begun(backend, prompt([7] * 40, 20))
        assert backend.prefill([prompt([*[7] * 40, 3], 9)]).reused == 40
        other.join(rows)
        for _ in range(3):
            other.step()
        asked = [prompt([*[7] * 40, 5], 9)]
        again = backend.prefill(asked)
        assert again.reused >= 40
        got = [again.step()[0].id for _ in range(9)]
        assert [got] == ids_of(wide_backend(), asked, 9)


def test_several_tokens_are_fed_beside_as_many_guesses() -> None:
    prompts = [prompt([1, 2, 3], 9), prompt([4], 9)]
    ours, theirs = (ids_of(wide_backend(), [one], 6)[0] for one in prompts)
    rows = begun(wide_backend(), *prompts)
    rows.replace([0, 0], [ours[1:3], []])
    taken = rows.verify([[], theirs[1:3]])
    assert [[token.id for token in row] for row in taken] == [ours[3:4], theirs[1:4]]


@pytest.mark.parametrize("seats", [False, True])
def test_without_memory_both_go_on_as_they_were(seats: bool) -> None:
    prompts = [prompt([4], 30, SAMPLED), prompt([5, 6], 30), prompt([1, 2, 3], 30, PENALISED)]
    expected = [ids_of(wide_backend(), [one], 20)[0] for one in prompts]
    backend = graph_backend() if seats else wide_backend()
    rows, other = begun(backend, *prompts[:2], steps=5), begun(backend, prompts[2])

    def none(rows: int, tokens: int) -> KVCache:
        raise ModelTooLargeError(f"no memory for {rows} x {tokens}")

    room, rows._room = rows._room, none
    with pytest.raises(ModelTooLargeError):
        rows.join(other)
    got = [[token.id for token in rows.step()] for _ in range(5)]
    assert [list(row) for row in zip(*got, strict=True)] == [ids[5:10] for ids in expected[:2]]
    assert [other.step()[0].id for _ in range(9)] == expected[2][1:10]
    rows._room = room
    rows.join(other)
    got = [[token.id for token in rows.step()] for _ in range(10)]
    assert [list(row) for row in zip(*got, strict=True)] == [ids[10:] for ids in expected]


class TestSeats:
    def rows(self, count: int, *, budget: int = 30) -> GraphRows:
        self.backend = graph_backend()
        return self.begun(count, budget=budget, steps=3)

    def begun(self, count: int, *, budget: int = 30, steps: int = 1) -> GraphRows:
        rows = begun(self.backend, *[prompt([row], budget) for row in range(count)], steps=steps)
        assert isinstance(rows, GraphRows)
        return rows

    def test_rows_take_the_places_that_others_have_left(self) -> None:
        rows = self.rows(8)
        seat = rows._seat
        rows.keep([0, 7, 2, 3, 4, 6])
        rows.join(self.begun(2))
        assert rows._seat is seat
        assert rows._places == [0, 7, 2, 3, 4, 6, 1, 5]
        rows.step()
        assert rows._seat is seat
        assert seat is not None
        assert seat.buffers.active.tolist() == [1] * 8

    def test_a_seat_is_kept_as_long_as_more_than_half_of_it_is_taken(self) -> None:
        rows = self.rows(8)
        seat = rows._seat
        rows.keep(range(5))
        rows.step()
        assert rows._seat is seat
        rows.keep(range(4))
        rows.step()
        assert rows._seat is not None
        assert rows._seat.rows == 4

    def test_more_rows_than_places_move_to_a_larger_seat(self) -> None:
        rows = self.rows(4)
        rows.join(self.begun(1))
        rows.step()
        assert rows._seat is not None
        assert rows._seat.rows == 8

    @pytest.mark.usefixtures("small_seats")
    def test_a_longer_row_takes_all_to_a_longer_seat(self) -> None:
        rows = self.rows(7, budget=10)
        assert rows._seat is not None
        assert rows._seat.capacity == 16
        rows.join(begun(self.backend, prompt(range(61), 10)))  # type: ignore[arg-type]
        rows.step()
        assert rows._seat.capacity == 128

    def test_a_row_that_draws_does_not_sit_where_none_does(self) -> None:
        rows = self.rows(3)
        seat = rows._seat
        rows.join(begun(self.backend, prompt([9], 30, SAMPLED)))  # type: ignore[arg-type]
        assert rows._seat is None
        rows.step()
        assert rows._seat is seat
        assert rows._mode.drawn
        rows.keep([0, 1, 2])
        rows.join(self.begun(1))
        assert rows._seat is seat

    def test_a_budget_of_its_own_ends_no_other_row(self) -> None:
        rows = self.rows(3, budget=4)
        rows.join(self.begun(1, budget=40))
        for _ in range(10):
            if len(rows) > 1:
                rows.step()
                rows.keep([3])
            rows.step()
            assert rows._seat is not None

    def test_who_found_no_seat_asks_again_only_with_those_who_join(self) -> None:
        rows, asked = self.rows(2), list[int]()

        class Full:
            def take(self, rows: int, capacity: int, mode: Mode) -> Seat | None:  # noqa: ARG002
                asked.append(rows)
                return None

            def fits(self, rows: int, seat: Seat) -> bool:  # noqa: ARG002
                return False

            def pass_over(self, seat: Seat, tokens: int, length: int) -> None:  # noqa: ARG002
                raise AssertionError("there is no seat")

        rows._seats = Full()
        rows.join(self.begun(1))
        for _ in range(5):
            rows.step()
        rows.join(self.begun(1))
        for _ in range(5):
            rows.step()
        assert asked == [3, 4]
