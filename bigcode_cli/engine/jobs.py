"""Requests under way: one loop that serves whatever is asked of a model, several side by side.

What is asked becomes a prompt for the backend and the answers that are due; an answer is known
when its outputs have ended.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from bigcode_cli.engine.decode import decode
from bigcode_cli.engine.output import Output
from bigcode_cli.engine.prompts import Plan
from bigcode_cli.engine.protocol import Backend, Prompt
from bigcode_cli.engine.speculate import Speculation, Stepping
from bigcode_cli.records import Chunk, Completion, GenerateRequest, Passes, Reporter, Timing

AnswerT = TypeVar("AnswerT")
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What the outputs of a batch are timed by.

    Attributes:
        load_s: seconds that loading took.
        started: when the requests were handed in.
        prefill_tokens_per_s: of the batch; ``None`` before its prefill has ended.
        reused_tokens: of the batch's prompts, those that the backend had in its cache.
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
        due: their outputs, in order, are those of the prompt's samplers.
    """

    prompt: Prompt
    due: tuple[Due[AnswerT], ...]

    @property
    def rows(self) -> int:
        """How many rows it is decoded in."""
        return len(self.prompt.samplers)


def run(
    backend: Backend,
    jobs: Sequence[Job[AnswerT]],
    clock: Clock,
    report: Reporter,
    speculation: Speculation | None = None,
) -> Generator[Chunk | AnswerT]:
    """Prefill and decode one batch, telling each output's growth and each answer.

    Args:
        speculation: guesses tokens ahead.

    Raises:
        KeyboardInterrupt: after the answers still due were yielded with what is there.
    """
    due = {output: one for job in jobs for one in job.due for output in one.outputs}
    prompts = [job.prompt for job in jobs]
    tokens, began = sum(len(prompt.ids) for prompt in prompts), perf_counter()
    try:
        rows = backend.prefill(
            prompts, lambda done, total: report.progress("prompt", done, total, "tokens")
        )
        prefill_s = max(perf_counter() - began, 1e-9)
        clock = replace(
            clock,
            prefill_tokens_per_s=(tokens - rows.reused) / prefill_s,
            reused_tokens=rows.reused,
        )
        stepping = (
            Stepping(rows)
            if speculation is None
            else speculation.begin(prompts, rows, tokens - rows.reused, prefill_s)
        )
        for output in decode(stepping, list(due)):
            one = due[output]
            if one.streams and (text := output.take()):
                yield Chunk(output.request, output.sample, text)
            if all(other.finish_reason is not None for other in one.outputs):
                answer = one.answer(clock, interrupted=False)
                due = {other: owner for other, owner in due.items() if owner is not one}
                yield answer
    except KeyboardInterrupt:
        for one in dict.fromkeys(due.values()):
            for output in one.outputs:
                if output.finish_reason is None:
                    output.end("interrupted")
                if one.streams and (text := output.take()):
                    yield Chunk(output.request, output.sample, text)
            yield one.answer(clock, interrupted=True)
        raise


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
