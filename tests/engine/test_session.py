"""Requests in, text out: the session on a small random model."""

from collections import defaultdict
from collections.abc import Sequence

import pytest

from bigcode_cli.engine.session import Event, Session
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.records import (
    Chunk,
    Completion,
    Failure,
    GenerateRequest,
    SamplingOptions,
    StopOptions,
)
from tests.sessions import random_session

MAX_ROWS = 16
PROMPTS = ("def foo(", "x = 1\ny = ", "import os\n\n\nclass Thing:\n    def __init__(self", "a")
WARM = SamplingOptions(temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def session() -> Session:
    return random_session()


def completions(events: Sequence[Event]) -> dict[tuple[int, int], Completion]:
    return {(e.request, e.sample): e for e in events if isinstance(e, Completion)}


def run(session: Session, *requests: GenerateRequest) -> list[Completion]:
    done = completions(list(session.generate(requests)))
    return [done[key] for key in sorted(done)]


def test_chunks_joined_are_the_completion(session: Session) -> None:
    requests = [GenerateRequest(prompt=p, sampling=WARM, num_samples=3) for p in PROMPTS]
    events = list(session.generate(requests))
    streamed: defaultdict[tuple[int, int], str] = defaultdict(str)
    ended = set()
    for event in events:
        assert not isinstance(event, Failure)
        key = (event.request, event.sample)
        assert key not in ended
        if isinstance(event, Chunk):
            assert event.text
            streamed[key] += event.text
        else:
            assert streamed[key] == event.text
            ended.add(key)
    assert ended == {(request, sample) for request in range(4) for sample in range(3)}


def test_a_batch_gives_what_each_request_gives_alone(session: Session) -> None:
    requests = [
        GenerateRequest(prompt=p, max_new_tokens=20 + 7 * i, sampling=s)
        for i, p in enumerate(PROMPTS * 6)
        for s in (SamplingOptions(), WARM)
    ]
    assert len(requests) > MAX_ROWS
    together = run(session, *requests)
    for got, request in zip(together, requests, strict=True):
        (alone,) = run(session, request)
        assert (got.text, got.finish_reason, got.completion_tokens, got.seed) == (
            alone.text,
            alone.finish_reason,
            alone.completion_tokens,
            alone.seed,
        )


def test_samples_differ_and_a_seed_repeats_them_all(session: Session) -> None:
    request = GenerateRequest(prompt="x", sampling=WARM, num_samples=3)
    first, again = run(session, request), run(session, request)
    assert [c.text for c in first] == [c.text for c in again]
    assert len({c.text for c in first}) == 3


def test_a_seed_that_was_drawn_is_told_and_repeats(session: Session) -> None:
    (drawn,) = run(session, GenerateRequest(prompt="x", sampling=SamplingOptions(temperature=1.0)))
    assert drawn.seed is not None
    again = SamplingOptions(temperature=1.0, seed=drawn.seed)
    assert run(session, GenerateRequest(prompt="x", sampling=again))[0].text == drawn.text
    assert run(session, GenerateRequest(prompt="x"))[0].seed is None


def test_the_budget_and_the_context_end_an_output_as_length(session: Session) -> None:
    seeds = (SamplingOptions(temperature=1.0, seed=seed) for seed in range(50))
    budget = next(
        c
        for s in seeds
        if (c := run(session, GenerateRequest(prompt="a", max_new_tokens=9, sampling=s))[0])
        and c.finish_reason == "length"
    )
    assert budget.completion_tokens == 9
    prompt = "a = b\n" * 100
    while len(session.tokenizer.encode(prompt)) > 120:
        prompt = prompt[1:]
    (filled,) = run(session, GenerateRequest(prompt=prompt))
    assert filled.finish_reason in {"length", "eos"}
    assert filled.prompt_tokens + filled.completion_tokens <= session.info.n_positions


def test_a_stop_string_ends_the_output_before_it(session: Session) -> None:
    for seed in range(100):
        sampling = SamplingOptions(temperature=1.0, seed=seed)
        (free,) = run(session, GenerateRequest(prompt="def foo(", sampling=sampling))
        if len(free.text) > 20:
            break
    stop = free.text[8:11]
    stops = StopOptions(texts=(stop,))
    (stopped,) = run(session, GenerateRequest(prompt="def foo(", sampling=sampling, stops=stops))
    assert stopped.text == free.text[: free.text.index(stop)]
    assert (stopped.finish_reason, stopped.stop) == ("stop", stop)


def test_healing_continues_the_very_text_of_the_prompt(session: Session) -> None:
    for prompt in PROMPTS[:3]:
        ids = session.tokenizer.encode(prompt)
        (healed,) = run(session, GenerateRequest(prompt=prompt, heal=True, logprobs=0))
        assert healed.prompt_tokens == len(ids) - 1
        assert healed.logprobs is not None
        first = healed.logprobs[0].text
        last = session.tokenizer.token_bytes(ids[-1]).decode()
        assert first.startswith(last)
        joined = "".join(token.text for token in healed.logprobs)
        assert joined.startswith(last + healed.text[:5])


def test_a_bad_request_fails_alone(session: Session) -> None:
    long = "abc = 5\n" * 200
    requests = [GenerateRequest(prompt=p, id=p[:1]) for p in ("", "ok", long, "\ud800")]
    events = list(session.generate(requests))
    failures = {e.request: e for e in events if isinstance(e, Failure)}
    assert set(completions(events)) == {(1, 0)}
    assert isinstance(failures[0].error, InputError)
    assert isinstance(failures[2].error, UsageError)
    assert "128" in failures[2].error.message
    assert isinstance(failures[3].error, InputError)
    assert failures[2].id == "a"


def test_truncation_keeps_the_end_of_the_prompt(session: Session) -> None:
    long = "abc = 5\n" * 200
    request = GenerateRequest(prompt=long, truncate=True, max_new_tokens=30)
    (got,) = run(session, request)
    assert got.prompt_tokens == session.info.n_positions - 30
    kept = session.tokenizer.decode(session.tokenizer.encode(long)[-got.prompt_tokens :])
    assert run(session, GenerateRequest(prompt=kept, max_new_tokens=30))[0].text == got.text


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_an_interrupt_hands_over_what_is_there(session: Session, steps: int) -> None:
    requests = [GenerateRequest(prompt=p) for p in PROMPTS]
    whole = run(session, *requests)
    events = session.generate(requests)
    seen: list[Event] = [next(events)]
    seen += [next(events) for _ in range(steps)]
    seen.append(events.throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        seen += iter(lambda: next(events), None)
    done = completions(seen)
    assert set(done) == {(request, 0) for request in range(4)}
    for (request, _), completion in done.items():
        assert whole[request].text.startswith(completion.text.rstrip("\ufffd"))
        streamed = "".join(e.text for e in seen if isinstance(e, Chunk) and e.request == request)
        assert streamed == completion.text
        if completion.finish_reason != "interrupted":
            assert completion.text == whole[request].text
    assert any(c.finish_reason == "interrupted" for c in done.values())


def test_control_tokens_end_an_output_and_are_never_shown(session: Session) -> None:
    hot = SamplingOptions(temperature=30.0, seed=1)
    request = GenerateRequest(prompt="x", sampling=hot, num_samples=8, logprobs=0)
    for completion in run(session, request):
        assert completion.logprobs is not None
        control = [t.id in session.tokenizer.control_ids for t in completion.logprobs]
        assert not any(control[:-1])
        assert control[-1] == (completion.finish_reason == "eos")
        assert "<fim_" not in completion.text
        assert "<|endoftext|>" not in completion.text


def test_times_and_rates_are_told(session: Session) -> None:
    (got,) = run(session, GenerateRequest(prompt="def foo(", max_new_tokens=5))
    timing = got.timing
    assert timing.first_token_s is not None
    assert timing.first_token_s > 0
    assert timing.prefill_tokens_per_s is not None
    assert timing.prefill_tokens_per_s > 0


def test_the_first_token_of_a_request_that_waits_is_timed_from_the_beginning(
    session: Session,
) -> None:
    requests = [GenerateRequest(prompt="x", max_new_tokens=20)] * (2 * MAX_ROWS)
    first = [c.timing.first_token_s or 0.0 for c in run(session, *requests)]
    assert min(first[MAX_ROWS:]) > max(first[:MAX_ROWS])
