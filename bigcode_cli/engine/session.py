"""A loaded model and its tokenizer: the one file that joins text and a backend."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from time import perf_counter

from bigcode_cli.backends import open_backend
from bigcode_cli.engine.decode import decode
from bigcode_cli.engine.output import Output
from bigcode_cli.engine.prompts import Plan, plan
from bigcode_cli.engine.protocol import Backend, BackendInfo
from bigcode_cli.errors import BigcodeError
from bigcode_cli.records import (
    Chunk,
    Completion,
    Failure,
    GenerateRequest,
    LoadOptions,
    ModelFolder,
    Reporter,
    Silence,
    Timing,
)
from bigcode_cli.text.tokenizer import Tokenizer

MAX_ROWS = 16
"""Rows decoded side by side. More would gain little on a CPU and cost every row its cache."""

Event = Chunk | Completion | Failure


@dataclass(frozen=True, slots=True)
class _Job:
    """A request on its way: where it stood, what was planned, and its outputs."""

    position: int
    request: GenerateRequest
    plan: Plan
    outputs: tuple[Output, ...]


class Session:
    """What stays loaded between requests.

    Attributes:
        tokenizer: of the model.
        backend: the loaded weights.
        load_s: seconds that loading took.
    """

    def __init__(
        self, name: str, tokenizer: Tokenizer, backend: Backend, load_s: float = 0.0
    ) -> None:
        self.tokenizer = tokenizer
        self.load_s = load_s
        self._name = name
        self.backend = backend

    @classmethod
    def open(
        cls, folder: ModelFolder, options: LoadOptions, *, report: Reporter | None = None
    ) -> "Session":
        """Load the tokenizer and the weights of a model folder.

        Raises:
            ModelError: the folder does not hold a model that can be run here.
            UsageError: the options ask for a device or a kernel that is not here.
        """
        started = perf_counter()
        tokenizer = Tokenizer.load(folder.path)
        backend = open_backend(
            folder, options, vocab_size=tokenizer.vocab_size, report=report or Silence()
        )
        return cls(folder.name, tokenizer, backend, perf_counter() - started)

    @property
    def info(self) -> BackendInfo:
        """What the loaded model is and can take."""
        return self.backend.info

    def generate(
        self, requests: Sequence[GenerateRequest], *, report: Reporter | None = None
    ) -> Generator[Event]:
        """Complete the requests, several side by side.

        Yields:
            Chunks as their text becomes final; one ``Completion`` after the last chunk of each
            output; one ``Failure`` for a request that could not be started. Requests beyond
            ``MAX_ROWS`` rows wait for those before them.

        Raises:
            KeyboardInterrupt: after the outputs under way were yielded as ``"interrupted"``;
                also one that the caller throws into this generator.
        """
        # Every output's first token is timed from here, also where it waits for others.
        started = perf_counter()
        waiting: list[_Job] = []
        for position, request in enumerate(requests):
            try:
                job = self._plan(position, request)
            except BigcodeError as error:
                yield Failure(position, request.id, error)
                continue
            if waiting and _rows(waiting) + len(job.outputs) > MAX_ROWS:
                yield from self._run(waiting, started, report or Silence())
                waiting = []
            waiting.append(job)
        if waiting:
            yield from self._run(waiting, started, report or Silence())

    def _plan(self, position: int, request: GenerateRequest) -> _Job:
        planned = plan(request, self.tokenizer, self.info.n_positions)
        outputs = tuple(
            Output(
                request=position,
                sample=sample,
                prompt=request.prompt,
                tokenizer=self.tokenizer,
                stops=request.stops,
                budget=planned.prompt.max_new_tokens,
                healed=planned.healed,
            )
            for sample in range(request.num_samples)
        )
        return _Job(position, request, planned, outputs)

    def _run(self, jobs: Sequence[_Job], started: float, report: Reporter) -> Generator[Event]:
        """Prefill and decode one batch, telling each output's growth and end."""
        owner = {output: job for job in jobs for output in job.outputs}
        prompts = [job.plan.prompt for job in jobs]
        tokens = sum(len(prompt.ids) for prompt in prompts)
        prefill_began, prefill_rate = perf_counter(), None
        try:
            rows = self.backend.prefill(
                prompts, lambda done, total: report.progress("prompt", done, total, "tokens")
            )
            prefill_rate = tokens / max(perf_counter() - prefill_began, 1e-9)
            for output in decode(rows, list(owner)):
                if text := output.take():
                    yield Chunk(output.request, output.sample, text)
                if output.finish_reason is not None:
                    yield self._completion(output, owner.pop(output), started, prefill_rate)
        except KeyboardInterrupt:
            for output, job in owner.items():
                if output.finish_reason is None:
                    output.end("interrupted")
                if text := output.take():
                    yield Chunk(output.request, output.sample, text)
                yield self._completion(output, job, started, prefill_rate)
            raise

    def _completion(
        self, output: Output, job: _Job, started: float, prefill_rate: float | None
    ) -> Completion:
        assert output.finish_reason is not None
        return Completion(
            request=output.request,
            sample=output.sample,
            id=job.request.id,
            model=self._name,
            prompt=job.request.prompt,
            text=output.text,
            finish_reason=output.finish_reason,
            stop=output.stop,
            prompt_tokens=len(job.plan.prompt.ids),
            completion_tokens=output.tokens,
            timing=self._timing(output, started, prefill_rate),
            seed=job.plan.seed,
            logprobs=tuple(output.logprobs) if job.request.logprobs is not None else None,
        )

    def _timing(self, output: Output, started: float, prefill_rate: float | None) -> Timing:
        first, last = output.first_token_at, output.last_token_at
        decode_s = last - first if first is not None and last is not None else 0.0
        return Timing(
            load_s=self.load_s,
            first_token_s=first - started if first is not None else None,
            prefill_tokens_per_s=prefill_rate,
            decode_tokens_per_s=(output.tokens - 1) / decode_s if decode_s > 0 else None,
        )


def _rows(jobs: Sequence[_Job]) -> int:
    return sum(len(job.outputs) for job in jobs)
