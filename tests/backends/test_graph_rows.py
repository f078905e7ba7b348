"""Captured steps, guesses and replaced tokens in any order, against the PyTorch backend."""

import random
from collections.abc import Iterator, Sequence

import pytest

from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.engine.protocol import Prompt, Rows, Token
from bigcode_cli.records import SamplingOptions
from tests.backends.wide import GREEDY, SAMPLED, VOCAB, graph_backend, prompt, wide_backend

PENALISED = SamplingOptions(temperature=0.7, repetition_penalty=1.3, min_p=0.02)
BUDGET = 100


def asked(*options: SamplingOptions) -> list[Prompt]:
    return [prompt([1, 2, 3], BUDGET, *options), prompt(list(range(40)), BUDGET, *options)]


class Walk:
    """The same choices of what to do next, for the same seed and the same tokens."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self._rows, self._chance = rows, random.Random(seed)
        self.ids: list[list[int]] = [[] for _ in range(len(rows))]
        self._right: list[list[int]] = [[] for _ in self.ids]
        """What rows sampled where they went back to: a guess that holds, while it is not used."""

    def run(self, count: int) -> Iterator[list[list[int]]]:
        """What the rows hold after each pass."""
        self._step()
        for _ in range(count):
            if max(map(len, self.ids)) > BUDGET - 8:
                return
            self._chance.choice([self._step, self._step, self._verify, self._verify, self._back])()
            if len(self.ids) > 1 and self._chance.random() < 0.08:
                self._keep(self._chance.sample(range(len(self.ids)), len(self.ids) - 1))
            yield [list(row) for row in self.ids]

    def _step(self) -> None:
        for row, token in enumerate(self._rows.step()):
            self._took(row, [token.id])

    def _verify(self) -> None:
        guesses = []
        for right in self._right:
            guess = right[: self._chance.randrange(5)]
            if self._chance.random() < 0.5:
                guess.append(self._chance.randrange(VOCAB))
            guesses.append(guess)
        for row, tokens in enumerate(self._rows.verify(guesses)):
            assert 0 < len(tokens) <= len(guesses[row]) + 1
            self._took(row, [token.id for token in tokens])

    def _back(self) -> None:
        """To some place of the output, in half of the cases behind another token there."""
        dropped = [self._chance.randrange(min(4, len(row))) for row in self.ids]
        others = [[self._chance.randrange(VOCAB)] * self._chance.randrange(2) for _ in dropped]
        self._rows.replace(dropped, others)
        for row, (drop, other) in enumerate(zip(dropped, others, strict=True)):
            kept = len(self.ids[row]) - drop
            gone = self.ids[row][kept:]
            self.ids[row][kept:] = other
            self._right[row] = [] if other else [*gone, *self._right[row]]

    def _keep(self, left: Sequence[int]) -> None:
        self._rows.keep(left)
        self.ids = [self.ids[row] for row in left]
        self._right = [self._right[row] for row in left]

    def _took(self, row: int, ids: list[int]) -> None:
        self.ids[row] += ids
        is_right = self._right[row][: len(ids)] == ids
        self._right[row] = self._right[row][len(ids) :] if is_right else []


@pytest.mark.parametrize(
    "options", [(GREEDY,), (GREEDY, SAMPLED, PENALISED)], ids=["greedy", "mix"]
)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("multi_query", [True, False])
def test_steps_guesses_and_ways_back_in_any_order(
    seed: int, options: tuple[SamplingOptions, ...], multi_query: bool
) -> None:
    expected = Walk(wide_backend(multi_query=multi_query).prefill(asked(*options)), seed)
    got = Walk(graph_backend(multi_query=multi_query).prefill(asked(*options)), seed)
    for ours, theirs in zip(got.run(60), expected.run(60), strict=True):
        assert ours == theirs


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_guess_in_turns_in_one_seat_do_not_disturb_each_other(seed: int) -> None:
    prompts = asked(SAMPLED)
    expected = [list(Walk(wide_backend().prefill([one]), seed).run(40)) for one in prompts]
    backend = graph_backend()
    walks = [Walk(backend.prefill([one]), seed).run(40) for one in prompts]
    chance = random.Random(seed)
    got: list[list[list[list[int]]]] = [[], []]
    while any(len(own) < len(wanted) for own, wanted in zip(got, expected, strict=True)):
        turn = chance.randrange(2)
        got[turn] += [
            held for _, held in zip(range(chance.randrange(1, 6)), walks[turn], strict=False)
        ]
    assert got == expected


def test_a_step_that_ran_ahead_counts_for_nothing_where_guesses_come() -> None:
    ids = [row[0].id for row in _steps(wide_backend().prefill([prompt([1, 2], 20)]), 12)]
    rows = graph_backend().prefill([prompt([1, 2], 20)])
    assert isinstance(rows, GraphRows)
    for _ in range(3):
        rows.step()
    seat = rows._seat
    assert rows._flight is not None
    assert rows._cache.lengths == [2 + 3]
    assert [token.id for token in rows.verify([ids[3:6]])[0]] == ids[3:7]
    assert rows._flight is None
    assert rows._cache.lengths == [2 + 6]
    # The seat is kept: what is verified is written where its cache lies.
    assert rows._seat is seat
    assert [row[0].id for row in _steps(rows, 5)] == ids[7:]
    assert rows._seat is seat


def test_without_guesses_a_pass_is_a_captured_step_and_none_runs_ahead() -> None:
    ids = [row[0].id for row in _steps(wide_backend().prefill([prompt([1, 2], 20)]), 6)]
    rows = graph_backend().prefill([prompt([1, 2], 20)])
    assert isinstance(rows, GraphRows)
    rows.step()
    got = [token.id for _ in range(5) for token in rows.verify([()])[0]]
    assert got == ids[1:]
    assert rows._seat is not None
    assert rows._flight is None


def test_what_was_replaced_is_not_reused_by_the_next_prompt() -> None:
    backend = graph_backend()
    rows = backend.prefill([prompt(list(range(30)), 20)])
    ids = [row[0].id for row in _steps(rows, 6)]
    other = (ids[3] + 1) % VOCAB
    rows.replace([3], [[other]])
    again = [row[0].id for row in _steps(rows, 4)]
    del rows
    held = [*range(30), *ids[:3], other, *again]
    assert backend.prefill([prompt([*range(30), *ids, 5], 9)]).reused == 33
    backend.forget()
    fresh = wide_backend().prefill([prompt([*held, 5], 9)])
    assert [t[0].id for t in _steps(backend.prefill([prompt([*held, 5], 9)]), 9)] == [
        t[0].id for t in _steps(fresh, 9)
    ]


def _steps(rows: Rows, count: int) -> list[list[Token]]:
    return [rows.step() for _ in range(count)]
