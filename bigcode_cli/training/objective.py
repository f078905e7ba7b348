"""Context-level fill-in-the-middle: pieces of source → whole samples → packed windows.

Bavarian et al. 2022 ("Efficient Training of Language Models to Fill in the Middle"), applied after
documents are cut to the context, so that every prefix, suffix and middle fits into one window.
Half of the middles are lines, as completion in an editor asks for them. Pure: a random generator,
a text and an encoder in, token ids out.
"""

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from bigcode_cli.errors import UsageError
from bigcode_cli.text.fim import Dialect, psm, spm

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What the model is asked to learn. Rates are shares of the text, from 0 to 1.

    Attributes:
        fim_rate: of pieces that become fill-in-the-middle samples.
        line_rate: of those, the share whose middles are lines; the others are cut anywhere.
        spm_rate: of those samples, the share in the order suffix, prefix, middle.
        bos_rate: windows that begin with ``<|endoftext|>``, as scoring prepends it.
        shortest: characters of the shortest parts that such a piece is cut into.
        longest: of the longest.
    """

    fim_rate: float = 0.5
    line_rate: float = 0.5
    spm_rate: float = 0.5
    bos_rate: float = 0.5
    shortest: int = 300
    longest: int = 4000

    def __post_init__(self) -> None:
        for name in ("fim_rate", "line_rate", "spm_rate", "bos_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not 1 <= self.shortest <= self.longest:
            raise UsageError("shortest must be at least 1 and at most longest")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What turns text into samples.

    Attributes:
        encode: plain text to ids.
        eos_id: ends each sample.
        pad_id: fills a window's tail; it is in no text.
    """

    encode: Encode
    dialect: Dialect
    eos_id: int
    pad_id: int


IGNORED = -100
"""A target that does not count."""

ROOM = 40
"""Tokens that a piece leaves free for the control tokens and joints of a split."""

Split = tuple[str, str, str]
"""(prefix, middle, suffix); joined they are the text."""


def samples(
    text: str, objective: Objective, vocabulary: Vocabulary, longest: int, random: Random
) -> Iterator[list[int]]:
    """The samples of one piece, each whole, at most ``longest`` tokens and ``<|endoftext|>`` last.

    A sample that does not fit (the joints of a split cost a few tokens) is cut in half at a line
    end and tried again without a hole; what cannot be cut is cut hard.
    """
    kind = _draw_kind(objective, random)
    parts = [text] if kind == "plain" else _parts(text, objective, random)
    for part in parts:
        ids = _plain(part, vocabulary)
        if kind != "plain":
            split = split_lines(part, random) if kind == "line" else split_anywhere(part, random)
            order: Literal["psm", "spm"] = "spm" if random.random() < objective.spm_rate else "psm"
            filled = fim_sample(split, order, vocabulary)
            ids = filled if len(filled) <= longest else ids
        if len(ids) <= longest:
            yield ids
        else:
            for start in range(0, len(ids) - 1, longest - 1):
                yield [*ids[start : min(start + longest - 1, len(ids) - 1)], vocabulary.eos_id]


def _draw_kind(objective: Objective, random: Random) -> Literal["plain", "line", "anywhere"]:
    if random.random() >= objective.fim_rate:
        return "plain"
    return "line" if random.random() < objective.line_rate else "anywhere"


def _plain(text: str, vocabulary: Vocabulary) -> list[int]:
    return [*vocabulary.encode(text), vocabulary.eos_id]


def _parts(text: str, objective: Objective, random: Random) -> Iterator[str]:
    """Cut a piece at line ends into parts of log-uniform length.

    A hole teaches more in a short part: most of a long sample is context that was seen before.
    """
    low, high = math.log(objective.shortest), math.log(objective.longest)
    start = 0
    while start < len(text):
        size = round(math.exp(random.uniform(low, high)))
        end = text.find("\n", start + size) + 1
        # What would be left too short to be worth a sample of its own stays with this one.
        if end == 0 or len(text) - end < objective.shortest:
            end = len(text)
        yield text[start:end]
        start = end


def fim_sample(split: Split, order: Literal["psm", "spm"], vocabulary: Vocabulary) -> list[int]:
    """Prompt, middle and ``<|endoftext|>`` of one split, in one order."""
    prefix, middle, suffix = split
    arrange = spm if order == "spm" else psm
    prompt = arrange(vocabulary.dialect, vocabulary.encode(prefix), vocabulary.encode(suffix))
    return [*prompt, *vocabulary.encode(middle), vocabulary.eos_id]


def split_anywhere(text: str, random: Random) -> Split:
    """A middle between two characters drawn evenly."""
    first, last = sorted(random.randint(0, len(text)) for _ in range(2))
    return text[:first], text[first:last], text[last:]


def split_lines(text: str, random: Random) -> Split:
    """A middle that is a whole line, some whole lines, or the rest of a line.

    Half are one line, indentation and (in three of four) line end included, as Bavarian et al.
    2022 ask for it; a quarter are two to eight lines; a quarter run from a place within a line to
    its end.
    """
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    filled = [row for row, line in enumerate(lines) if not line.isspace()]
    if not filled:
        return split_anywhere(text, random)
    row = random.choice(filled)
    first, last = starts[row], starts[row + 1]
    shape = random.random()
    if shape < 0.25:
        last = starts[min(len(lines), row + random.randint(2, 8))]
    elif shape < 0.5:
        content = len(lines[row].rstrip("\r\n"))
        first += random.randint(0, content)
        last = starts[row] + content
    elif random.random() < 0.25:
        last = first + len(lines[row].rstrip("\r\n"))
    return text[:first], text[first:last], text[last:]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing bin packing: which samples share each window.

    Raises:
        ValueError: a sample is longer than a window.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, bin), ascending
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"a sample of {length} tokens does not fit into {capacity}")
        place = bisect_left(room, (length, -1))
        if place == len(room):
            bins.append([index])
            free, target = capacity, len(bins) - 1
        else:
            free, target = room.pop(place)
            bins[target].append(index)
        insort(room, (free - length, target))
    return bins


def windows(
    texts: Sequence[str],
    objective: Objective,
    vocabulary: Vocabulary,
    n_positions: int,
    random: Random,
) -> "array[int]":
    """All samples of some pieces, packed whole into windows of ``n_positions + 1`` ids each.

    Inputs are all ids of a window but the last, targets all but the first; ``pad_id`` is no target.
    Samples within a window and windows are shuffled: packing sorts by length.
    """
    found = [
        ids for text in texts for ids in samples(text, objective, vocabulary, n_positions, random)
    ]
    packed = pack([len(ids) for ids in found], n_positions)
    random.shuffle(packed)
    flat = array("H")
    for members in packed:
        random.shuffle(members)
        window = [vocabulary.eos_id] if random.random() < objective.bos_rate else []
        for index in members:
            window += found[index]
        flat.extend(window)
        flat.extend([vocabulary.pad_id] * (n_positions + 1 - len(window)))
    return flat
