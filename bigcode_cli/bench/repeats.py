"""How much of a block of code stands near it already: what makes filling it in an edit.

Who renames, adds a case to a test or a row to a table writes what is much like the lines around
it, and seldom equal to them. Lookup lives on that.
"""

import re
from collections.abc import Iterator, Sequence

RUN = 5
"""Words in a row that must stand elsewhere too: ``x = y (`` is everywhere."""

LEAST = 0.6
"""Of a block's words, the part that must lie in such runs."""

BEFORE, AFTER = 4_000, 1_300
"""Characters around a block that are looked at: what a model of 2,048 tokens is shown, 3 : 1."""

_WORD = re.compile(r"\w+|[^\w\s]")


def repeats(before: str, block: str, after: str) -> bool:
    """Whether a block is much like the text near it, and not a copy of any part of it."""
    seen = before[-BEFORE:], after[:AFTER]
    if any(block.strip() in text for text in seen):
        return False
    return repeated_share(block, seen) >= LEAST


def repeated_share(block: str, texts: Sequence[str]) -> float:
    """The part of a block's words, signs counted, in runs of ``RUN`` that a text holds too."""
    words = _WORD.findall(block)
    known = {run for text in texts for run in _runs(_WORD.findall(text))}
    covered: set[int] = set()
    for place, run in enumerate(_runs(words)):
        if run in known:
            covered.update(range(place, place + RUN))
    return len(covered) / len(words) if words else 0.0


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[place : place + RUN]) for place in range(len(words) - RUN + 1))
