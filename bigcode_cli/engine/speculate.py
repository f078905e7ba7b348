"""Speculative decoding: tokens are guessed cheaply, and several are verified in one pass.

Leviathan et al. 2023 and Chen et al. 2023 accept a guess by comparing the two models'
distributions, which keeps the distribution of what comes out. Here a row draws each token by a
random number that belongs to its place (``protocol.Sampler``), and a draft draws its guess from
its own filtered distribution by the same number: the guess holds if the model draws it too (Daliri
et al. 2024, coupling by common randomness). So what comes out is not only distributed alike, it
is the text that the same seed gives without any guess, whoever guessed and however far, and no
distribution crosses the protocol; how far it is guessed may follow the clock, and a seed still
repeats its text. Without randomness the rules are one. With it fewer of a draft's guesses hold
than the most that is possible: by 4 % at a temperature of 0.4, 10 to 18 % at 0.8 (drafts made of
the built-in model, on files of two packages).

Guesses are either looked up in the text so far (Saxena 2023, prompt lookup decoding) or drawn by
a smaller model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, Self

from bigcode_cli.engine.drafts import MAX_GUESSES, Drafts
from bigcode_cli.engine.lookup import Lookup, lookup_rates
from bigcode_cli.engine.pace import Pace, Rate
from bigcode_cli.engine.protocol import Backend, BackendInfo, Prompt, Rows, Token
from bigcode_cli.errors import UsageError
from bigcode_cli.text.tokenizer import Tokenizer

DRAFT_CHANCE = 0.8
"""How often a draft's guess is taken to hold until some were verified."""


