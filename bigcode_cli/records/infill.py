"""A hole to fill, and what belongs there."""

from dataclasses import dataclass, field
from typing import Literal

from bigcode_cli.errors import UsageError
from bigcode_cli.records.decoding import FinishReason, SamplingOptions, Timing, TokenLogprob

InfillOrder = Literal["psm", "spm"]
Span = Literal["eos", "line", "block"]


@dataclass(frozen=True, slots=True)
class ContextFile:
    """Another file that the model may look at.

    Attributes:
        name: as the model is told it.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InfillRequest:
    """One hole to fill.

    Attributes:
        prefix: all text before the hole, with newlines for line ends.
        suffix: all text after it, likewise.
        id: the caller's name for it, handed back unchanged.
        path: the file's name: what the model is told where it knows file names, and what tells
            the language.
        repo: the repository's name, likewise.
        context: other files, the most important last.
        order: of the prompt; ``None`` is the order that the model does best with.
        dialect: ``starcoder`` or ``santacoder``; ``None`` finds it by the tokenizer.
        span: where the middle ends; ``None`` is a line where the suffix continues one, else a
            block.
        cut_overlap: end the middle where it begins to repeat the suffix.
        candidates: middles drawn over one shared prefill and ranked; above 1, the first is greedy
            and the others are sampled.
        max_new_tokens: budget of each.
        stop_texts: the middle ends before the first of them.
        logprobs: alternatives to report for each token; ``None`` reports none.
    """

    prefix: str
    suffix: str
    id: str | None = None
    path: str | None = None
    repo: str | None = None
    context: tuple[ContextFile, ...] = ()
    order: InfillOrder | None = None
    dialect: str | None = None
    span: Span | None = None
    cut_overlap: bool = True
    candidates: int = 1
    max_new_tokens: int = 128
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    stop_texts: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"--max-new-tokens must be at least 1, not {self.max_new_tokens}")
        if self.candidates < 1:
            raise UsageError(f"--candidates must be at least 1, not {self.candidates}")
        if self.candidates > 1 and self.sampling.greedy:
            raise UsageError(
                "several greedy candidates would all be the same", "set a --temperature above 0"
            )
        if "" in self.stop_texts:
            raise UsageError("--stop must not be empty", "an empty text is found everywhere")
        if self.logprobs is not None and not 0 <= self.logprobs <= 100:
            raise UsageError(f"--logprobs must be between 0 and 100, not {self.logprobs}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One middle.

    Attributes:
        score: what it was ranked by, higher is better; ``None`` where there was one only, or the
            ranking was interrupted.
        stop: the stop string that ended it, if one did.
    """

    text: str
    finish_reason: FinishReason
    stop: str | None
    completion_tokens: int
    score: float | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infilled:
    """One hole, filled.

    Attributes:
        request: the position of its request among those handed in.
        candidates: best first; nothing but blanks is worse than anything else.
        prompt: the assembled prompt, control tokens spelled out.
        prefix_tokens: of the prefix, as many as the model was shown.
        prefix_dropped: tokens of the prefix that did not fit.
        span: where the middle was to end.
        seed: what repeats it; ``None`` where nothing was drawn.
    """

    request: int
    id: str | None
    model: str
    candidates: tuple[Candidate, ...]
    prompt: str
    prompt_tokens: int
    prefix_tokens: int
    suffix_tokens: int
    prefix_dropped: int
    suffix_dropped: int
    dialect: str
    order: InfillOrder
    span: Span
    timing: Timing
    seed: int | None
