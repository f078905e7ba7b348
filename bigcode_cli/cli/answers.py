"""What a session yields, as the user asked to see it: text as it grows, or JSON when it is done."""

import json
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from bigcode_cli.cli.output import Answer
from bigcode_cli.cli.render import TerminalReporter, print_error
from bigcode_cli.records import (
    Chunk,
    Completion,
    Failure,
    Infilled,
    Timing,
    TokenLogprob,
)

Event = Chunk | Completion | Failure

EventT = TypeVar("EventT", bound=Chunk | Completion | Infilled | Failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One input, as the caller knows it.

    Attributes:
        id: handed back unchanged.
        place: ``file:line`` for errors and headers; ``None`` for a lone input.
    """

    id: str | int | None = None
    place: str | None = None

    @property
    def request_id(self) -> str | None:
        """The id as a request holds it."""
        return None if self.id is None else str(self.id)

    @property
    def label(self) -> str | None:
        """How a header calls it."""
        return self.request_id or self.place


class View(Protocol):
    """Shows events, already in order."""

    def show(self, event: Chunk | Completion) -> None:
        """Show one."""

    def pause(self) -> None:
        """Let others write to the terminal."""


class InOrder(Generic[EventT]):
    """Lets outputs that grow side by side through one after the other, each as it grows.

    Args:
        requests: how many there are.
        samples: of each.
    """

    def __init__(self, requests: int, samples: int) -> None:
        self._turns = deque((r, s) for r in range(requests) for s in range(samples))
        self._held: dict[tuple[int, int], list[EventT]] = {}

    def push(self, event: EventT) -> list[EventT]:
        """The events that may be shown now that this one has come."""
        key = (event.request, event.sample if isinstance(event, Chunk | Completion) else 0)
        if isinstance(event, Failure):
            self._turns = deque(turn for turn in self._turns if turn == key or turn[0] != key[0])
        self._held.setdefault(key, []).append(event)
        return self._due()

    def rest(self) -> list[EventT]:
        """What is held when nothing more will come."""
        left = [event for turn in self._turns for event in self._held.pop(turn, [])]
        self._turns.clear()
        return left

    def _due(self) -> list[EventT]:
        due: list[EventT] = []
        while self._turns and self._turns[0] in self._held:
            events = self._held.pop(self._turns[0])
            due.extend(events)
            if isinstance(events[-1], Chunk):
                break
            self._turns.popleft()
        return due


def follow(
    events: Generator[EventT], order: InOrder[EventT], show: Callable[[EventT], None]
) -> None:
    """Show a session's events, in order, to the end.

    Raises:
        KeyboardInterrupt: after what was under way has been shown.
    """

    def take(event: EventT) -> None:
        for due in order.push(event):
            show(due)

    try:
        try:
            for event in events:
                take(event)
        except KeyboardInterrupt as interrupt:
            # One that fell between two events is unknown to the session: it is handed on, so that
            # outputs under way are ended. The session raises it again when it is done.
            event = events.throw(interrupt)
            while True:
                take(event)
                event = next(events)
    finally:
        for event in order.rest():
            show(event)


def tell_failure(failure: Failure, place: str | None) -> None:
    """Tell that one of several inputs came to nothing.

    Args:
        place: of the input; ``None`` for a lone one.

    Raises:
        BigcodeError: it was the only one.
    """
    if place is None:
        raise failure.error
    print_error(f"{place}: {failure.error.message}", failure.error.hint)


class Sections:
    """Outputs one after the other on the answer's stream.

    Several are set off by a blank line, and named in headers on stderr.

    Args:
        several: whether there is more than one.
    """

    def __init__(self, answer: Answer, report: TerminalReporter, *, several: bool) -> None:
        self._answer, self._report = answer, report
        self._several = several
        self._open: object = None

    def enter(self, key: object, label: str) -> bool:
        """Go on with an output, or begin it; whether it begins."""
        if self._answer.terminal:
            self._report.clear()
        if key == self._open:
            return False
        if self._several:
            if self._open is not None:
                self._answer.separate()
            self._report.header(label)
        self._open = key
        return True


class TextView:
    """Text alone on the answer's stream.

    Args:
        inputs: each with its prompt.
        samples: of each input.
        echo: show each prompt before its completion.
    """

    def __init__(
        self,
        answer: Answer,
        report: TerminalReporter,
        inputs: Sequence[tuple[Asked, str]],
        *,
        samples: int,
        echo: bool,
    ) -> None:
        self._answer, self._inputs = answer, inputs
        self._samples, self._echo = samples, echo
        self._sections = Sections(answer, report, several=len(inputs) * samples > 1)

    def show(self, event: Chunk | Completion) -> None:
        """Write a chunk; a completion ends its output."""
        asked, prompt = self._inputs[event.request]
        label = output_label(asked, event, self._samples)
        if self._sections.enter((event.request, event.sample), label) and self._echo:
            self._answer.write(prompt)
        if isinstance(event, Chunk):
            self._answer.write(event.text)

    def pause(self) -> None:
        """End the terminal's line."""
        self._answer.pause()


class JsonView:
    """One JSON object a line, when an output is done."""

    def __init__(self, answer: Answer, report: TerminalReporter, asked: Sequence[Asked]) -> None:
        self._answer, self._report, self._asked = answer, report, asked

    def show(self, event: Chunk | Completion) -> None:
        """Write a completion; chunks are part of it."""
        if isinstance(event, Completion):
            if self._answer.terminal:
                self._report.clear()
            self._answer.write_json(
                to_json(completion_object(event, self._asked[event.request].id))
            )

    def pause(self) -> None:
        """Nothing: lines of JSON are always ended."""


def completion_object(done: Completion, id_: str | int | None) -> dict[str, Any]:
    """A completion as other programs read it."""
    return {
        "id": id_,
        "index": done.sample,
        "model": done.model,
        "prompt": done.prompt,
        "completion": done.text,
        "finish_reason": done.finish_reason,
        "stop": done.stop,
        "usage": usage_object(done.prompt_tokens, done.completion_tokens, done.timing),
        "timing": timing_object(done.timing),
        "seed": done.seed,
        **logprobs_object(done.logprobs),
    }


def usage_object(prompt_tokens: int, completion_tokens: int, timing: Timing) -> dict[str, Any]:
    """Counts as other programs read them; those of guesses where some were to be made."""
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
    }
    if (passes := timing.passes) is not None:
        usage["passes"] = passes.count
        usage["guessed_tokens"] = passes.guessed
        usage["accepted_tokens"] = passes.accepted
        usage["accepted_histogram"] = list(passes.held)
    return usage


