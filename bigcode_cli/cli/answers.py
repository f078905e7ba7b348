"""What a session yields, as the user asked to see it: text as it grows, or JSON when it is done."""

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bigcode_cli.cli.output import Answer
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.records import Chunk, Completion, Failure, TokenLogprob

Event = Chunk | Completion | Failure


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


class InOrder:
    """Lets outputs that grow side by side through one after the other, each as it grows.

    Args:
        requests: how many there are.
        samples: of each.
    """

    def __init__(self, requests: int, samples: int) -> None:
        self._turns = deque((r, s) for r in range(requests) for s in range(samples))
        self._held: dict[tuple[int, int], list[Event]] = {}

    def push(self, event: Event) -> list[Event]:
        """The events that may be shown now that this one has come."""
        if isinstance(event, Failure):
            key = (event.request, 0)
            self._turns = deque(turn for turn in self._turns if turn == key or turn[0] != key[0])
        else:
            key = (event.request, event.sample)
        self._held.setdefault(key, []).append(event)
        return self._due()

    def rest(self) -> list[Event]:
        """What is held when nothing more will come."""
        left = [event for turn in self._turns for event in self._held.pop(turn, [])]
        self._turns.clear()
        return left

    def _due(self) -> list[Event]:
        due: list[Event] = []
        while self._turns and self._turns[0] in self._held:
            events = self._held.pop(self._turns[0])
            due.extend(events)
            if isinstance(events[-1], Chunk):
                break
            self._turns.popleft()
        return due


class TextView:
    """Text alone on the answer's stream.

    Several outputs are set off by a blank line, and named in headers on stderr.

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
        self._answer, self._report = answer, report
        self._inputs = inputs
        self._samples, self._echo = samples, echo
        self._open: tuple[int, int] | None = None
        self._begun = False

    def show(self, event: Chunk | Completion) -> None:
        """Write a chunk; a completion ends its output."""
        if self._answer.terminal:
            self._report.clear()
        if self._open != (event.request, event.sample):
            self._begin(event)
        if isinstance(event, Chunk):
            self._answer.write(event.text)

    def pause(self) -> None:
        """End the terminal's line."""
        self._answer.pause()

    def _begin(self, event: Chunk | Completion) -> None:
        self._open = (event.request, event.sample)
        asked, prompt = self._inputs[event.request]
        if len(self._inputs) * self._samples > 1:
            if self._begun:
                self._answer.separate()
            self._report.header(output_label(asked, event, self._samples))
        self._begun = True
        if self._echo:
            self._answer.write(prompt)


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
    content: dict[str, Any] = {
        "id": id_,
        "index": done.sample,
        "model": done.model,
        "prompt": done.prompt,
        "completion": done.text,
        "finish_reason": done.finish_reason,
        "stop": done.stop,
        "usage": {
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
        },
        "timing": {
            "load_s": done.timing.load_s,
            "first_token_s": done.timing.first_token_s,
            "prefill_tokens_per_s": done.timing.prefill_tokens_per_s,
            "decode_tokens_per_s": done.timing.decode_tokens_per_s,
        },
        "seed": done.seed,
    }
    if done.logprobs is not None:
        content["logprobs"] = [
            {**_token_object(token), "top": [_token_object(other) for other in token.top]}
            for token in done.logprobs
        ]
    return content


def to_json(content: object) -> str:
    """JSON on one line, in ASCII: safe in any encoding, on any terminal, for any line splitter.

    Numbers that are not finite become ``null``.
    """
    return json.dumps(_finite(content), ensure_ascii=True, allow_nan=False)


def output_label(asked: Asked, event: Chunk | Completion, samples: int) -> str:
    """How one of several outputs is called."""
    sample = f"sample {event.sample + 1} of {samples}" if samples > 1 else None
    return ", ".join(part for part in (asked.label, sample) if part)


def stats_lines(done: Completion, label: str) -> list[str]:
    """What ``--stats`` says of one output."""
    timing = done.timing
    first = "-" if timing.first_token_s is None else f"{timing.first_token_s:.3f} s"
    seed = "" if done.seed is None else f", seed {done.seed}"
    head = f"{label}: " if label else ""
    return [
        f"{head}prompt {done.prompt_tokens:,} tokens at {_rate(timing.prefill_tokens_per_s)}, "
        f"first token after {first}",
        f"{head}output {done.completion_tokens:,} tokens at {_rate(timing.decode_tokens_per_s)}, "
        f"ended by {done.finish_reason}{seed}",
    ]


def _rate(tokens_per_s: float | None) -> str:
    return "-" if tokens_per_s is None else f"{tokens_per_s:,.1f} tokens/s"


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