class Guesser(Protocol):
    """Guesses what the rows under way will sample."""

    def chances(self) -> list[list[float]]:
        """For each row, of each guess that could be made, that it holds if those before it do."""

    def cost(self, plain_s: float | None, token_s: float) -> tuple[float, float]:
        """Seconds that one guess a row takes, and that have to be spent before the next one."""

    def prepare(self) -> None:
        """Do what is needed before the first guess."""

    def guess(self, count: int) -> list[list[int]]:
        """At most ``count`` ids a row."""

    def learn(self, tokens: Sequence[Sequence[int]]) -> None:
        """Take in what the rows have sampled since, at least one token each."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""

    def join(self, other: Self) -> None:
        """Go on with the rows of another guesser of this kind too, which has not guessed yet."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass gave a row.

    Attributes:
        guessed: ids that were verified; ``None`` for the first token, which is no pass's.
    """

    tokens: list[Token]
    guessed: int | None = None


class Lookups:
    """Guesses looked up in each row's prompt and output."""

    def __init__(self, prompts: Sequence[Prompt], rates: Sequence[Rate]) -> None:
        self._rows = [row for prompt in prompts for row in Lookup.of(prompt, rates)]

    def chances(self) -> list[list[float]]:
        """See ``Guesser``."""
        return [row.chances(MAX_GUESSES) for row in self._rows]

    def cost(
        self,
        plain_s: float | None,  # noqa: ARG002 -- microseconds, whatever the model
        token_s: float,  # noqa: ARG002
    ) -> tuple[float, float]:
        """See ``Guesser``."""
        return 0.0, 0.0

    def prepare(self) -> None:
        """See ``Guesser``."""

    def guess(self, count: int) -> list[list[int]]:
        """See ``Guesser``."""
        return [row.guess(count) for row in self._rows]

    def learn(self, tokens: Sequence[Sequence[int]]) -> None:
        """See ``Guesser``."""
        for row, ids in zip(self._rows, tokens, strict=True):
            row.learn(ids)

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Guesser``."""
        self._rows = [self._rows[row] for row in rows]

    def join(self, other: Self) -> None:
        """See ``Guesser``."""
        self._rows += other._rows


class Speculation:
    """What a session knows of guessing, from some rows to the next.

    Args:
        draft: a smaller model of the same vocabulary; without one, guesses are looked up.
        ratio: of its weights to those of the model whose tokens are guessed.
    """

    def __init__(self, draft: Backend | None = None, ratio: float = 0.0) -> None:
        self._draft, self._ratio = draft, ratio
        self._pace = Pace()
        self._rates = lookup_rates()
        self._draft_rate, self._draft_times = Rate(DRAFT_CHANCE, 8), Rate()

    @classmethod
    def by_draft(cls, draft: Backend, own: BackendInfo, name: str) -> "Speculation":
        """Guess by a smaller model.

        Raises:
            UsageError: it has no weights for some of the ids that it would be fed.
        """
        if draft.info.vocab_size < own.vocab_size:
            raise UsageError(
                f"{name} cannot draft: it knows {draft.info.vocab_size:,} ids, "
                f"not {own.vocab_size:,}"
            )
        return cls(draft, draft.info.weight_bytes / max(own.weight_bytes, 1))

    def begin(
        self,
        prompts: Sequence[Prompt],
        rows: Rows,
        tokens: int,
        seconds: float,
        *,
        joins: bool = False,
    ) -> "Speculating":
        """Guess for rows, whose prefill ran ``tokens`` through the model.

        Args:
            joins: they are to join others.
        """
        self._pace.begin(tokens, seconds, joins=joins)
        # A draft that did badly on one prompt is tried again some prompts later.
        self._draft_rate.add(DRAFT_CHANCE)
        guesser: Guesser = Lookups(prompts, self._rates)
        if self._draft is not None:
            guesser = Drafts(self._draft, prompts, self._ratio, self._draft_rate, self._draft_times)
        return Speculating(rows, guesser, self._pace)


class Stepping:
    """Rows that are stepped, a token each a pass."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def advance(
        self,
        left: Sequence[int],  # noqa: ARG002 -- one always fits
        *,
        ahead: bool = True,
    ) -> list[Pass]:
        """The next tokens of each row.

        Args:
            left: tokens that each row may still sample.
            ahead: the pass behind this one may be begun already.
        """
        if ahead:
            return [Pass([token]) for token in self._rows.step()]
        return [Pass(tokens) for tokens in self._rows.verify([()] * len(self._rows))]

    def pause(self) -> None:
        """Something else is done before the next pass: its time is not to be taken for a pass's."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self._rows.keep(rows)

    def join(self, other: Self) -> None:
        """Go on with the other's rows too, behind these; each of both has a token.

        Raises:
            ModelTooLargeError: there is no memory for so many; both are as they were.
        """
        self._rows.join(other._rows)


class Speculating(Stepping):
    """Rows whose next tokens are guessed, where that is expected to pay."""

    def __init__(self, rows: Rows, guesser: Guesser, pace: Pace) -> None:
        super().__init__(rows)
        self._guesser, self._pace = guesser, pace
        self._begun = False
        self._ended: float | None = None
        """When the last pass did; ``None`` where something else was done since."""

    def advance(self, left: Sequence[int], *, ahead: bool = True) -> list[Pass]:
        """See ``Stepping``."""
        if not self._begun:
            passes = super().advance(left, ahead=ahead)
            self._begun = True
            self._guesser.learn([[token.id for token in one.tokens] for one in passes])
            return passes
        start = perf_counter()
        count = self._count(left)
        began = perf_counter()
        guesses = self._guesses(count, left)
        guess_s = perf_counter() - began
        width = 1 + max(map(len, guesses))
        if width > 1:
            # Not counted: what is done once says nothing of what passes cost.
            self._rows.prepare(width - 1)
        # A step may have been on its way since the last one ended, while its text was worked on;
        # a pass that was not has to wait for that text. So it counts from there, but for guessing.
        aside = perf_counter() - start
        since = start if self._ended is None else self._ended
        # Where nothing is guessed nothing is lost: the pass behind this one is on its way.
        is_step = ahead and not any(guesses)
        taken = [[token] for token in self._rows.step()] if is_step else self._rows.verify(guesses)
        self._ended = perf_counter()
        pass_s = self._ended - since - aside
        self._pace.learn(width, [len(row) for row in taken], pass_s, guess_s)
        self._guesser.learn([[token.id for token in row] for row in taken])
        return [Pass(row, len(ids)) for row, ids in zip(taken, guesses, strict=True)]

    def pause(self) -> None:
        """See ``Stepping``."""
        self._ended = None

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Stepping``."""
        super().keep(rows)
        self._guesser.keep(rows)

    def join(self, other: Self) -> None:
        """See ``Stepping``."""
        super().join(other)
        self._guesser.join(other._guesser)
        self.pause()

    def _count(self, left: Sequence[int]) -> int:
        """How many guesses a row are worth it."""
        # No more than can come of them: a pass gives a token more than was guessed.
        chances = [row[: most - 1] for row, most in zip(self._guesser.chances(), left, strict=True)]
        guess_s, begin_s = self._guesser.cost(self._pace.plain_s(len(left)), self._pace.token_s)
        width = self._pace.width(chances, left, guess_s=guess_s, begin_s=begin_s)
        if width > 1:
            self._guesser.prepare()
        return width - 1

    def _guesses(self, count: int, left: Sequence[int]) -> list[list[int]]:
        if not count:
            return [[] for _ in left]
        guesses = self._guesser.guess(count)
        return [guess[: most - 1] for guess, most in zip(guesses, left, strict=True)]


def require_same_vocabulary(own: Tokenizer, draft: Tokenizer, name: str, draft_name: str) -> None:
    """Raise unless every id stands for the same bytes, and the same ids for control tokens.

    Raises:
        UsageError: it does not.
    """
    hint = "a draft is a smaller model of the same family, with the same tokenizer"
    if own.vocab_size != draft.vocab_size:
        raise UsageError(
            f"{draft_name} cannot draft for {name}: it has {draft.vocab_size:,} tokens, "
            f"not {own.vocab_size:,}",
            hint,
        )
    for id_ in range(own.vocab_size):
        pair = own.token_bytes(id_), draft.token_bytes(id_)
        if pair[0] != pair[1] or (id_ in own.control_ids) != (id_ in draft.control_ids):
            raise UsageError(
                f"{draft_name} cannot draft for {name}: token {id_} is "
                f"{pair[1]!r}, not {pair[0]!r}",
                hint,
            )
