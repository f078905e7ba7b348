"""Holes in, middles out: the session on a small random model."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from bigcode_cli.engine.infill import plan
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import InputError, ModelUnsupportedError, UsageError
from bigcode_cli.records import (
    Chunk,
    Completion,
    ContextFile,
    Failure,
    GenerateRequest,
    Infilled,
    InfillOrder,
    InfillRequest,
    SamplingOptions,
)
from bigcode_cli.text.middle import MiddleScanner
from tests.sessions import random_session
from tests.tokenizers import tiny_tokenizer

MAX_ROWS = 16
HOLES = (
    ("def add(first, second):\n    return ", "\n"),
    ("x = [", "]\ny = 2\n"),
    ("", "class Counter:\n    pass\n"),
    ("import os\n\n\ndef f(self):\n", "\n\n\nprint(f(1))\n"),
    ("a", ""),
)
WARM = SamplingOptions(temperature=1.0, seed=3)
HOT = SamplingOptions(temperature=30.0, seed=1)
LONG = "first + second\n" * 200
CONTEXT = 128


@pytest.fixture(scope="module")
def session() -> Session:
    return random_session(n_positions=CONTEXT)


def hole(rank: int, **fields: object) -> InfillRequest:
    prefix, suffix = HOLES[rank]
    return dataclasses.replace(
        InfillRequest(prefix=prefix, suffix=suffix, max_new_tokens=24),
        **fields,  # type: ignore[arg-type]
    )


def run(session: Session, *requests: InfillRequest) -> list[Infilled]:
    done = {e.request: e for e in session.infill(requests) if isinstance(e, Infilled)}
    return [done[position] for position in sorted(done)]


def untimed(done: Infilled) -> Infilled:
    """What does not depend on the clock, nor on the requests beside it."""
    timing = dataclasses.replace(
        done.timing, first_token_s=None, prefill_tokens_per_s=None, decode_tokens_per_s=None
    )
    without = tuple(dataclasses.replace(c, score=None, logprobs=None) for c in done.candidates)
    return dataclasses.replace(
        done,
        request=0,
        timing=dataclasses.replace(timing, reused_tokens=0),
        candidates=without,
    )


def test_chunks_joined_are_the_middle_and_each_hole_ends_once(session: Session) -> None:
    streamed: defaultdict[int, str] = defaultdict(str)
    done: dict[int, Infilled] = {}
    requests = [hole(rank, sampling=WARM, id=str(rank)) for rank in range(len(HOLES))]
    for event in session.infill(requests):
        assert not isinstance(event, Failure)
        assert event.request not in done
        if isinstance(event, Chunk):
            streamed[event.request] += event.text
        else:
            done[event.request] = event
    for rank in range(len(HOLES)):
        (middle,) = done[rank].candidates
        assert streamed[rank] == middle.text
        assert middle.score is None
        assert (done[rank].id, done[rank].model) == (str(rank), "random")


def test_a_batch_gives_what_each_hole_gives_alone(session: Session) -> None:
    requests = [
        hole(rank, sampling=sampling, order=order, candidates=candidates)
        for rank in range(len(HOLES))
        for order in ("psm", None)
        for sampling, candidates in ((SamplingOptions(), 1), (WARM, 1), (WARM, 3))
    ]
    assert sum(request.candidates for request in requests) > 2 * MAX_ROWS
    for got, request in zip(run(session, *requests), requests, strict=True):
        (alone,) = run(session, request)
        assert untimed(got) == untimed(alone)


def test_the_model_is_shown_what_assemble_tells(session: Session) -> None:
    request = hole(0, path="a/b.py", repo="r", context=(ContextFile("c.py", "z = 1\n"),))
    shown = session.assemble(request)
    (done,) = run(session, request)
    assert done.prompt == shown.text == session.tokenizer.decode(shown.ids)
    assert done.prompt_tokens == len(shown.ids)
    assert (done.prefix_tokens, done.suffix_tokens) == (shown.prefix_tokens, shown.suffix_tokens)
    assert (done.prefix_dropped, done.suffix_dropped) == (0, 0)
    assert (done.dialect, done.order) == ("starcoder", "spm")
    assert "a/b.py" in done.prompt


def test_the_order_asked_for_is_taken(session: Session) -> None:
    psm, spm = (session.assemble(hole(1, order=order)).text for order in ("psm", "spm"))
    assert psm == "<fim_prefix>x = [<fim_suffix>]\ny = 2\n<fim_middle>"
    assert spm == "<fim_prefix><fim_suffix>]\ny = 2\n<fim_middle>x = ["


@pytest.mark.parametrize(
    ("wanted", "prompt_at_most", "budget_at_least"), [(10, 118, 10), (64, 64, 64), (500, 64, 64)]
)
def test_a_budget_takes_half_of_the_context_at_most(
    wanted: int, prompt_at_most: int, budget_at_least: int
) -> None:
    request = InfillRequest(prefix=LONG, suffix=LONG, max_new_tokens=wanted)
    planned = plan(request, tiny_tokenizer(), CONTEXT)
    assert prompt_at_most - 16 < len(planned.prompt.ids) <= prompt_at_most
    assert planned.prompt.max_new_tokens >= budget_at_least
    assert planned.prompt.max_new_tokens <= max(wanted, budget_at_least)
    assert len(planned.prompt.ids) + planned.prompt.max_new_tokens <= CONTEXT
    assert planned.assembly.prefix_dropped > 0
    assert planned.assembly.suffix_dropped > 0


def test_a_short_prompt_leaves_the_rest_of_the_context_to_the_middle() -> None:
    planned = plan(InfillRequest(prefix="a", suffix="b", max_new_tokens=500), tiny_tokenizer(), 128)
    assert planned.prompt.max_new_tokens == 128 - len("PSM") - 2


@pytest.mark.parametrize(("path", "is_python"), [(None, True), ("x.PY", True), ("x.js", False)])
def test_the_name_tells_the_language(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    path: str | None,
    is_python: bool,
) -> None:
    told: list[bool] = []

    class Scanner(MiddleScanner):
        def __init__(self, prefix: str, suffix: str, **fields: Any) -> None:
            told.append(fields["is_python"])
            super().__init__(prefix, suffix, **fields)

    monkeypatch.setattr("bigcode_cli.engine.infill.MiddleScanner", Scanner)
    run(session, hole(0, path=path))
    assert told == [is_python]


def test_a_span_ends_the_middle(session: Session) -> None:
    requests = [hole(3, span="line", sampling=HOT, max_new_tokens=60), hole(1), hole(3)]
    line, continued, block = run(session, *requests)
    assert "\n" not in line.candidates[0].text.lstrip("\r\n")
    assert (line.span, continued.span, block.span) == ("line", "line", "block")


def test_behind_a_blocks_head_the_middle_begins_with_the_line_end(session: Session) -> None:
    request = InfillRequest(prefix="def add(self):", suffix="\n", sampling=HOT, logprobs=0)
    assert session.assemble(request).prefix == "def add(self):\n"
    events = list(session.infill([request]))
    chunks = [event.text for event in events if isinstance(event, Chunk)]
    (done,) = (event for event in events if isinstance(event, Infilled))
    (middle,) = done.candidates
    assert middle.logprobs is not None
    assert "".join(chunks) == middle.text
    told = session.tokenizer.decode(token.id for token in middle.logprobs)
    assert ("\n" + told).startswith(middle.text)
    assert len(middle.text) > 1


@pytest.mark.parametrize("order", ["psm", "spm"])
@pytest.mark.parametrize("indentation", ["    ", "\t\t", " "])
def test_behind_an_indentation_the_model_goes_on_with_it(
    session: Session, order: InfillOrder, indentation: str
) -> None:
    """It is shown the line from its start, as in training, and begins with the last blank."""
    request = InfillRequest(
        prefix=f"def add(self):\n{indentation}",
        suffix="\n",
        order=order,
        sampling=WARM,
        candidates=8,
        logprobs=0,
    )
    begun, last = indentation[:-1], indentation[-1]
    shown = session.assemble(request)
    assert shown.text.endswith("<fim_middle>" * (order == "psm") + begun)
    assert shown.prefix == f"def add(self):\n{begun}"
    assert sum(section.tokens for section in shown.sections) == len(shown.ids)
    ids = [id_ for id_ in shown.ids if id_ not in session.tokenizer.control_ids]
    assert len(ids) == shown.prefix_tokens + shown.suffix_tokens
    (done,) = run(session, request)
    assert done.prompt == session.tokenizer.decode(shown.ids)
    for middle in done.candidates:
        assert middle.logprobs is not None
        told = session.tokenizer.decode(token.id for token in middle.logprobs)
        assert told.startswith(last + middle.text)


def test_a_stop_text_ends_the_middle_and_is_told(session: Session) -> None:
    request = hole(0, sampling=WARM, span="eos", max_new_tokens=60)
    texts = (
        (run(session, dataclasses.replace(request, sampling=sampling))[0].candidates[0], sampling)
        for seed in range(100)
        if (sampling := SamplingOptions(temperature=1.0, seed=seed))
    )
    free, sampling = next(pair for pair in texts if len(pair[0].text) > 20)
    stop = free.text[8:11]
    stopped = dataclasses.replace(request, sampling=sampling, stop_texts=(stop,))
    (got,) = run(session, stopped)[0].candidates
    assert got.text == free.text[: free.text.index(stop)]
    assert (got.finish_reason, got.stop) == ("stop", stop)


def test_candidates_are_distinct_best_first_and_the_greedy_one_is_among_them(
    session: Session,
) -> None:
    for rank in range(len(HOLES)):
        events = list(session.infill([hole(rank, sampling=WARM, candidates=6)]))
        (done,) = events
        assert isinstance(done, Infilled)
        texts = [candidate.text for candidate in done.candidates]
        assert len(set(texts)) == len(texts) <= 6
        assert all(candidate.score is not None for candidate in done.candidates)
        ranks = [(not c.text.strip(), -(c.score or 0)) for c in done.candidates]
        assert ranks == sorted(ranks)
        assert all(candidate.logprobs is None for candidate in done.candidates)
        (greedy,) = run(session, hole(rank))
        assert greedy.candidates[0].text in texts
        assert greedy.seed is None
        assert done.seed == 3


def test_a_seed_repeats_all_candidates_and_a_drawn_one_is_told(session: Session) -> None:
    free = SamplingOptions(temperature=1.0)
    (drawn,) = run(session, hole(0, sampling=free, candidates=4))
    assert drawn.seed is not None
    again = dataclasses.replace(free, seed=drawn.seed)
    (same,) = run(session, hole(0, sampling=again, candidates=4))
    assert untimed(same) == untimed(drawn)
    (other,) = run(
        session, hole(0, sampling=dataclasses.replace(free, seed=drawn.seed + 1), candidates=4)
    )
    assert untimed(other).candidates != untimed(drawn).candidates


def test_logprobs_that_were_asked_for_are_told_of_each_candidate(session: Session) -> None:
    (done,) = run(session, hole(0, sampling=WARM, candidates=3, logprobs=2))
    for candidate in done.candidates:
        assert candidate.logprobs is not None
        assert len(candidate.logprobs) == candidate.completion_tokens
        assert all(len(token.top) == 2 for token in candidate.logprobs)


def test_no_control_token_is_shown_and_each_ends_its_middle(session: Session) -> None:
    ended = 0
    for rank in range(len(HOLES)):
        for candidates in (1, 12):
            request = hole(
                rank, sampling=HOT, candidates=candidates, logprobs=0, max_new_tokens=100
            )
            for candidate in run(session, dataclasses.replace(request, span="eos"))[0].candidates:
                assert candidate.logprobs is not None
                control = [t.id in session.tokenizer.control_ids for t in candidate.logprobs]
                assert not any(control[:-1])
                assert control[-1] <= (candidate.finish_reason in {"eos", "stop"})
                assert not any(
                    session.tokenizer.decode([id_]) in candidate.text
                    for id_ in session.tokenizer.control_ids
                )
                ended += control[-1]
    assert ended > 20


def test_a_bad_hole_fails_alone(session: Session) -> None:
    requests = [
        InfillRequest(prefix="\ud800", suffix="", id="surrogate"),
        hole(0, dialect="santacoder"),
        hole(1),
        hole(0, dialect="klingon"),
    ]
    events = list(session.infill(requests))
    failures = {e.request: e for e in events if isinstance(e, Failure)}
    assert [e.request for e in events if isinstance(e, Infilled)] == [2]
    assert isinstance(failures[0].error, InputError)
    assert failures[0].id == "surrogate"
    assert isinstance(failures[1].error, UsageError)
    assert isinstance(failures[3].error, UsageError)


def test_a_model_without_the_tokens_infills_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(session.tokenizer), "token_id", lambda *_: None)
    (event,) = session.infill([hole(0)])
    assert isinstance(event, Failure)
    assert isinstance(event.error, ModelUnsupportedError)


def interrupted(session: Session, requests: Sequence[InfillRequest], events: int) -> list[object]:
    """All events of a run that is interrupted behind the first few."""
    under_way = session.infill(requests)
    seen: list[object] = [next(under_way) for _ in range(events)]
    seen.append(under_way.throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        seen += iter(lambda: next(under_way), None)
    return seen


@pytest.mark.parametrize("events", [1, 2, 5])
def test_an_interrupt_hands_over_what_is_there(session: Session, events: int) -> None:
    requests = [
        hole(rank, sampling=WARM, candidates=candidates, span="eos", max_new_tokens=60)
        for rank, candidates in ((0, 1), (1, 3), (2, 1), (3, 2))
    ]
    whole = run(session, *requests)
    seen = interrupted(session, requests, events)
    done = {e.request: e for e in seen if isinstance(e, Infilled)}
    assert set(done) == {0, 1, 2, 3}
    for position, one in done.items():
        reasons = {candidate.finish_reason for candidate in one.candidates}
        if "interrupted" not in reasons:
            continue
        assert len(one.candidates) == requests[position].candidates
        assert all(candidate.score is None for candidate in one.candidates)
        longest = [candidate.text for candidate in whole[position].candidates]
        for candidate in one.candidates:
            shown = candidate.text.rstrip("\ufffd")
            assert any(text.startswith(shown) for text in longest)
        if requests[position].candidates == 1:
            chunks = [e.text for e in seen if isinstance(e, Chunk) and e.request == position]
            assert "".join(chunks) == one.candidates[0].text
    assert any(c.finish_reason == "interrupted" for one in done.values() for c in one.candidates)


def test_an_interrupt_of_the_ranking_hands_over_whole_middles(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.backend, "score_tails", interrupt)
    under_way = session.infill([hole(0, sampling=WARM, candidates=3)])
    done = next(under_way)
    assert isinstance(done, Infilled)
    assert [candidate.score for candidate in done.candidates] == [None] * 3
    assert all(candidate.finish_reason != "interrupted" for candidate in done.candidates)
    with pytest.raises(KeyboardInterrupt):
        next(under_way)


def test_what_was_answered_is_not_answered_again_at_an_interrupt(session: Session) -> None:
    requests = [
        hole(0, sampling=HOT, candidates=3, max_new_tokens=2, span="eos"),
        hole(1, sampling=WARM, max_new_tokens=60, span="eos"),
    ]
    under_way = session.infill(requests)
    seen: list[object] = []
    while not isinstance(next_event := next(under_way), Infilled):
        seen.append(next_event)
    assert next_event.request == 0
    seen.append(under_way.throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        seen += iter(lambda: next(under_way), None)
    assert [event.request for event in seen if isinstance(event, Infilled)] == [1]


def test_what_was_typed_at_the_hole_alone_is_fed_again(session: Session) -> None:
    prefix, suffix = HOLES[3]
    (first,) = run(session, InfillRequest(prefix=prefix, suffix=suffix))
    typed = prefix + "    number = "
    (second,) = run(session, InfillRequest(prefix=typed, suffix=suffix))
    assert second.timing.reused_tokens > first.prompt_tokens - 4
    assert second.prompt_tokens > second.timing.reused_tokens
    fresh = random_session(n_positions=CONTEXT)
    (expected,) = run(fresh, InfillRequest(prefix=typed, suffix=suffix))
    assert expected.timing.reused_tokens == 0
    assert untimed(second) == untimed(expected)


def test_times_and_rates_are_told(session: Session) -> None:
    (done,) = run(session, hole(0, sampling=WARM, candidates=3))
    timing = done.timing
    assert timing.first_token_s is not None
    assert timing.first_token_s > 0
    assert timing.prefill_tokens_per_s is not None
    assert timing.prefill_tokens_per_s > 0


def test_the_rate_is_of_what_was_run_through_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    session = random_session(n_positions=CONTEXT)
    monkeypatch.setattr("bigcode_cli.engine.scheduler.perf_counter", itertools.count().__next__)
    for _ in range(2):
        (done,) = run(session, hole(3))
        fed = done.prompt_tokens - done.timing.reused_tokens
        assert done.timing.prefill_tokens_per_s == fed
    assert fed == 1


def test_generating_reuses_what_infilling_left_and_is_not_misled() -> None:
    prompt = "def add(first, second):\n    return first + second\n" * 2
    expected = next(
        event
        for event in random_session().generate([GenerateRequest(prompt=prompt)])
        if isinstance(event, Completion)
    )
    session = random_session()
    run(session, hole(0))
    for _ in range(2):
        events = list(session.generate([GenerateRequest(prompt=prompt)]))
        (got,) = (event for event in events if isinstance(event, Completion))
        assert got.text == expected.text
    assert got.timing.reused_tokens == got.prompt_tokens - 1
