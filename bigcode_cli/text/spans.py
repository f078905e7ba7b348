r"""From the labels of tokens to labelled parts of the text.

Labels are those of a tagging scheme, or plain. In a scheme (Ramshaw & Marcus 1995; Ratinov & Roth
2009) ``B-X`` begins a part, ``I-X`` goes on with it, ``L-X`` (or ``E-X``) ends it and ``U-X`` (or
``S-X``) is one by itself; there is one where a label begins with ``B-`` or ``I-``. Plain labels of
neighbours that are equal are one part. ``O`` is outside of all parts in either.

Models write ill-formed sequences: an ``I-X`` with nothing to go on with begins a part.

Law: ``text[span.start:span.end] == span.text``, and no span over another.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

from bigcode_cli.records import LabelledSpan

OUTSIDE = "O"

BYTE_ORDER_MARK = "\ufeff"

_TAG = re.compile(r"(?s)([BILEUS])-(.+)")


@dataclass(frozen=True, slots=True)
class Tag:
    """What a token's label says of the part that the token is in.

    Attributes:
        label: of the part; ``None`` outside of all.
        begins: the part begins with this token, whatever stands before it.
        ends: and ends with it, whatever follows.
    """

    label: str | None
    begins: bool = False
    ends: bool = False


def read_tags(labels: Sequence[str]) -> tuple[Tag, ...]:
    """What each label of a model means."""
    is_scheme = any(_TAG.fullmatch(label) and label[0] in "BI" for label in labels)
    return tuple(_read_tag(label, is_scheme=is_scheme) for label in labels)


def _read_tag(label: str, *, is_scheme: bool) -> Tag:
    if label == OUTSIDE:
        return Tag(None)
    tag = _TAG.fullmatch(label) if is_scheme else None
    if tag is None:
        return Tag(label)
    return Tag(tag[2], begins=tag[1] in "BUS", ends=tag[1] in "LEUS")


def merged(tags: Iterable[Tag]) -> Iterator[tuple[int, int, str]]:
    """The parts that a sequence of tags makes: first token, token after the last, label."""
    start, label, at = 0, None, -1
    for at, tag in enumerate(tags):
        if label is not None and (tag.begins or tag.label != label):
            yield start, at, label
            label = None
        if label is None:
            start, label = at, tag.label
        if label is not None and tag.ends:
            yield start, at + 1, label
            label = None
    if label is not None:
        yield start, at + 1, label


def find_spans(
    text: str,
    tags: Iterable[Tag],
    scores: Sequence[float],
    lengths: Sequence[int],
    *,
    threshold: float | None = None,
) -> tuple[LabelledSpan, ...]:
    """The labelled parts of a text.

    A part that begins or ends inside a character takes the whole of it, unless the one before did.
    Blanks at its ends are cut off, and one of blanks alone is none.

    Args:
        tags: one a token.
        scores: of each token, the probability of its label.
        lengths: of each token in bytes; together they are the text in UTF-8.
        threshold: parts whose mean score is less are left out.

    Raises:
        ValueError: the lengths are not the text's.
    """
    bounds = list(accumulate(lengths, initial=0))
    characters = _Characters(text)
    if bounds[-1] != characters.bytes:
        raise ValueError(f"tokens of {bounds[-1]} bytes for a text of {characters.bytes}")
    spans: list[LabelledSpan] = []
    lines, taken = _Lines(text), 0
    for first, last, label in merged(tags):
        score = fmean(scores[first:last])
        if threshold is not None and score < threshold:
            continue
        start = max(characters.holding(bounds[first]), taken)
        start, end = trimmed(text, start, characters.before(bounds[last]))
        if start == end:
            continue
        taken = end
        line, column = lines.place(start)
        spans.append(
            LabelledSpan(
                start=start,
                end=end,
                line=line,
                column=column,
                label=label,
                score=score,
                text=text[start:end],
            )
        )
    return tuple(spans)


def redacted(text: str, spans: Iterable[LabelledSpan]) -> str:
    """The text with ``[LABEL]`` in the place of each span; all else stays as it is."""
    parts, taken = [], 0
    for span in spans:
        parts += [text[taken : span.start], f"[{span.label}]"]
        taken = span.end
    return "".join([*parts, text[taken:]])


class _Characters:
    """The characters of a text by its bytes in UTF-8.

    Attributes:
        bytes: of the text.
    """

    def __init__(self, text: str) -> None:
        self._starts: list[int] | None = None
        self.bytes = len(text)
        if not text.isascii():
            *self._starts, self.bytes = accumulate(map(_width, text), initial=0)

    def holding(self, byte: int) -> int:
        """The character that a byte is of."""
        return byte if self._starts is None else bisect_right(self._starts, byte) - 1

    def before(self, byte: int) -> int:
        """How many characters begin before a byte."""
        return byte if self._starts is None else bisect_left(self._starts, byte)


def _width(character: str) -> int:
    """Bytes of a character in UTF-8."""
    code = ord(character)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4


class _Lines:
    r"""Lines and columns of places that are asked for in order, both counted from 1.

    Lines end with ``\n`` alone. A byte order mark is no column of the first.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._start = 1, len(BYTE_ORDER_MARK) if text[:1] == BYTE_ORDER_MARK else 0
        self._seen = 0

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of the character at ``at``."""
        newlines = self._text.count("\n", self._seen, at)
        if newlines:
            self._line += newlines
            self._start = self._text.rindex("\n", self._seen, at) + 1
        self._seen = at
        return self._line, at - self._start + 1


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A part's bounds without the blanks at its ends, or two that are equal."""
    while start < end and _is_blank(text[start]):
        start += 1
    while start < end and _is_blank(text[end - 1]):
        end -= 1
    return min(start, end), end


def _is_blank(character: str) -> bool:
    return character.isspace() or character == BYTE_ORDER_MARK
