"""A loaded classifier and its tokenizer: texts of any length to labels.

The model sees the text's tokens and nothing else: no ``<|endoftext|>`` is put before them, as
transformers' pipelines put none. A text that exceeds the context is read in overlapping windows:
a whole text's logits are the mean of its windows', and each token's scores are from the window that
gives it the most left context. Which labels the tokens of a text are given by their scores is
settled over all of it at once.
"""

import math
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypeVar

from bigcode_cli.backends import open_classifier
from bigcode_cli.engine.progress import ByteProgress
from bigcode_cli.engine.protocol import (
    Activation,
    Classifier,
    ClassifierInfo,
    Passage,
)
from bigcode_cli.engine.windows import Done, run_batched, window_sizes, windows
from bigcode_cli.errors import BigcodeError, ModelCorruptError
from bigcode_cli.records import (
    Classified,
    ClassifyOptions,
    ClassifyRequest,
    Failure,
    LoadOptions,
    ModelFolder,
    Reporter,
    Silence,
    Spans,
)
from bigcode_cli.text.spans import find_spans, read_tags
from bigcode_cli.text.tag_paths import best_path, boundaries, followers, likeliest
from bigcode_cli.text.tokenizer import Tokenizer

CHUNK = 4096
"""Tokens of a text that are cut into windows at a time."""

ResultT = TypeVar("ResultT", list[float], "array[float]")


@dataclass(frozen=True, slots=True)
class _Job:
    """One text.

    Attributes:
        position: of its request among those handed in.
        ids: of its tokens; none where there is an error.
    """

    position: int
    request: ClassifyRequest
    ids: Sequence[int]
    error: BigcodeError | None = None


