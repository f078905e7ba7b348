"""What is timed: one kind of work at one size, named as llama-bench names it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Literal

from bigcode_cli.errors import UsageError

Kind = Literal["pp", "tg", "sc", "e2e"]
"""Prompt processing, text generation, scoring, and a request from text to text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Work that is timed.

    Attributes:
        n_prompt: tokens of each prompt, or of each text that is scored.
        n_gen: tokens that each sequence gets.
        n_depth: tokens that each sequence holds already, whose cost is left out.
        batch_size: sequences side by side.
    """

    kind: Kind
    n_prompt: int = 0
    n_gen: int = 0
    n_depth: int = 0
    batch_size: int = 1

    @property
    def label(self) -> str:
        """``pp512``, ``tg128 @ d512``, ``tg128 b8``."""
        name = f"{self.kind}{self.n_prompt or self.n_gen}"
        if self.kind == "e2e":
            name = f"e2e{self.n_prompt}+{self.n_gen}"
        depth = f" @ d{self.n_depth}" if self.n_depth else ""
        return name + depth + (f" b{self.batch_size}" if self.batch_size > 1 else "")

    @property
    def tokens(self) -> int:
        """How many tokens the time is for, of all sequences."""
        counted = {
            "pp": self.n_prompt, "tg": self.n_gen, "sc": self.n_prompt - 1, "e2e": self.n_gen,
        }  # fmt: skip
        return counted[self.kind] * self.batch_size

    @property
    def positions(self) -> int:
        """How long a sequence becomes; decoding begins with one token that is not timed."""
        return self.n_depth + self.n_prompt + self.n_gen + (self.kind == "tg")

    def ids(self, vocab_size: int) -> list[list[int]]:
        """Random ids, the same each time: what each sequence holds and is given."""
        held = self.n_depth + (self.n_prompt or 1)
        return [Random(row).choices(range(vocab_size), k=held) for row in range(self.batch_size)]


def borders(most: int, *, first: int, clear: int = 1) -> list[int]:
    """Powers of two from the first on, with what lies just below and above: where costs may jump.

    Args:
        most: none is above.
        clear: how far below a power; decoding so many tokens from there does not reach it.
    """
    powers = [2**exponent for exponent in range(most.bit_length()) if first <= 2**exponent <= most]
    sizes = [size for power in powers for size in (power - clear, power, power + 1)]
    return [size for size in dict.fromkeys([*sizes, most]) if size <= most]


def plan(
    *,
    prompts: Sequence[int],
    gens: Sequence[int],
    depths: Sequence[int],
    batches: Sequence[int],
    scores: Sequence[int],
    end_to_end: bool,
    n_positions: int,
    one_at_a_time: bool = False,
) -> list[Case]:
    """Every size of every kind; a size of 0 leaves its kind out.

    Args:
        one_at_a_time: instead of every combination, depths with the first number of sequences,
            numbers of sequences at the first depth, and lengths of one number at no depth.
        end_to_end: whether there is a tokenizer for it; at the first sizes that are not 0,
            if the model has room for both.
        n_positions: the longest sequence that the model takes.

    Raises:
        UsageError: a case is longer, or there is none.
    """
    every = list(product(batches, depths))
    held = every
    if one_at_a_time:
        every = [(batches[0], depth) for depth in depths]
        every += [(batch, depths[0]) for batch in batches]
        batches = batches[:1]
        held = [(batches[0], 0)]
    cases = [
        Case(kind="pp", n_prompt=size, n_depth=depth, batch_size=batch)
        for (batch, depth), size in product(held, filter(None, prompts))
        # What several sequences hold cannot be had without running it anew.
        if batch == 1 or not depth
    ]
    cases += [
        Case(kind="tg", n_gen=size, n_depth=depth, batch_size=batch)
        for (batch, depth), size in product(every, filter(None, gens))
    ]
    cases += [
        Case(kind="sc", n_prompt=size, batch_size=batch)
        for batch, size in product(batches, filter(None, scores))
    ]
    prompt, gen = (next(filter(None, sizes), 0) for sizes in (prompts, gens))
    if end_to_end and prompt and gen and prompt + gen <= n_positions:
        cases.append(Case(kind="e2e", n_prompt=prompt, n_gen=gen))
    if not cases:
        raise UsageError("nothing to measure", "give --n-prompt or --n-gen a size above 0")
    for case in cases:
        if case.positions > n_positions:
            raise UsageError(
                f"{case.label} takes {case.positions} positions where the model has {n_positions}",
                "use smaller sizes or depths",
            )
    return list(dict.fromkeys(cases))
