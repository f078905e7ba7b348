import json
import math
from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.answers import Event, InOrder, to_json
from bigcode_cli.errors import InputError
from bigcode_cli.records import Chunk, Completion, Failure, Timing

TIMING = Timing(load_s=0, first_token_s=None, prefill_tokens_per_s=None, decode_tokens_per_s=None)


def completion(request: int, sample: int) -> Completion:
    return Completion(
        request=request, sample=sample, id=None, model="", prompt="", text="",
        finish_reason="eos", stop=None, prompt_tokens=0, completion_tokens=0, timing=TIMING,
        seed=None,
    )  # fmt: skip


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, list[Event]]:
    """Requests, samples of each, and a run's events in some order that a session may choose."""
    requests, samples = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    lines: list[list[Event]] = []
    for request in range(requests):
        if draw(st.booleans()):
            lines.append([Failure(request, None, InputError("x"))])
            continue
        for sample in range(samples):
            chunks = draw(st.integers(0, 3))
            outputs: list[Event] = [Chunk(request, sample, str(n)) for n in range(chunks)]
            lines.append([*outputs, completion(request, sample)])
    events: list[Event] = []
    while lines:
        line = draw(st.sampled_from(lines))
        events.append(line.pop(0))
        lines = [line for line in lines if line]
    return requests, samples, events


def key(event: Event) -> tuple[int, int]:
    return (event.request, 0 if isinstance(event, Failure) else event.sample)


def shown(order: InOrder[Event], events: Sequence[Event]) -> Iterator[Event]:
    for event in events:
        yield from order.push(event)


@given(runs())
def test_outputs_come_one_after_the_other_and_none_is_lost(
    run: tuple[int, int, list[Event]],
) -> None:
    requests, samples, events = run
    order = InOrder[Event](requests, samples)
    assert list(shown(order, events)) == sorted(events, key=key)
    assert order.rest() == []


@given(runs(), st.integers(0, 20))
def test_what_is_held_when_a_run_breaks_off_is_not_lost(
    run: tuple[int, int, list[Event]], length: int
) -> None:
    requests, samples, events = run
    order = InOrder[Event](requests, samples)
    got = [*shown(order, events[:length]), *order.rest()]
    assert sorted(map(key, got)) == sorted(map(key, events[:length]))


@given(runs())
def test_the_output_whose_turn_it_is_is_never_held_back(
    run: tuple[int, int, list[Event]],
) -> None:
    requests, samples, events = run
    order = InOrder[Event](requests, samples)
    first = min(map(key, events))
    for event in events:
        due = order.push(event)
        assert key(event) != first or event in due


def test_numbers_that_are_not_finite_become_null() -> None:
    line = to_json({"a": [math.nan, -math.inf, 1.5, (2, True)], "b": None})
    assert json.loads(line) == {"a": [None, None, 1.5, [2, True]], "b": None}


@given(st.text())
def test_json_is_one_ascii_line_for_any_reader(text: str) -> None:
    line = to_json({"text": text})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"text": text}
