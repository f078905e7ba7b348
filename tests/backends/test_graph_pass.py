"""Guesses of one row in one pass over its seat, against the PyTorch backend that verifies them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from bigcode_cli.backends import graph_rows
from bigcode_cli.backends.capture import Flight
from bigcode_cli.backends.graph import GraphBackend, plain
from bigcode_cli.backends.graph_pass import SIZES, RowPass
from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Prompt, Rows, Token
from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.weights import Weights
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.records import Quantize, SamplingOptions, Silence
from tests.backends.wide import (
    GREEDY,
    GREEDY_PENALISED,
    PENALISED,
    SAMPLED,
    VOCAB,
    graph_backend,
    ids_of,
    prompt,
    wide_backend,
    wide_model,
)

KINDS = pytest.mark.parametrize(
    "options",
    [GREEDY, SAMPLED, PENALISED, GREEDY_PENALISED],
    ids=["greedy", "drawn", "both", "penalised"],
)
LONGEST = SIZES[-1]


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("the model itself was run, or the cache moved")


def seated(
    backend: TorchBackend, asked: Prompt, steps: int, monkeypatch: pytest.MonkeyPatch
) -> GraphRows:
    """A row that was stepped, whose model is not to be run outside of its seat any more."""
    rows = backend.prefill([asked])
    assert isinstance(rows, GraphRows)
    for _ in range(steps):
        rows.step()

    monkeypatch.setattr(rows._model.transformer, "forward", forbidden)
    return rows


def guesses_of(right: Sequence[int], length: int) -> list[list[int]]:
    """All right, and wrong at the first, at some, and at the last place."""
    whole = list(right[:length])
    every = [whole]
    for place in sorted({0, length // 2, length - 1} if length else set()):
        wrong = list(whole)
        wrong[place] = (wrong[place] + 1) % VOCAB
        every.append(wrong)
    return every


def assert_tokens(got: Sequence[Token], expected: Sequence[Token]) -> None:
    assert [token.id for token in got] == [token.id for token in expected]
    for one, other in zip(got, expected, strict=True):
        assert [id_ for id_, _ in one.top] == [id_ for id_, _ in other.top]
        assert [v for _, v in one.top] == pytest.approx([v for _, v in other.top], abs=1e-4)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


@KINDS
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("logprobs", [None, 3])
def test_every_count_of_guesses_gives_what_the_torch_backend_gives(
    options: SamplingOptions,
    multi_query: bool,
    logprobs: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = dataclasses.replace(prompt([1, 2, 3], 60, options), logprobs=logprobs)
    reference = wide_backend(multi_query=multi_query)
    (right,) = ids_of(reference, [asked], 40)
    cases = [
        (steps, guess)
        for length in range(LONGEST)
        for number, steps in enumerate((2, 5, 4, 3))
        for guess in guesses_of(right[steps:], length)[number : number + 1]
    ]
    backend = graph_backend(multi_query=multi_query)
    for steps, guess in cases:
        theirs = reference.prefill([asked])
        for _ in range(steps):
            theirs.step()
        with monkeypatch.context() as patch:
            ours = seated(backend, asked, steps, patch)
            assert_tokens(ours.verify([guess])[0], theirs.verify([guess])[0])
            assert ours._cache.lengths == theirs._cache.lengths
            for _ in range(2):
                assert_tokens(ours.step(), theirs.step())


def test_between_passes_and_steps_nothing_leaves_the_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the cache, nor to the model itself: what is not captured takes many times longer."""
    asked = prompt([1, 2, 3], 120)
    (right,) = ids_of(wide_backend(), [asked], 100)
    rows = seated(graph_backend(), asked, 2, monkeypatch)
    seat, got = rows._seat, right[:2]
    assert seat is not None
    monkeypatch.setattr(GraphRows, "leave", forbidden)
    for turn in range(12):
        size = [1, 2, 5, 16][turn % 4]
        guess = right[len(got) : len(got) + size - 1]
        if turn % 3 == 2:
            guess[len(guess) // 2 :] = [(id_ + 1) % VOCAB for id_ in guess[len(guess) // 2 :]]
        got += [token.id for token in rows.verify([guess])[0]]
        if turn % 2:
            got += [rows.step()[0].id for _ in range(turn % 3)]
        if turn % 5 == 4:
            # Two tokens that were not fed yet, and no guess.
            rows.replace([1], [right[len(got) - 1 : len(got) + 1]])
            got.append(right[len(got)])
            got.append(rows.step()[0].id)
        assert rows._seat is seat
        assert [one.data_ptr() for one in rows._cache.layers] == [
            one.data_ptr() for one in seat.buffers.cache
        ]
    assert got == right[: len(got)]
    assert len(got) > 60


@KINDS
@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_tokens_that_were_not_fed_yet_go_before_the_guesses(
    options: SamplingOptions, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompt([1, 2, 3], 60, options)
    backend, reference = graph_backend(), wide_backend()
    for steps in range(2, 9):
        theirs = reference.prefill([asked])
        for _ in range(steps):
            theirs.step()
        other = [(7 * steps + place) % VOCAB for place in range(1 + steps % 3)]
        theirs.replace([steps // 2], [other])
        right = [theirs.step()[0].id for _ in range(count + 3)]
        with monkeypatch.context() as patch:
            ours = seated(backend, asked, steps, patch)
            ours.replace([steps // 2], [other])
            taken = ours.verify([right[:count]])[0]
            assert [token.id for token in taken] == right[: count + 1]
            assert [ours.step()[0].id for _ in range(2)] == right[count + 1 :]


def test_nothing_is_written_but_where_tokens_were_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(wide_backend(), [asked], 20)
    rows = seated(graph_backend(), asked, 2, monkeypatch)
    assert rows._seat is not None
    rows.prepare(4)
    rows.verify([()])
    held = rows._cache.longest
    before = [layer.clone() for layer in rows._seat.buffers.cache]
    assert len(rows.verify([right[3:7]])[0]) == 5  # a pass of eight
    for old, new in zip(before, rows._seat.buffers.cache, strict=True):
        changed = (old != new).any(-1).any(1)[0].nonzero().flatten().tolist()
        assert changed == list(range(held, held + 5))


@KINDS
def test_the_context_is_filled_to_its_end(
    options: SamplingOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many guesses as there are places, though the pass takes more."""
    asked = prompt([4] * 180, 30, options)
    (right,) = ids_of(wide_backend(), [asked], 21)
    for steps in range(2, 21):
        guess = [*right[steps:], 1, 2, 3][: LONGEST - 1]
        with monkeypatch.context() as patch:
            rows = seated(graph_backend(), asked, steps, patch)
            taken = rows.verify([guess])[0]
            assert [token.id for token in taken] == right[steps : steps + len(taken)]
            assert len(taken) == 1 + min(20 - steps, LONGEST - 1)


@pytest.mark.usefixtures("small_seats")
def test_a_seat_that_is_outgrown_is_left_for_a_larger_one() -> None:
    """Other tokens than it sampled may come in their place, and more."""
    asked = prompt([1, 2, 3], 8)
    theirs, ours = wide_backend().prefill([asked]), graph_backend().prefill([asked])
    assert isinstance(ours, GraphRows)
    for rows in (theirs, ours):
        for _ in range(3):
            rows.step()
    capacities = []
    for count in (2, 5, 12, 1):
        other = [5, 6, 7, 8][:count] * (1 + count // 4)
        for rows in (theirs, ours):
            rows.replace([1], [other])
        for guess in ([], [3], [9] * 9):
            assert_tokens(ours.verify([guess])[0], theirs.verify([guess])[0])
        assert ours._seat is not None
        capacities.append(ours._seat.capacity)
    assert capacities == [16, 32, 64, 64]


def test_more_tokens_than_the_largest_pass_takes_go_through_the_model() -> None:
    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(wide_backend(), [asked], 50)
    backend = graph_backend()
    rows = backend.prefill([asked])
    for _ in range(2):
        rows.step()
    passes: list[int] = []
    backend._model.transformer.register_forward_pre_hook(lambda *_: passes.append(1))
    got = right[:2]
    for count in (LONGEST - 1, LONGEST, 3):
        got += [token.id for token in rows.verify([right[len(got) :][:count]])[0]]
    assert got == right[: 2 + LONGEST + LONGEST + 1 + 4]
    # The step that ran ahead has sampled the first one, so the first pass held one token less.
    assert passes == [1]


def test_a_step_that_ran_ahead_spares_the_pass_where_the_first_guess_is_wrong() -> None:
    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(wide_backend(), [asked], 20)
    rows = graph_backend().prefill([asked])
    assert isinstance(rows, GraphRows)
    for _ in range(3):
        rows.step()
    ran: list[int] = []
    take = rows._take
    rows._take = lambda guesses: ran.append(1) or take(guesses)  # type: ignore[method-assign,func-returns-value]
    assert rows._flight is not None
    assert [t.id for t in rows.verify([[(right[3] + 1) % VOCAB, 4, 4]])[0]] == right[3:4]
    assert ran == []
    assert [t.id for t in rows.verify([right[4:8]])[0]] == right[4:9]
    assert ran == [1]


@pytest.mark.parametrize("last", [0, 1])
def test_rows_that_join_and_leave_end_as_one_that_is_alone(last: int) -> None:
    asked = [prompt([1, 2, 3], 60, SAMPLED), prompt([9, 8], 60, PENALISED)]
    reference = [ids_of(wide_backend(), [one], 40)[0] for one in asked]
    backend = graph_backend()
    rows, other = (backend.prefill([one]) for one in asked)
    assert isinstance(rows, GraphRows)
    assert isinstance(other, GraphRows)
    got = [[token.id for token in one.step()] for one in (rows, other)]
    got[0] += [token.id for token in rows.verify([reference[0][1:4]])[0]]
    rows.join(other)

    def verify(live: Sequence[int]) -> None:
        guesses = [[*reference[row][len(got[row]) :][:3], 0] for row in live]
        for row, tokens in zip(live, rows.verify(guesses), strict=True):
            got[row] += [token.id for token in tokens]

    verify([0, 1])
    for row, token in enumerate(rows.step()):
        got[row].append(token.id)
    rows.keep([last])
    passes: list[int] = []
    backend._model.transformer.register_forward_pre_hook(lambda *_: passes.append(1))
    for _ in range(4):
        verify([last])
    assert [ids[: len(own)] for ids, own in zip(reference, got, strict=True)] == got
    assert passes == []


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_quantised_weights_are_read_where_they_lie(
    bits: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, info = wide_model()
    save_model(model, model.config, tmp_path, storage="float32")
    model = load_model(
        GPTBigCodeForCausalLM, tmp_path, device="cpu", dtype=torch.float32, quantize=bits
    )
    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(TorchBackend(model, info), [asked], 30)
    backend = GraphBackend(model, info, makers=[("plain steps", plain)])
    rows = seated(backend, asked, 2, monkeypatch)
    got = right[:2]
    for count in (1, 3, 7, 12):
        got += [token.id for token in rows.verify([right[len(got) :][:count]])[0]]
    assert got == right[: 2 + 2 + 4 + 8 + 13]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_logits_that_are_no_numbers_are_an_error_where_they_are_looked_at(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not behind a guess that does not hold."""
    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(wide_backend(), [asked], 20)
    rows = seated(graph_backend(), asked, 2, monkeypatch)
    rows.verify([()])
    run = RowPass.run

    def spoilt(self: RowPass, ids: Sequence[int], length: int) -> Flight:
        flight = run(self, ids, length)
        flight.told[1, place:] = torch.nan
        return flight

    monkeypatch.setattr(RowPass, "run", spoilt)
    guess = [right[3], (right[4] + 1) % VOCAB, 3]
    if place == 2:
        assert [token.id for token in rows.verify([guess])[0]] == right[3:5]
    else:
        with pytest.raises(ModelCorruptError, match="not numbers"):
            rows.verify([guess])


Maker = Callable[[Weights, int, torch.device], Step]


TRIES: list[str] = []


class Broken:
    """A step that fails when it is run."""

    def run(self, weights: object, buffers: object) -> None:  # noqa: ARG002
        TRIES.append("run")
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def unmade(weights: Weights, rows: int, device: torch.device) -> Step:
    if rows > 1:
        TRIES.append("made")
        raise RuntimeError("operation not permitted when stream is capturing")
    return plain(weights, rows, device)


def unrun(weights: Weights, rows: int, device: torch.device) -> Step:
    return plain(weights, rows, device) if rows == 1 else Broken()  # type: ignore[return-value]


@pytest.mark.parametrize("maker", [unmade, unrun])
def test_a_pass_that_cannot_be_captured_is_told_once_and_guesses_are_verified(
    maker: Maker,
) -> None:
    notes: list[str] = []
    TRIES.clear()

    class Notes(Silence):
        def note(self, text: str) -> None:
            notes.append(text)

    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(wide_backend(), [asked], 30)
    backend = graph_backend(makers=(("steps", maker),))
    backend._report = Notes()
    rows: Rows = backend.prefill([asked])
    got: list[int] = []
    for count in (0, 0, 0, 3, 1, 9):
        guess = right[len(got) :][:count]
        taken = rows.verify([guess])[0] if count else rows.step()
        got += [token.id for token in taken]
    assert got == right[: len(got)]
    assert len(got) == 3 + 4 + 2 + 10
    assert len(TRIES) == 1
    assert notes == [
        "guesses are verified without a graph: operation not permitted when stream is capturing"
    ]


def test_without_a_seat_guesses_are_verified_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_rows.GraphRows, "_sit", lambda _: False)
    asked = prompt([1, 2, 3], 60)
    (right,) = ids_of(wide_backend(), [asked], 20)
    rows = graph_backend().prefill([asked])
    rows.step()
    rows.prepare(5)
    assert [token.id for token in rows.verify([right[1:6]])[0]] == right[1:7]
