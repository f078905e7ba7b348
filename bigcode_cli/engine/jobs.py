"""What is asked of a model becomes a prompt for the backend and the answers that are due.

An answer is known when its outputs have ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Generic, Protocol, TypeVar

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.prompts import Plan
from bigcode_cli.engine.protocol import Prompt
from bigcode_cli.records import Completion, GenerateRequest, Passes, Timing

AnswerT = TypeVar("AnswerT")
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What outputs are timed by whose prompts were read side by side.

    Attributes:
        load_s: seconds that loading took.
        started: when the requests were handed in.
        prefill_tokens_per_s: of these prompts, without what was done between their chunks;
            ``None`` before the last of them.
        reused_tokens: of these prompts, those that the backend had in its cache.
    """

    load_s: float
    started: float
    prefill_tokens_per_s: float | None = None
    reused_tokens: int = 0

    def timing(self, outputs: Sequence[Output]) -> Timing:
        """Of one answer."""
        firsts = [output.first_token_at for output in outputs if output.first_token_at is not None]
        lasts = [output.last_token_at for output in outputs if output.last_token_at is not None]
        decode_s = max(lasts) - min(firsts) if firsts else 0.0
        decoded = sum(output.tokens - 1 for output in outputs if output.tokens)
        return Timing(
            load_s=self.load_s,
            first_token_s=min(firsts) - self.started if firsts else None,
            prefill_tokens_per_s=self.prefill_tokens_per_s,
            decode_tokens_per_s=decoded / decode_s if decode_s > 0 else None,
            reused_tokens=self.reused_tokens,
            passes=_passes(outputs),
        )


def _passes(outputs: Sequence[Output]) -> Passes | None:
    known = [output.passes for output in outputs if output.passes is not None]
    return reduce(add, known) if known else None


class Due(Protocol[AnswerT_co]):
    """An answer that is known when its outputs have ended."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All of one prompt."""

    @property
    def streams(self) -> bool:
        """Whether their text is told as it grows."""

    def answer(self, clock: Clock, *, interrupted: bool) -> AnswerT_co:
        """What comes of the outputs, which have ended.

        Args:
            clock: after the prefill, if it came to that.
            interrupted: nothing more may be computed.
        """


@dataclass(frozen=True, slots=True)
class Job(Generic[AnswerT]):
    """One prompt on its way, and all answers that come of it.

    Attributes:
        request: the position of the request among those handed in.
        id: the request's own.
        due: their outputs, in order, are those of the prompt's samplers.
    """

    request: int
    id: str | None
    prompt: Prompt
    due: tuple[Due[AnswerT], ...]

    @property
    def rows(self) -> int:
        """How many rows it is decoded in."""
        return len(self.prompt.samplers)

    @property
    def outputs(self) -> list[Output]:
        """Of all answers."""
        return [output for one in self.due for output in one.outputs]


@dataclass(frozen=True, slots=True, eq=False)
class DueCompletion:
    """One output of a ``GenerateRequest``."""

    request: GenerateRequest
    plan: Plan
    output: Output
    model: str

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The one."""
        return (self.output,)

    @property
    def streams(self) -> bool:
        """Always."""
        return True

    def answer(
        self,
        clock: Clock,
        *,
        interrupted: bool,  # noqa: ARG002 -- the output tells it
    ) -> Completion:
        """See ``Due``."""
        output = self.output
        assert output.finish_reason is not None
        return Completion(
            request=output.request,
            sample=output.sample,
            id=self.request.id,
            model=self.model,
            prompt=self.request.prompt,
            text=output.text,
            finish_reason=output.finish_reason,
            stop=output.stop,
            prompt_tokens=len(self.plan.prompt.ids),
            completion_tokens=output.tokens,
            timing=clock.timing(self.outputs),
            seed=self.plan.seed,
            logprobs=tuple(output.logprobs) if self.request.logprobs is not None else None,
        )
