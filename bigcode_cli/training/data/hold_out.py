"""Documents put aside to measure on: whole packages, or single files."""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from bigcode_cli.errors import UsageError

Split = Literal["package", "file"]


@dataclass(frozen=True, slots=True)
class HoldOut:
    """What is asked for.

    Attributes:
        share: of all bytes.
        split: what stays together.
        seed: of what is drawn.

    Raises:
        UsageError: the share is not between 0 and 1.
    """

    share: float
    split: Split = "package"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"the share to hold out must be between 0 and 1, not {self.share}")


def draw(groups: Sequence[Hashable], sizes: Sequence[int], wanted: HoldOut) -> frozenset[int]:
    """Which documents are held out: all or none of each group.

    Groups are drawn one after the other, and each is taken that does not make it more than the
    share; where none is small enough, the smallest.

    Args:
        groups: what each document belongs to.
        sizes: of the documents, in bytes.

    Raises:
        UsageError: there is one group only, of which no part can be held out.
    """
    totals: dict[Hashable, int] = {}
    for group, size in zip(groups, sizes, strict=True):
        totals[group] = totals.get(group, 0) + size
    if len(totals) < 2:
        hint = "hold out files with --split file" if wanted.split == "package" else None
        raise UsageError(f"one {wanted.split} alone cannot be both learned from and held out", hint)
    room = wanted.share * sum(totals.values())
    drawn = list(totals)
    random.Random(wanted.seed).shuffle(drawn)
    chosen: set[Hashable] = set()
    held = 0
    for group in drawn:
        if held + totals[group] <= room:
            chosen.add(group)
            held += totals[group]
    chosen = chosen or {min(drawn, key=totals.__getitem__)}
    return frozenset(number for number, group in enumerate(groups) if group in chosen)
