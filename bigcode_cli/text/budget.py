"""Text cut to a budget of tokens: whole lines, and inside a line only where one alone is too long.

A line ends at a newline. What is kept is encoded by itself, never sliced out of the whole text's
ids, unless a line had to be cut.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from bigcode_cli.text.tokenizer import Tokenizer

End = Literal["left", "right"]
"""Where text may be dropped."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of a text.

    Attributes:
        ids: of ``text``.
        dropped_tokens: of the whole text less those that are left.
        dropped_lines: lines that lost text.
    """

    ids: tuple[int, ...]
    text: str
    dropped_tokens: int = 0
    dropped_lines: int = 0


def split_lines(text: str) -> list[str]:
    """The lines, each with its newline; unlike ``str.splitlines``, nothing else ends one."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + lines[-1:] * bool(lines[-1])


def fit(
    tokenizer: Tokenizer,
    text: str,
    room: int,
    *,
    drop: End,
    ids: list[int] | None = None,
    whole_lines: bool = False,
) -> Cut:
    """As much of a text as ``room`` tokens hold: its last lines, or its first.

    Args:
        drop: the end that loses lines.
        ids: of the whole text, where they are known.
        whole_lines: never cut inside a line. Otherwise the line at the cut is, where it is longer
            than ``room`` by itself: no choice of whole lines could show any of it.

    Raises:
        InputError: as ``Tokenizer.encode``.
    """
    ids = tokenizer.encode(text) if ids is None else ids
    if len(ids) <= room:
        return Cut(tuple(ids), text)
    lines = split_lines(text)
    kept = _whole_lines(tokenizer, lines, ids, room, drop)
    shown = "".join(_nearest(lines, kept, drop))
    shown_ids = tokenizer.encode(shown)
    if not whole_lines and kept < len(lines):
        edge = lines[-kept - 1] if drop == "left" else lines[kept]
        if len(tokenizer.encode(edge)) > room:
            inside = _inside(tokenizer, "".join(_nearest(lines, kept + 1, drop)), room, drop)
            # Tokens reach over line ends: whole lines by themselves may take fewer.
            if len(tokenizer.decode(inside)) > len(shown):
                shown, shown_ids = tokenizer.decode(inside), inside
    lost = text[: len(text) - len(shown)] if drop == "left" else text[len(shown) :]
    # Where lines are encoded apart, there may be more tokens of them, never a lost line of none.
    return Cut(tuple(shown_ids), shown, max(1, len(ids) - len(shown_ids)), len(split_lines(lost)))


def _nearest(lines: list[str], count: int, drop: End) -> list[str]:
    return lines[len(lines) - count :] if drop == "left" else lines[:count]


def _whole_lines(
    tokenizer: Tokenizer, lines: list[str], ids: list[int], room: int, drop: End
) -> int:
    """How many lines fit: a guess from the whole text's tokens, mended by encoding.

    The guess may be off by a line, because tokens reach over line ends.
    """
    order = -1 if drop == "left" else 1
    ends = list(accumulate(len(tokenizer.token_bytes(id_)) for id_ in ids[::order]))
    reach = ends[room - 1] if room > 0 else 0
    sizes = accumulate(len(line.encode()) for line in lines[::order])
    count = sum(size <= reach for size in sizes)

    def fits(count: int) -> bool:
        return len(tokenizer.encode("".join(_nearest(lines, count, drop)))) <= room

    while count and not fits(count):
        count -= 1
    while count < len(lines) and fits(count + 1):
        count += 1
    return count


def _inside(tokenizer: Tokenizer, text: str, room: int, drop: End) -> list[int]:
    """The nearest tokens of a text that hold whole characters."""
    ids = tokenizer.encode(text)
    for count in range(min(room, len(ids)), 0, -1):
        kept = ids[len(ids) - count :] if drop == "left" else ids[:count]
        # A part of UTF-8 that decodes by itself begins and ends at characters' borders.
        try:
            b"".join(map(tokenizer.token_bytes, kept)).decode("utf-8")
        except UnicodeDecodeError:
            continue
        return kept
    return []
