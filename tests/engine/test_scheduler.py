"""Requests that join and leave, against the same requests one at a time."""

import dataclasses
import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigcode_cli.backends import torch as backend_module
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.backends.torch_rows import TorchRows
from bigcode_cli.engine import scheduler
from bigcode_cli.engine.decode import closed_up
from bigcode_cli.engine.protocol import Prompt, Token
from bigcode_cli.engine.session import Event, Session
from bigcode_cli.errors import ModelTooLargeError
from bigcode_cli.model.cache import KVCache
from bigcode_cli.records import (
    Chunk,
    Completion,
    Failure,
    GenerateRequest,
    SamplingOptions,
    StopOptions,
)
from tests.engine.test_speculate import rash
from tests.sessions import random_session
from tests.tokenizers import tiny_tokenizer

PROMPTS = (
    "a",
    "def foo(",
    "x = 1\ny = ",
    "import os\n\n\nclass Thing:\n    def __init__(self",
    "for row in rows:\n    print(row)\n" * 2,
)
SAMPLING = (
    SamplingOptions(),
    SamplingOptions(temperature=1.0, seed=3),
    SamplingOptions(temperature=0.8, top_p=0.9, repetition_penalty=1.3, seed=4),
    SamplingOptions(repetition_penalty=1.5),
)