def timing_object(timing: Timing) -> dict[str, Any]:
    """Seconds and rates as other programs read them."""
    passes = timing.passes
    return {
        "load_s": timing.load_s,
        "first_token_s": timing.first_token_s,
        "prefill_tokens_per_s": timing.prefill_tokens_per_s,
        "decode_tokens_per_s": timing.decode_tokens_per_s,
        **({} if passes is None else {"tokens_per_pass": passes.tokens_per_pass}),
    }


def logprobs_object(logprobs: Sequence[TokenLogprob] | None) -> dict[str, Any]:
    """``"logprobs"``, where they were asked for."""
    if logprobs is None:
        return {}
    return {
        "logprobs": [
            {**_token_object(token), "top": [_token_object(other) for other in token.top]}
            for token in logprobs
        ]
    }


def to_json(content: object) -> str:
    """JSON on one line, in ASCII: safe in any encoding, on any terminal, for any line splitter.

    Numbers that are not finite become ``null``.
    """
    return json.dumps(_finite(content), ensure_ascii=True, allow_nan=False)


def output_label(asked: Asked, event: Chunk | Completion, samples: int) -> str:
    """How one of several outputs is called."""
    sample = f"sample {event.sample + 1} of {samples}" if samples > 1 else None
    return ", ".join(part for part in (asked.label, sample) if part)


def _token_object(token: TokenLogprob) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
