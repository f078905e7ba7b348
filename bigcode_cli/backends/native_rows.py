"""Rows in flight of the native backend: sampling, one token or several a pass."""

import ctypes
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bigcode_cli.backends.row import Row
from bigcode_cli.engine.protocol import Prompt, Token
from bigcode_cli.kernels.native.library import Sampling
from bigcode_cli.kernels.native.model import Bytes, Cache, Engine, Feed, Floats, Logits


class Seen:
    """Which tokens stand in a row's prompt and output, and how often.

    Attributes:
        marks: ``(vocab,)``, 1 for those that do.
    """

    def __init__(self, vocab: int, ids: Sequence[int]) -> None:
        self._counts: Counter[int] = Counter()
        self.marks: Bytes = (ctypes.c_uint8 * vocab)()
        self.count([id_ for id_ in ids if id_ < vocab], 1)

    def count(self, ids: Sequence[int], times: int) -> None:
        """Note that ids were sampled, or that they were not."""
        for id_ in ids:
            self._counts[id_] += times
            self.marks[id_] = self._counts[id_] > 0


@dataclass(slots=True)
class Place:
    """One row, and what the engine keeps and takes of it.

    The cache always holds the first tokens of the row's prompt and output, and none but them once
    a pass is over.

    Attributes:
        seen: what its penalty looks at; ``None`` where it has none.
        allowed: ids that may come first; ``None``: all.
        logits: behind its prompt, until a token was sampled from them.
    """

    row: Row
    cache: Cache
    sampling: Sampling
    seen: Seen | None
    allowed: tuple[int, ...] | None
    logits: Logits | None

    @classmethod
    def of(cls, row: Row, prompt: Prompt, cache: Cache, logits: Logits, vocab: int) -> "Place":
        """Behind its prompt."""
        options = row.sampler.options
        penalises = options.repetition_penalty != 1
        return cls(
            row=row,
            cache=cache,
            sampling=Sampling(
                temperature=options.temperature,
                top_k=min(options.top_k, vocab),
                top_p=options.top_p,
                min_p=options.min_p,
                penalty=options.repetition_penalty,
            ),
            seen=Seen(vocab, row.prompt) if penalises else None,
            allowed=prompt.first_ids and tuple(sorted(set(prompt.first_ids))),
            logits=logits,
        )

    @property
    def pending(self) -> list[int]:
        """What was sampled and not fed yet."""
        return self.row.sampled[self.cache.length - len(self.row.prompt) :]

    def crop(self) -> None:
        """Take back what was fed beyond the last token but one: guesses that did not hold."""
        self.cache.cut(len(self.row.prompt) + max(len(self.row.sampled) - 1, 0))

    def begin(self) -> None:
        """Go on behind a token that was sampled: what was for the first one is done with."""
        self.logits = self.allowed = None

    def append(self, id_: int) -> None:
        """Note a token that was sampled."""
        self.row.sampled.append(id_)
        if self.seen is not None:
            self.seen.count([id_], 1)

    def replace(self, dropped: int, ids: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.replace``."""
        sampled = self.row.sampled
        count = len(sampled) - dropped
        self.cache.cut(len(self.row.prompt) + count)
        old, sampled[count:] = sampled[count:], ids
        if self.seen is not None:
            self.seen.count(old, -1)
            self.seen.count(ids, 1)
        self.crop()
        self.begin()


class NativeRows:
    """Rows in flight, behind ``engine.protocol.Rows``; each has a cache of its own.

    Args:
        places: all behind their prompts.
        reused: see ``engine.protocol.Rows``.
    """

    def __init__(self, engine: Engine, places: list[Place], *, reused: int = 0) -> None:
        self.reused = reused
        self._engine = engine
        self._places = places

    def __len__(self) -> int:
        """How many rows are left."""
        return len(self._places)

    def step(self) -> list[Token]:
        """See ``engine.protocol.Rows.step``."""
        return [token for (token,) in self.verify([()] * len(self))]

    def prepare(self, guesses: int) -> None:
        """See ``engine.protocol.Rows.prepare``: nothing."""

    def verify(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        """See ``engine.protocol.Rows.verify``.

        Raises:
            ModelCorruptError: as told there, or a guess is no token of the model's.
            UsageError: a row has come to the end of the context.
            ModelTooLargeError: there is no memory for the pass.
        """
        try:
            taken = self._take(guesses)
        finally:
            for place in self._places:
                place.crop()
        for place in self._places:
            place.begin()
        return taken

    def replace(self, dropped: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """See ``engine.protocol.Rows.replace``."""
        for place, count, ids in zip(self._places, dropped, tokens, strict=True):
            place.replace(count, ids)

    def keep(self, rows: Sequence[int]) -> None:
        """See ``engine.protocol.Rows.keep``."""
        self._places = [self._places[row] for row in rows]

    def join(self, other: Self) -> None:
        """See ``engine.protocol.Rows.join``: no row is moved, and no memory taken."""
        self._places += other._places

    def _take(self, guesses: Sequence[Sequence[int]]) -> list[list[Token]]:
        """One pass, and all that it tells of each row."""
        if self._places[0].logits is not None:
            return [
                [self._sample(place, place.logits.at(0))]
                for place in self._places
                if place.logits is not None
            ]
        pending = [place.pending for place in self._places]
        fitting = [
            list(guess[: max(self._engine.n_positions - place.cache.length - len(ids), 0)])
            for place, ids, guess in zip(self._places, pending, guesses, strict=True)
        ]
        logits = self._engine.feed(
            [
                Feed(place.cache, [*ids, *guess], range(len(ids) - 1, len(ids) + len(guess)))
                for place, ids, guess in zip(self._places, pending, fitting, strict=True)
            ]
        )
        taken, at = [], 0
        for place, guess in zip(self._places, fitting, strict=True):
            taken.append(self._follow(place, guess, logits, at))
            at += 1 + len(guess)
        return taken

    def _follow(self, place: Place, guess: Sequence[int], logits: Logits, at: int) -> list[Token]:
        """A row's tokens as far as its guess holds, read from logits at ``at`` and behind."""
        tokens = [self._sample(place, logits.at(at))]
        for number, id_ in enumerate(guess, at + 1):
            if tokens[-1].id != id_:
                break
            tokens.append(self._sample(place, logits.at(number)))
        return tokens

    def _sample(self, place: Place, logits: Floats) -> Token:
        """A row's next token."""
        row = place.row
        id_ = self._engine.sample(
            logits,
            place.sampling,
            row.stream[len(row.sampled)],
            seen=None if place.seen is None else place.seen.marks,
            allowed=place.allowed,
        )
        place.append(id_)
        if row.logprobs is None:
            return Token(id_)
        logprob, best = self._engine.log_probabilities(logits, id_, row.logprobs)
        return Token(id_, logprob, tuple(best))