class WatchedRows(TorchRows):
    """Rows that note how many were stepped, as a negative number."""

    log: list[int]

    def verify(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        if self._hidden is None:
            self.log.append(-len(self))
        return super().verify(guesses)


class Watched(TorchBackend):
    """A backend that notes what is done with it.

    Attributes:
        log: tokens of each chunk, padding counted in, and minus the rows of each step.
        room: rows of the largest cache.
        memory: rows that a cache may have.
    """

    def __init__(self, *, max_rows: int, prefill_tokens: int = 64, memory: int = 1000) -> None:
        other = random_session().backend
        assert isinstance(other, TorchBackend)
        info = dataclasses.replace(other.info, max_rows=max_rows, prefill_tokens=prefill_tokens)
        super().__init__(other._model, info)
        self.log: list[int] = []
        self.room, self.memory = 0, memory

    def _allocate(self, batch: int, rows: int, capacity: int, room: int) -> KVCache:
        if rows > self.memory:
            raise ModelTooLargeError(f"no memory for {rows} rows")
        self.room = max(self.room, rows)
        return super()._allocate(batch, rows, capacity, room)

    def _run(
        self, cache: KVCache, rows: Sequence[Sequence[int]]
    ) -> Generator[tuple[int, int], None, Tensor]:
        chunks = super()._run(cache, rows)
        before = cache.longest
        while True:
            try:
                done, total = next(chunks)
            except StopIteration as end:
                last: Tensor = end.value
                return last
            self.log.append((done - before) * len(rows))
            before = done
            yield done, total

    def _make_rows(
        self,
        cache: KVCache,
        hidden: Tensor,
        prompts: Sequence[Prompt],
        *,
        reused: int,
        history: list[int] | None,
    ) -> TorchRows:
        rows = WatchedRows(
            self._model,
            self.info,
            cache,
            hidden,
            prompts,
            room=self._room,
            reused=reused,
            history=history,
        )
        rows.log = self.log
        return rows


def serving(backend: TorchBackend) -> Session:
    return Session("random", tiny_tokenizer(), backend)


def answers(events: Iterable[Event]) -> dict[tuple[int, int], tuple[object, ...]]:
    done: dict[tuple[int, int], tuple[object, ...]] = {}
    for event in events:
        assert not isinstance(event, Failure)
        if isinstance(event, Completion):
            key = event.request, event.sample
            assert key not in done
            done[key] = (event.text, event.finish_reason, event.stop, event.completion_tokens)
    return done


@cache
def alone(request: GenerateRequest) -> list[tuple[object, ...]]:
    done = answers(random_session().generate([request]))
    return [done[key] for key in sorted(done)]


def expected(requests: Sequence[GenerateRequest]) -> dict[tuple[int, int], tuple[object, ...]]:
    return {
        (place, sample): one
        for place, request in enumerate(requests)
        for sample, one in enumerate(alone(request))
    }


asked = st.builds(
    lambda options, samples, **more: GenerateRequest(
        sampling=options, num_samples=1 if options.greedy else samples, **more
    ),
    st.sampled_from(SAMPLING),
    st.sampled_from([1, 1, 1, 3]),
    prompt=st.sampled_from(PROMPTS),
    max_new_tokens=st.sampled_from([1, 2, 9, 30, 60]),
    heal=st.booleans(),
    stops=st.sampled_from([StopOptions(), StopOptions(texts=("e", " ")), StopOptions(at="line")]),
)


@settings(max_examples=15)
@given(
    requests=st.lists(asked, min_size=1, max_size=10),
    max_rows=st.sampled_from([1, 2, 3, 5, 16]),
    prefill_tokens=st.sampled_from([1, 20, 200]),
    guesses=st.sampled_from([None, "lookup", "draft"]),
)
def test_requests_give_what_they_give_one_at_a_time(
    requests: list[GenerateRequest], max_rows: int, prefill_tokens: int, guesses: str | None
) -> None:
    session = serving(Watched(max_rows=max_rows, prefill_tokens=prefill_tokens))
    if guesses is not None:
        session = rash(session, random_session(seed=1).backend if guesses == "draft" else None)
    assert answers(session.generate(requests)) == expected(requests)


def request(prompt: str, tokens: int, **more: object) -> GenerateRequest:
    plain = GenerateRequest(prompt=prompt, max_new_tokens=tokens, sampling=SAMPLING[1])
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


@cache
def lasting(tokens: int, prompt: str = "a") -> GenerateRequest:
    """One that comes to no end of its own."""
    for seed in range(1000):
        options = SamplingOptions(temperature=0.7, top_k=4, seed=seed)
        one = request(prompt, tokens, sampling=options)
        if alone(one)[0][1] == "length":
            return one
    raise AssertionError("all end")


def uneven(count: int) -> list[GenerateRequest]:
    return [
        request(PROMPTS[place % 5], 4 + 13 * place % 40, sampling=SAMPLING[place % 4])
        for place in range(count)
    ]


def steps(log: Sequence[int]) -> list[int]:
    return [-entry for entry in log if entry < 0]


def test_rows_are_as_many_as_suit_however_many_requests_there_are() -> None:
    rooms = []
    for count in (20, 60):
        backend = Watched(max_rows=5)
        assert answers(serving(backend).generate(uneven(count))) == expected(uneven(count))
        assert max(steps(backend.log)) == 5
        # Rows leave at their own time, and others take their place at once.
        assert sum(steps(backend.log)) >= 4.5 * (len(steps(backend.log)) - 40)
        rooms.append(backend.room)
    assert rooms == [5, 5]


def test_who_is_short_does_not_wait_for_who_is_long() -> None:
    requests = [lasting(60), *[request("a", 6)] * 8]
    events = serving(Watched(max_rows=2)).generate(requests)
    ended = [event.request for event in events if isinstance(event, Completion)]
    assert ended == [*range(1, 9), 0]


def test_a_long_prompt_does_not_hold_up_those_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "PREFILL_CHUNK", 16)
    long = "for row in rows:\n    print(row)\n" * 4
    count = len(tiny_tokenizer().encode(long))
    assert count > 70
    requests = [*[lasting(40)] * 3, lasting(3), lasting(9, long)]
    backend = Watched(max_rows=4, prefill_tokens=16)
    assert answers(serving(backend).generate(requests)) == expected(requests)
    chunks = [place for place, entry in enumerate(backend.log) if entry > 4]
    assert len(chunks) == -(-count // 16)
    # One chunk, one step, and so on.
    assert chunks == list(range(chunks[0], chunks[-1] + 1, 2))
    assert [backend.log[place + 1] for place in chunks] == [-3] * (len(chunks) - 1) + [-4]


def test_short_prompts_are_read_side_by_side() -> None:
    backend = Watched(max_rows=8, prefill_tokens=64)
    requests = [lasting(5)] * 6 + [request(PROMPTS[4], 5)] * 2
    assert answers(serving(backend).generate(requests)) == expected(requests)
    longer = len(tiny_tokenizer().encode(PROMPTS[4]))
    # Those that fill a pass are read one by one, so that what they have in common is reused.
    assert [entry for entry in backend.log if entry > 0] == [6, longer, 1]


def test_many_samples_are_let_in_once_half_of_the_rows_are_free() -> None:
    backend = Watched(max_rows=4)
    requests = [lasting(4)] * 2 + [lasting(40)] * 2 + [request("x", 9, num_samples=6)]
    assert answers(serving(backend).generate(requests)) == expected(requests)
    assert steps(backend.log)[:3] == [4, 4, 4]
    assert 4 < max(steps(backend.log)) <= 8


def test_requests_are_made_ready_when_their_turn_comes() -> None:
    class Told(list[GenerateRequest]):
        taken = 0

        def __iter__(self) -> Iterator[GenerateRequest]:
            for one in super().__iter__():
                self.taken += 1
                yield one

    requests, most = Told(uneven(40)), 0
    ended = 0
    for event in serving(Watched(max_rows=4)).generate(requests):
        ended += isinstance(event, Completion)
        most = max(most, requests.taken - ended)
    assert ended == 40
    assert most <= 4 + 1


def test_none_is_too_far_ahead_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MAX_AHEAD", 2)
    requests = [lasting(60), *[lasting(2)] * 20]
    events = serving(Watched(max_rows=2)).generate(requests)
    ended = [event.request for event in events if isinstance(event, Completion)]
    assert ended == [1, 2, 3, 4, 0, *range(5, 21)]


class TestMemory:
    @pytest.mark.parametrize("memory", [1, 2, 3, 5])
    def test_who_does_not_fit_waits(self, memory: int) -> None:
        backend = Watched(max_rows=8, memory=memory)
        assert answers(serving(backend).generate(uneven(14))) == expected(uneven(14))
        assert backend.room <= memory

    def test_who_never_fits_fails_alone(self) -> None:
        requests = uneven(7)
        requests[3] = request("a", 9, num_samples=4, id="large")
        events = list(serving(Watched(max_rows=8, memory=3)).generate(requests))
        (failure,) = [event for event in events if isinstance(event, Failure)]
        assert (failure.request, failure.id) == (3, "large")
        assert isinstance(failure.error, ModelTooLargeError)
        wanted = {key: one for key, one in expected(uneven(7)).items() if key[0] != 3}
        assert answers(event for event in events if event is not failure) == wanted


@settings(max_examples=20)
@given(at=st.integers(0, 400), seed=st.integers(0, 9), raised=st.booleans())
def test_an_interrupt_at_any_time_loses_nothing(at: int, seed: int, raised: bool) -> None:
    """Whether it falls between two events, or into the model's work."""
    requests = uneven(16)
    random.Random(seed).shuffle(requests)
    whole = expected(requests)
    backend = Watched(max_rows=4, prefill_tokens=8)
    session = serving(backend)
    if raised:
        backend.log = Bomb(at // 4)
    events, seen = session.generate(requests), list[Event]()
    interrupted = False
    try:
        for count, event in enumerate(events):
            seen.append(event)
            if count == at and not raised:
                seen.append(events.throw(KeyboardInterrupt()))
    except KeyboardInterrupt:
        interrupted = True
    done = {event.request: event for event in seen if isinstance(event, Completion)}
    assert len(done) == sum(isinstance(event, Completion) for event in seen)
    begun = {event.request for event in seen if isinstance(event, Chunk)}
    assert begun <= set(done)
    assert set(done) == set(range(len(done)))
    for place, completion in done.items():
        text, reason, _, _ = whole[place, 0]
        streamed = "".join(e.text for e in seen if isinstance(e, Chunk) and e.request == place)
        assert streamed == completion.text
        if completion.finish_reason == "interrupted":
            assert str(text).startswith(completion.text.rstrip("\ufffd"))
        else:
            assert (completion.text, completion.finish_reason) == (text, reason)
    cut = [e for e in done.values() if e.finish_reason == "interrupted"]
    assert len(cut) <= 4
    if not interrupted:
        assert len(done) == len(requests)
        assert not cut


class Bomb(list[int]):
    """Interrupts whoever notes too much."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def append(self, entry: int) -> None:
        super().append(entry)
        if len(self) == self._most:
            raise KeyboardInterrupt


@given(st.sets(st.integers(0, 30)))
def test_rows_close_up_by_as_few_moves_as_can_be(rows: set[int]) -> None:
    order = closed_up(sorted(rows))
    assert sorted(order) == sorted(rows)
    moved = [(place, row) for place, row in enumerate(order) if place != row]
    assert len(moved) == sum(row >= len(rows) for row in rows)
    assert all(row >= len(rows) for _, row in moved)
