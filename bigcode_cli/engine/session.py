"""A loaded model and its tokenizer: the one file that joins text and a backend."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from time import perf_counter
from typing import TypeVar

from bigcode_cli.backends import open_backend
from bigcode_cli.engine import infill
from bigcode_cli.engine.jobs import Clock, DueCompletion, Job
from bigcode_cli.engine.output import Output
from bigcode_cli.engine.prompts import plan
from bigcode_cli.engine.protocol import Backend, BackendInfo
from bigcode_cli.engine.scheduler import Scheduler
from bigcode_cli.engine.scoring import Scorer
from bigcode_cli.engine.speculate import Speculation, require_same_vocabulary
from bigcode_cli.errors import BigcodeError
from bigcode_cli.records import (
    Chunk,
    Completion,
    Failure,
    GenerateRequest,
    Infilled,
    InfillRequest,
    LoadOptions,
    ModelFolder,
    Reporter,
    Scored,
    ScoredTokens,
    ScoreOptions,
    ScoreRequest,
    Silence,
)
from bigcode_cli.text.fim import Assembly
from bigcode_cli.text.stops import StopScanner
from bigcode_cli.text.tokenizer import Tokenizer

Event = Chunk | Completion | Failure

RequestT = TypeVar("RequestT", GenerateRequest, InfillRequest)
AnswerT = TypeVar("AnswerT")


class Session:
    """What stays loaded between requests.

    Attributes:
        tokenizer: of the model.
        backend: the loaded weights.
        load_s: seconds that loading took.

    Args:
        speculation: guesses tokens ahead, which changes no result.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        backend: Backend,
        load_s: float = 0.0,
        speculation: Speculation | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.load_s = load_s
        self._name = name
        self.backend = backend
        self._speculation = speculation

    @classmethod
    def open(
        cls,
        folder: ModelFolder,
        options: LoadOptions,
        *,
        report: Reporter | None = None,
        lookup: bool = False,
        draft: ModelFolder | None = None,
    ) -> "Session":
        """Load the tokenizer and the weights of a model folder.

        Args:
            lookup: guess tokens ahead by what the text repeats.
            draft: guess them by this model, loaded by the same options; instead of ``lookup``.

        Raises:
            ModelError: a folder does not hold a model that can be run here.
            UsageError: the options ask for a device or a kernel that is not here; the draft has
                another vocabulary.
        """
        started = perf_counter()
        report = report or Silence()
        tokenizer = Tokenizer.load(folder.tokenizer_path)
        if draft is not None:
            theirs = Tokenizer.load(draft.tokenizer_path)
            require_same_vocabulary(tokenizer, theirs, folder.name, draft.name)
        size = tokenizer.vocab_size
        backend = open_backend(folder, options, vocab_size=size, report=report)
        speculation = None
        if draft is not None:
            drafting = open_backend(draft, options, vocab_size=size, report=report)
            speculation = Speculation.by_draft(drafting, backend.info, draft.name)
        elif lookup:
            speculation = Speculation()
        return cls(folder.name, tokenizer, backend, perf_counter() - started, speculation)

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
            ``BackendInfo.max_rows`` rows wait until others have ended.

        Raises:
            KeyboardInterrupt: after the outputs under way were yielded as ``"interrupted"``;
                also one that the caller throws into this generator.
        """
        return self._serve(requests, self._completions, report or Silence())

    def infill(
        self, requests: Sequence[InfillRequest], *, report: Reporter | None = None
    ) -> Generator[Chunk | Infilled | Failure]:
        """Fill the holes, several side by side.

        Yields:
            Chunks of the middle where one candidate was asked for; one ``Infilled`` at the end of
            each request; one ``Failure`` for a request that could not be started.

        Raises:
            KeyboardInterrupt: after the requests under way were yielded with what is there, as
                in ``generate``; several candidates of them are not ranked then.
        """
        return self._serve(requests, self._middles, report or Silence())

    def score(
        self,
        requests: Iterable[ScoreRequest],
        options: ScoreOptions | None = None,
        *,
        report: Reporter | None = None,
        total_bytes: int | None = None,
    ) -> Generator[ScoredTokens | Scored | Failure]:
        """The likelihood of texts, in their order, several windows side by side.

        Requests are taken, and their texts read, as far ahead as a few batches need; no more is
        held of a text, however long it is.

        Args:
            total_bytes: of all texts, where it is known, for the progress that is told.

        Yields:
            where the options ask for tokens, ``ScoredTokens`` as they are done; then one
            ``Scored`` for each request, or one ``Failure``.

        Raises:
            UsageError: the options do not fit the model.
        """
        scorer = Scorer(self._name, self.tokenizer, self.backend, options or ScoreOptions())
        return scorer.run(requests, report or Silence(), total_bytes)

    def assemble(self, request: InfillRequest) -> Assembly:
        """The prompt that ``infill`` would show the model.

        Raises:
            ModelUnsupportedError: the model cannot infill.
            UsageError: the dialect asked for is not the model's, or there is no room for any text.
            InputError: a text holds what the tokenizer cannot encode.
        """
        return infill.plan(request, self.tokenizer, self.info.n_positions).assembly

    def _serve(
        self,
        requests: Sequence[RequestT],
        job_of: Callable[[int, RequestT], Job[AnswerT]],
        report: Reporter,
    ) -> Generator[Chunk | AnswerT | Failure]:
        """Have all requests served, each made ready when its turn comes."""

        def jobs() -> Iterator[Job[AnswerT] | Failure]:
            for position, request in enumerate(requests):
                try:
                    yield job_of(position, request)
                except BigcodeError as error:
                    yield Failure(position, request.id, error)

        # Every output's first token is timed from here, also where it waits for others.
        clock = Clock(load_s=self.load_s, started=perf_counter())
        return Scheduler(self.backend, jobs(), clock, report, self._speculation).run()

    def _completions(self, position: int, request: GenerateRequest) -> Job[Completion]:
        planned = plan(request, self.tokenizer, self.info.n_positions)
        outputs = [
            Output(
                request=position,
                sample=sample,
                tokenizer=self.tokenizer,
                scanner=StopScanner(request.stops, request.prompt),
                budget=planned.prompt.max_new_tokens,
                healed=planned.healed,
            )
            for sample in range(request.num_samples)
        ]
        return Job(
            position,
            request.id,
            planned.prompt,
            tuple(DueCompletion(request, planned, output, self._name) for output in outputs),
        )

    def _middles(self, position: int, request: InfillRequest) -> Job[Infilled]:
        return infill.infill_job(position, request, self.tokenizer, self.backend, self._name)
