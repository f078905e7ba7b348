"""Precision, recall and F1 of labels, by counting.

Of whole texts an item is a label; of parts of texts it is a label with the part's bounds, so that
a part counts as found only if both of them are right (Tjong Kim Sang & De Meulder 2003).
"""

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from statistics import fmean

Item = tuple[str, int, int]
"""A label and the bounds of its part; those of a whole text are 0 and 0."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one label is told.

    Attributes:
        precision: the share of its predictions that are right; ``None`` where there is none.
        recall: the share of its items that are predicted; ``None`` where there is none.
        f1: 2 right / (predicted + support); ``None`` where that is 0 / 0.
        support: items that have it.
    """

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


def score_classes(
    labels: Iterable[str], texts: Iterable[tuple[Set[Item], Set[Item]]]
) -> tuple[ClassScore, ...]:
    """The scores of each label.

    Args:
        texts: of each, what is right and what was predicted.
    """
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for wanted, found in texts:
        support.update(label for label, _, _ in wanted)
        predicted.update(label for label, _, _ in found)
        right.update(label for label, _, _ in wanted & found)
    return tuple(
        ClassScore(
            label,
            _ratio(right[label], predicted[label]),
            _ratio(right[label], support[label]),
            _ratio(2 * right[label], predicted[label] + support[label]),
            support[label],
        )
        for label in labels
    )


def macro_f1(scores: Iterable[ClassScore]) -> float | None:
    """The mean F1 of the labels that have one; ``None`` where none has."""
    known = [score.f1 for score in scores if score.f1 is not None]
    return fmean(known) if known else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
