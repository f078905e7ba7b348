"""Guesses of a smaller model, whose rows go along with those of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from time import perf_counter
from typing import Self

from bigcode_cli.engine.pace import WIDTHS, Rate
from bigcode_cli.engine.protocol import Backend, Prompt, Rows, Sampler

MAX_GUESSES = WIDTHS[-1] - 1


@dataclass(slots=True, eq=False)
class _Drafted:
    """One row as the draft knows it.

    Attributes:
        prompt: shared with the other rows of it.
        length: tokens of prompt and output.
        new: what was sampled that the draft was not told of.
        guessed: what it guessed last.
        place: its row of the draft; ``None`` before the draft has read the prompt.
    """

    prompt: Prompt
    sampler: Sampler
    length: int
    new: list[int] = field(default_factory=list)
    guessed: list[int] = field(default_factory=list)
    place: int | None = None


class Drafts:
    """Guesses drawn by a draft.

    The draft reads a prompt when its rows' first guess is asked for.

    Args:
        ratio: of the draft's weights to the model's: of what a pass is taken to cost.
        rate: how often guesses hold.
        times: seconds a guess; 0 before the first.
    """

    def __init__(
        self, backend: Backend, prompts: Sequence[Prompt], ratio: float, rate: Rate, times: Rate
    ) -> None:
        self._backend, self._ratio, self._rate, self._times = backend, ratio, rate, times
        self._draft: Rows | None = None
        self._rows = [
            _Drafted(prompt, sampler, len(prompt.ids))
            for prompt in [replace(prompt, logprobs=None) for prompt in prompts]
            for sampler in prompt.samplers
        ]

    def chances(self) -> list[list[float]]:
        """See ``speculate.Guesser``: none where the draft's context ends."""
        behind = max(len(row.new) for row in self._rows)
        longest = max(row.length for row in self._rows)
        room = self._backend.info.n_positions - longest - behind
        return [[self._rate.mean] * max(min(MAX_GUESSES, room), 0) for _ in self._rows]

    def cost(self, plain_s: float | None, token_s: float) -> tuple[float, float]:
        """See ``speculate.Guesser``."""
        guess_s = self._times.mean or self._ratio * (plain_s or 0.0)
        unread = sum(len(row.new) for row in self._rows)
        unread += sum(len(prompt.ids) for prompt in self._unread())
        return guess_s, self._ratio * token_s * unread

    def prepare(self) -> None:
        """See ``speculate.Guesser``."""
        unread = self._unread()
        if not unread:
            return
        rows = [row for prompt in unread for row in self._of(prompt)]
        draft = self._backend.prefill(
            [
                replace(prompt, samplers=tuple(row.sampler for row in self._of(prompt)))
                for prompt in unread
            ]
        )
        self._tell(draft, rows)
        begun = 0
        if self._draft is None:
            self._draft = draft
        else:
            begun = len(self._draft)
            self._draft.join(draft)
        for place, row in enumerate(rows, begun):
            row.place = place

    def guess(self, count: int) -> list[list[int]]:
        """See ``speculate.Guesser``."""
        assert self._draft is not None
        self._tell(self._draft, self._in_place())
        self._draft.prepare(0)
        began = perf_counter()
        steps = [self._draft.step() for _ in range(count - 1)]
        # Nothing runs ahead of the last one: other tokens may come in its place.
        steps.append([token for (token,) in self._draft.verify([()] * len(self._draft))])
        self._times.add((perf_counter() - began) / count)
        for row, tokens in zip(self._in_place(), zip(*steps, strict=True), strict=True):
            row.guessed = [token.id for token in tokens]
        return [row.guessed for row in self._rows]

    def learn(self, tokens: Sequence[Sequence[int]]) -> None:
        """See ``speculate.Guesser``."""
        dropped: dict[_Drafted, int] = {}
        for row, ids in zip(self._rows, tokens, strict=True):
            guessed, row.guessed = row.guessed, []
            pairs = zip(guessed, ids, strict=False)
            held = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            for _ in range(held):
                self._rate.add(1.0)
            if held < min(len(guessed), len(ids)):
                self._rate.add(0.0)
            dropped[row] = len(guessed) - held
            row.new += ids[held:]
            row.length += len(ids)
        if self._draft is not None and any(dropped.values()):
            rows = self._in_place()
            self._tell(self._draft, rows, [dropped[row] for row in rows])

    def keep(self, rows: Sequence[int]) -> None:
        """See ``speculate.Guesser``."""
        self._rows = [self._rows[row] for row in rows]
        if self._draft is None:
            return
        places = [row.place for row in self._rows if row.place is not None]
        if places:
            self._draft.keep(places)
        else:
            self._draft = None
        for place, row in enumerate(row for row in self._rows if row.place is not None):
            row.place = place

    def join(self, other: Self) -> None:
        """See ``speculate.Guesser``."""
        assert other._draft is None
        self._rows += other._rows

    def _in_place(self) -> list[_Drafted]:
        """The rows that the draft has, in its order."""
        return sorted(
            (row for row in self._rows if row.place is not None), key=lambda row: row.place or 0
        )

    def _unread(self) -> list[Prompt]:
        """Prompts that the draft has not read, each once."""
        unread = {id(row.prompt): row.prompt for row in self._rows if row.place is None}
        return list(unread.values())

    def _of(self, prompt: Prompt) -> list[_Drafted]:
        return [row for row in self._rows if row.prompt is prompt and row.place is None]

    @staticmethod
    def _tell(draft: Rows, rows: Sequence[_Drafted], dropped: Sequence[int] | None = None) -> None:
        """Have the draft go on behind what was sampled."""
        draft.replace(dropped or [0] * len(rows), [row.new for row in rows])
        for row in rows:
            row.new = []
