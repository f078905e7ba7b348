"""Labelled texts for a head: checked records, a split, and tags of tokens from spans of characters.

A record for a sequence head is ``{"text", "label"}``, or ``{"text", "labels": […]}`` where any
number of labels may be right. One for a token head is ``{"text", "spans": [{"start", "end",
"label"}]}``, in characters, the end exclusive.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from bigcode_cli.engine.protocol import HeadKind
from bigcode_cli.errors import InputError
from bigcode_cli.text.spans import OUTSIDE, trimmed


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A labelled part of a text, without blanks at its ends: character offsets, end exclusive."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Example:
    """A text and what it, or its parts, are.

    Attributes:
        place: ``file:line``.
        labels: of the whole text, sorted; none with a token head.
        marks: its labelled parts in order, none over another; none with a sequence head.
    """

    place: str
    text: str
    labels: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that are in it, sorted, each once."""
        return self.labels or tuple(sorted({mark.label for mark in self.marks}))


def read_example(
    content: Mapping[str, object], place: str, kind: HeadKind, *, multi_label: bool
) -> Example:
    """A record as an example.

    Raises:
        InputError: it is none; the message names its place.
    """
    text = content.get("text")
    if not isinstance(text, str) or not text:
        raise InputError(f'{place}: "text" must be a text that is not empty')
    _check_characters(text, place, "text")
    if kind == "token":
        return Example(place, text, marks=_marks(content.get("spans"), text, place))
    if multi_label:
        labels = content.get("labels")
        if not isinstance(labels, list):
            raise InputError(f'{place}: "labels" must be a list')
        found = [_label(label, place) for label in labels]
        return Example(place, text, labels=tuple(sorted(set(found))))
    if "label" not in content and "labels" in content:
        raise InputError(f'{place}: no "label"', '"labels" are for --multi-label')
    return Example(place, text, labels=(_label(content.get("label"), place),))


def _label(value: object, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: a label must be a text that is not blank")
    _check_characters(value, place, "label")
    return value


def _check_characters(text: str, place: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: a {what} holds a lone surrogate") from error


def _marks(spans: object, text: str, place: str) -> tuple[Mark, ...]:
    if not isinstance(spans, list):
        raise InputError(f'{place}: "spans" must be a list')
    marks = sorted(_mark(span, text, place) for span in spans)
    for first, second in pairwise(marks):
        if second.start < first.end:
            raise InputError(
                f"{place}: the spans {first.start}-{first.end} and {second.start}-{second.end} "
                "overlap"
            )
    return tuple(marks)


def _mark(span: object, text: str, place: str) -> Mark:
    if not isinstance(span, dict):
        raise InputError(f"{place}: a span must be a JSON object")
    start, end = span.get("start"), span.get("end")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise InputError(
            f'{place}: a span\'s "start" and "end" must be whole numbers, '
            f"0 <= start < end <= {len(text)}, not {start!r} and {end!r}"
        )
    label = _label(span.get("label"), place)
    if label == OUTSIDE:
        raise InputError(f"{place}: the label {OUTSIDE} is that of no span")
    start, end = trimmed(text, start, end)  # as classify does
    if start == end:
        raise InputError(f"{place}: the span {span['start']}-{span['end']} is blank")
    return Mark(start, end, label)


def label_names(examples: Sequence[Example], kind: HeadKind) -> tuple[str, ...]:
    """The labels of a head that learns from these, sorted; tags of a token head, ``O`` first.

    Raises:
        InputError: there is nothing to tell apart.
    """
    names = sorted({name for example in examples for name in example.names})
    if not names:
        raise InputError("no text has a label")
    if kind == "sequence":
        return tuple(names)
    return (OUTSIDE, *(f"{side}-{name}" for name in names for side in "BI"))


def bio_tags(text: str, marks: Sequence[Mark], lengths: Sequence[int]) -> list[str]:
    """The tag of each token: ``B-X`` on the first that a part touches, ``I-X`` on the others.

    A token that two parts touch is the first one's.

    Args:
        marks: in order, none over another.
        lengths: of each token in bytes; together they are the text in UTF-8.
    """
    bounds = list(accumulate((len(character.encode()) for character in text), initial=0))
    tags, at, place, begun = [], 0, 0, False
    for length in lengths:
        while place < len(marks) and bounds[marks[place].end] <= at:
            place, begun = place + 1, False
        at += length
        if place == len(marks) or bounds[marks[place].start] >= at:
            tags.append(OUTSIDE)
            continue
        tags.append(f"{'I' if begun else 'B'}-{marks[place].label}")
        begun = True
    return tags


def split(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """What is learned from and what is held out, each in the order that it came in.

    Texts that are equal lie on one side. Texts with the same labels lie next to each other before
    every so manieth is taken, so that both sides have much the same shares of labels. A label that
    would be held out with all its texts keeps one of them.

    Args:
        share: of the distinct texts that is held out, rounded down.
    """
    labels: dict[str, set[str]] = {}
    for example in examples:
        labels.setdefault(example.text, set()).update(example.names)
    texts = list(labels)
    random.Random(seed).shuffle(texts)
    texts.sort(key=lambda text: sorted(labels[text]))
    held = {
        text
        for at, text in enumerate(texts)
        if math.floor((at + 1) * share) > math.floor(at * share)
    }
    known = {name for text in texts if text not in held for name in labels[text]}
    for text in texts:
        if not labels[text] <= known:
            held.remove(text)
            known |= labels[text]
    kept = [example for example in examples if example.text not in held]
    return kept, [example for example in examples if example.text in held]
