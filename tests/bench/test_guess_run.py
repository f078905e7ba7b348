"""Holes filled with guesses and without, by turns."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from bigcode_cli.bench.guess_run import WARM_UPS, forced_passes, measure_guesses
from bigcode_cli.bench.infill_run import request_for
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.engine import infill
from bigcode_cli.engine.protocol import Prompt, Sampler
from bigcode_cli.engine.session import Session
from bigcode_cli.records import (
    Chunk,
    Failure,
    Infilled,
    InfillRequest,
    Passes,
    SamplingOptions,
    Silence,
)
from tests.engine.test_speculate import rash
from tests.sessions import random_session

TEMPLATE = InfillRequest(prefix="", suffix="", max_new_tokens=10)
TASKS = [
    InfillTask(
        prefix="value = 1\n" * n, suffix="\nvalue = 2\n", middle=f"value = {n}", id=f"task {n}",
        group="even" if n % 2 == 0 else "odd", path="a.py",
    )
    for n in range(1, 4)
]  # fmt: skip


@pytest.fixture(scope="module")
def plain() -> Session:
    return random_session(n_positions=256)


def prompt(ids: list[int]) -> Prompt:
    sampler = Sampler(options=SamplingOptions(), seed=0)
    return Prompt(ids=tuple(ids), samplers=(sampler,), max_new_tokens=99)


def test_both_ways_give_what_the_session_gives_alone_in_every_round(plain: Session) -> None:
    pairs = measure_guesses(rash(plain), TASKS, TEMPLATE, rounds=2, report=Silence())
    assert [pair.task for pair in pairs] == TASKS
    for pair in pairs:
        (done,) = [
            event
            for event in plain.infill([request_for(pair.task, TEMPLATE)])
            if isinstance(event, Infilled)
        ]
        assert (len(pair.plain), len(pair.guessed)) == (2, 2)
        assert pair.is_equal
        for turn in (*pair.plain, *pair.guessed):
            assert turn.text == done.candidates[0].text
            assert turn.tokens == done.candidates[0].completion_tokens
            assert 0 <= turn.decode_s < turn.whole_s
        assert all(turn.passes is None for turn in pair.plain)
        assert all(turn.passes is not None for turn in pair.guessed)
    assert any(turn.passes and turn.passes.guessed for pair in pairs for turn in pair.guessed)


def test_turns_alternate_and_each_reads_its_prompt_anew(
    plain: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[bool, int]] = []
    fill = Session.infill

    def noted(
        self: Session, requests: Sequence[InfillRequest]
    ) -> Iterator[Chunk | Infilled | Failure]:
        for event in fill(self, requests):
            if isinstance(event, Infilled):
                order.append((self is guessing, len(requests[0].prefix)))
                assert event.timing.reused_tokens == 0
            yield event

    guessing = rash(plain)
    monkeypatch.setattr(Session, "infill", noted)
    measure_guesses(guessing, TASKS, TEMPLATE, rounds=3, report=Silence())
    warm = min(len(TASKS), WARM_UPS)
    turn = [(way, len(task.prefix)) for task in TASKS for way in (False, True)]
    assert order == turn[: 2 * warm] + turn * 3


def test_a_task_that_fails_is_told_and_the_others_go_on(plain: Session) -> None:
    tasks = [*TASKS, replace(TASKS[0], id="broken", prefix="\ud800")]
    *good, bad = measure_guesses(rash(plain), tasks, TEMPLATE, rounds=1, report=Silence())
    assert bad.error is not None
    assert (bad.plain, bad.guessed, bad.forced) == ([], [], None)
    assert all(pair.error is None and len(pair.plain) == 1 for pair in good)


def test_texts_that_differ_are_seen() -> None:
    pairs = measure_guesses(
        rash(random_session(n_positions=256)), TASKS[:1], TEMPLATE, rounds=1, report=Silence()
    )
    turn = pairs[0].guessed[0]
    pairs[0].guessed[0] = replace(turn, text=turn.text + "!")
    assert not pairs[0].is_equal


@pytest.mark.parametrize(
    ("before", "ids", "expected"),
    [
        # Nothing stood there before: a token a pass, the first from the prompt's own state.
        ([1, 2, 3], [4, 5, 6, 7], Passes(without=3)),
        # After 1 2 all that followed is guessed at once; the last is what no guess reaches.
        ([1, 2, 3, 4, 5, 6, 9, 1], [2, 3, 4, 5, 6, 7], Passes(0, (0, 0, 0, 0, 1), 4)),
        # One guess holds of three, and then nothing matches.
        ([1, 2, 3, 4, 5, 6, 9, 1], [2, 3, 8, 8, 7], Passes(2, (0, 1), 3)),
        ([1, 2], [3], Passes()),
    ],
)
def test_forced_passes_are_those_of_the_right_ids(
    before: list[int], ids: list[int], expected: Passes
) -> None:
    passes = forced_passes(prompt(before), ids)
    assert passes == expected
    assert passes.count + passes.accepted == len(ids) - 1


def test_forced_ids_are_the_right_middle_behind_the_prompt(plain: Session) -> None:
    (pair,) = measure_guesses(rash(plain), TASKS[2:], TEMPLATE, rounds=1, report=Silence())
    request = request_for(TASKS[2], TEMPLATE)
    planned = infill.plan(request, plain.tokenizer, plain.info.n_positions)
    ids = plain.tokenizer.encode(TASKS[2].middle)
    assert pair.forced == forced_passes(planned.prompt, ids)
