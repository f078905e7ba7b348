"""A text to score, and how likely the model found it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bigcode_cli.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """How texts are scored.

    Attributes:
        context: tokens that the model sees at once; ``None`` is its ``n_positions``.
        stride: how far each window ends behind the one before it; ``None`` is half the context.
            A token sees at least ``context - stride`` tokens, where there are so many.
        bos: put one ``<|endoftext|>`` before each text, so that its first token is scored too.
        tokens: tell each token too, with its rank and the entropy there.
    """

    context: int | None = None
    stride: int | None = None
    bos: bool = True
    tokens: bool = False

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 2:
            raise UsageError(f"--context must be at least 2, not {self.context}")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"--stride must be at least 1, not {self.stride}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One text to score.

    Attributes:
        pieces: joined, they are the text. They are taken once, a little ahead of their scores; an
            ``InputError`` that they raise is the failure of this request alone.
        id: the caller's name for it, handed back unchanged.
        lines: the lines that count, from 1; ``None`` counts all. A token belongs to the line that
            it begins in.
    """

    pieces: Iterable[str]
    id: str | None = None
    lines: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One token of a text.

    Attributes:
        data: the bytes that it stands for.
        line: that it begins in, from 1.
        column: that it begins in, in code points from 1; of a token that begins within a
            character, that character's.
        logprob: natural log-probability given the tokens before it; ``None`` where it does not
            count: it is on a line that does not, or the first of a text without ``bos``.
        rank: 1 where the model found no token more probable, and so on; among equals the lowest id
            comes first. ``None`` with ``logprob``.
        entropy: of the model's distribution over this token, in nats. ``None`` with ``logprob``.
    """

    id: int
    data: bytes
    line: int
    column: int
    logprob: float | None
    rank: int | None
    entropy: float | None

    @property
    def bits(self) -> float | None:
        """Surprisal: what this token costs, in bits."""
        return None if self.logprob is None else -self.logprob / math.log(2)


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """Some tokens of one text, behind those told before.

    Attributes:
        request: the position of the text's request among those handed in.
    """

    request: int
    tokens: tuple[TokenScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One text, scored.

    Attributes:
        request: the position of its request among those handed in.
        tokens: of the whole text.
        scored_tokens: those that count.
        n_bytes: that the tokens which count stand for.
        nll_sum: their negative log-likelihood, in nats.
    """

    request: int
    id: str | None
    model: str
    tokens: int
    scored_tokens: int
    n_bytes: int
    nll_sum: float
    context: int
    stride: int
    bos: bool

    @property
    def loss(self) -> float | None:
        """Nats a token; ``None`` where none counts."""
        return self.nll_sum / self.scored_tokens if self.scored_tokens else None

    @property
    def perplexity(self) -> float | None:
        """The exponential of the loss."""
        return perplexity(self.nll_sum, self.scored_tokens)

    @property
    def bits_per_byte(self) -> float | None:
        """What compares across tokenizers; ``None`` where no byte counts."""
        return bits_per_byte(self.nll_sum, self.n_bytes)


def perplexity(nll_sum: float, tokens: int) -> float | None:
    """Of a negative log-likelihood in nats; infinite where it is beyond a float."""
    if not tokens:
        return None
    try:
        return math.exp(nll_sum / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nll_sum: float, n_bytes: int) -> float | None:
    """Of a negative log-likelihood in nats."""
    return nll_sum / math.log(2) / n_bytes if n_bytes else None
