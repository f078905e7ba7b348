"""What belongs to one row, whatever place it has among others."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from bigcode_cli.engine.protocol import Prompt, Sampler


class Stream:
    """The doubles of a row's random stream by their number: a token taken back draws its own anew.

    See ``engine.protocol.Sampler``.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._drawn: list[float] = []

    def __getitem__(self, number: int) -> float:
        while len(self._drawn) <= number:
            self._drawn.append(self._random.random())
        return self._drawn[number]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row's prompt, how it draws, and what it has sampled.

    Attributes:
        prompt: its ids, all of which the cache holds.
        budget: how many tokens it will be asked for at most.
        logprobs: see ``engine.protocol.Prompt``.
        sampled: ids, of which the cache holds the first ones.
    """

    prompt: tuple[int, ...]
    sampler: Sampler
    budget: int
    logprobs: int | None
    stream: Stream
    sampled: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> "list[Row]":
        """One for each sampler of each prompt."""
        return [
            cls(
                prompt=prompt.ids,
                sampler=sampler,
                budget=prompt.max_new_tokens,
                logprobs=prompt.logprobs,
                stream=Stream(sampler.seed),
            )
            for prompt in prompts
            for sampler in prompt.samplers
        ]

    @property
    def length(self) -> int:
        """Tokens of prompt and output, fed or not."""
        return len(self.prompt) + len(self.sampled)

    @property
    def whole(self) -> int:
        """Tokens that it may come to."""
        return len(self.prompt) + max(self.budget, len(self.sampled))