class ClassifySession:
    """What stays loaded between requests.

    Attributes:
        tokenizer: of the model.
        classifier: the loaded weights.
        load_s: seconds that loading took.
    """

    def __init__(
        self, name: str, tokenizer: Tokenizer, classifier: Classifier, load_s: float = 0.0
    ) -> None:
        self.tokenizer = tokenizer
        self.classifier = classifier
        self.load_s = load_s
        self._name = name
        self._tags = read_tags(classifier.info.labels)
        self._follow = followers(self._tags)

    @classmethod
    def open(
        cls, folder: ModelFolder, options: LoadOptions, *, report: Reporter | None = None
    ) -> "ClassifySession":
        """Load the tokenizer and the weights of a model folder.

        Raises:
            ModelError: the folder does not hold a classifier that can be run here.
            UsageError: the options ask for a device or a kernel that is not here.
        """
        started = perf_counter()
        tokenizer = Tokenizer.load(folder.tokenizer_path)
        classifier = open_classifier(folder, options, report=report or Silence())
        return cls(folder.name, tokenizer, classifier, perf_counter() - started)

    @property
    def info(self) -> ClassifierInfo:
        """What the loaded model is and can take."""
        return self.classifier.info

    def classify(
        self,
        requests: Iterable[ClassifyRequest],
        options: ClassifyOptions | None = None,
        *,
        report: Reporter | None = None,
        total_bytes: int | None = None,
    ) -> Generator[Classified | Spans | Failure]:
        """The labels of texts, or of their parts, in the order of the texts.

        Windows of similar length go through the model side by side. Requests are taken as far
        ahead as a few batches need.

        Args:
            total_bytes: of all texts, where it is known, for the progress that is told.

        Yields:
            for each request one ``Classified`` by a sequence head, one ``Spans`` by a token head,
            or one ``Failure``.

        Raises:
            UsageError: the options do not fit the model.
            ModelError: the model's logits are not numbers, or memory runs out.
        """
        options = options or ClassifyOptions()
        context = self.info.context if options.context is None else options.context
        sizes = window_sizes(context, options.stride, self.info.n_positions)
        progress = ByteProgress(report or Silence(), "classifying", total_bytes)
        if self.info.kind == "sequence":
            return self._run(requests, sizes, self.classifier.logits, self._classified, progress)
        spans = partial(self._spans, threshold=options.threshold)
        return self._run(requests, sizes, self.classifier.token_scores, spans, progress)

    def _run(
        self,
        requests: Iterable[ClassifyRequest],
        sizes: tuple[int, int],
        run: Callable[[Sequence[Passage]], list[ResultT]],
        answer: Callable[[_Job, Sequence[ResultT]], Classified | Spans],
        progress: ByteProgress,
    ) -> Generator[Classified | Spans | Failure]:
        """Gather what ``run`` makes of each text's windows, and what ``answer`` makes of that."""
        held: list[ResultT] = []
        parts = self._parts(requests, *sizes)
        results = run_batched(parts, lambda some: Done(run(some)), self.info.batch_tokens)
        for (job, window), result in results:
            if window is not None and result is not None:
                held.append(result)
                lengths = self.tokenizer.byte_lengths
                progress.count(sum(lengths[id_] for id_ in window.ids[window.counted :]))
                continue
            if job.error is None:
                yield answer(job, held)
            else:
                yield Failure(job.position, job.request.id, job.error)
            held = []
        progress.end()

    def _parts(
        self, requests: Iterable[ClassifyRequest], context: int, stride: int
    ) -> Iterator[tuple[tuple[_Job, Passage | None], Passage | None]]:
        """The windows of each text in order; behind the last, one ``None``."""
        for position, request in enumerate(requests):
            job = self._job(position, request)
            # A window costs as much as what is held of the text beyond it.
            chunks = (job.ids[at : at + CHUNK] for at in range(0, len(job.ids), CHUNK))
            for window in windows(chunks, context=context, stride=stride, first=0):
                yield (job, window), window
            yield (job, None), None

    def _job(self, position: int, request: ClassifyRequest) -> _Job:
        """A text's tokens, or what is wrong with it."""
        known = self.info.vocab_size
        try:
            ids = self.tokenizer.encode(request.text)
            if ids and max(ids) >= known:
                raise ModelCorruptError(
                    f"the tokenizer knows the id {max(ids)}, the model {known} tokens"
                )
        except BigcodeError as error:
            return _Job(position, request, (), error)
        return _Job(position, request, ids)

    def _classified(self, job: _Job, logits: Sequence[list[float]]) -> Classified:
        """A whole text's scores, of its windows' logits."""
        means = [math.fsum(of_label) / len(logits) for of_label in zip(*logits, strict=True)]
        scores = activated(means, self.info.activation)
        return Classified(
            request=job.position,
            id=job.request.id,
            model=self._name,
            scores=dict(zip(self.info.labels, scores, strict=True)) if scores else {},
        )

    def _spans(
        self, job: _Job, found: "Sequence[array[float]]", *, threshold: float | None
    ) -> Spans:
        """The spans of a text, of its windows' scores."""
        text, count = job.request.text, len(self._tags)
        scores = array("f")
        for part in found:
            scores += part
        lengths = [self.tokenizer.byte_lengths[id_] for id_ in job.ids]
        if self.info.change_costs is None:
            labels = likeliest(scores, count)
        else:
            kinds = boundaries(text, lengths)
            labels = best_path(scores, self._follow, kinds, self.info.change_costs)
        spans = find_spans(
            text,
            [self._tags[label] for label in labels],
            [math.exp(scores[at * count + label]) for at, label in enumerate(labels)],
            lengths,
            threshold=threshold,
        )
        return Spans(request=job.position, id=job.request.id, model=self._name, spans=spans)


def activated(logits: Sequence[float], activation: Activation) -> list[float]:
    """What logits are worth: probabilities, or they themselves."""
    if activation == "none" or not logits:
        return list(logits)
    if activation == "sigmoid":
        # With the sign that cannot overflow.
        return [
            1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)) for x in logits
        ]
    highest = max(logits)
    powers = [math.exp(x - highest) for x in logits]
    return [power / math.fsum(powers) for power in powers]
