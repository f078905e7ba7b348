"""A text to classify, and what it or its parts are."""

from dataclasses import dataclass

from bigcode_cli.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyOptions:
    """How texts are classified.

    Attributes:
        context: tokens that the model sees at once; ``None`` is the one that the
            classifier names.
        stride: how far each window ends behind the one before it; ``None`` is half the context.
        threshold: spans that score less are left out.
    """

    context: int | None = None
    stride: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 2:
            raise UsageError(f"--context must be at least 2, not {self.context}")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"--stride must be at least 1, not {self.stride}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCosts:
    """What it costs that neighbouring tokens are not in the same part of a text, in nats.

    Attributes:
        word: inside of a word.
        mark: at a mark of punctuation.
        free: at a blank or a quotation mark.
    """

    word: float
    mark: float
    free: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyRequest:
    """One text to classify."""

    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What a whole text is.

    Attributes:
        request: the position of its request among those handed in.
        scores: of each label in the order of its id: a probability, or the plain value of a
            regression. Empty for a text without a token.
    """

    request: int
    id: str | None
    model: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSpan:
    """A part of a text with a label.

    Attributes:
        start: character offset.
        end: character offset, exclusive; ``text == whole[start:end]``.
        line: that it begins in, from 1.
        column: that it begins in, in code points from 1.
        score: the mean of its tokens' probabilities of the label.
    """

    start: int
    end: int
    line: int
    column: int
    label: str
    score: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """What the parts of a text are.

    Attributes:
        request: the position of its request among those handed in.
        spans: in the order of the text, none over another.
    """

    request: int
    id: str | None
    model: str
    spans: tuple[LabelledSpan, ...]
