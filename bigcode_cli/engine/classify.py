"""A loaded classifier and its tokenizer: texts of any length to labels.

The model sees the text's tokens and nothing else: no ``<|endoftext|>`` is put before them, as
transformers' pipelines put none. A text that exceeds the context is read in overlapping windows:
a whole text's logits are the mean of its windows', and each token's label is from the window that
gives it the most left context.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

from bigcode_cli.backends import open_classifier
from bigcode_cli.engine.protocol import (
    Activation,
    Classifier,
    ClassifierInfo,
    Passage,
    PassageLabels,
)
from bigcode_cli.engine.windows import run_batched, window_sizes, windows
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
from bigcode_cli.text.tokenizer import Tokenizer

ResultT = TypeVar("ResultT")


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
        tokenizer = Tokenizer.load(folder.path)
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
        sizes = window_sizes(options.context, options.stride, self.info.n_positions)
        if self.info.kind == "sequence":
            sheets: Iterator[_Whole] = (
                _Whole(position, request, self._name, self.info)
                for position, request in enumerate(requests)
            )
            return self._run(sheets, self.classifier.logits, sizes, report, total_bytes)
        parts: Iterator[_Parts] = (
            _Parts(position, request, self._name, self, options.threshold)
            for position, request in enumerate(requests)
        )
        return self._run(parts, self.classifier.labels, sizes, report, total_bytes)
