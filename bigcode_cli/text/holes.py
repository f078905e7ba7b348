r"""Where a hole is in a text, and the text with the hole filled.

Lines end at ``\n`` or ``\r\n``, as editors count them; a lone ``\r`` is a character like any other,
and so are form feeds and Unicode's line separators. Columns are code points, from 1. A byte order
mark at the text's start is no column of its first line, and the model never sees it.

Law: what stands outside the hole stays as it is, character for character.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bigcode_cli.errors import UsageError

MARKER = "<FILL_HERE>"
"""Stands in a text where something is to be filled in."""

BYTE_ORDER_MARK = "\ufeff"

_LINE_END = re.compile(r"\r*\n")
"""Of a model: carriage returns before a newline belong to it, or one could become a line end."""

_PLACE = re.compile(r"(?s)(.+):([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a text.

    Attributes:
        before: the text before it, exactly as it stands in the file; likewise ``after``.
    """

    before: str
    after: str

    @property
    def prefix(self) -> str:
        r"""What the model sees before the hole: no byte order mark, ``\n`` for ``\r\n``."""
        return self.before.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n")

    @property
    def suffix(self) -> str:
        r"""What the model sees after the hole: ``\n`` for ``\r\n``."""
        return self.after.replace("\r\n", "\n")

    @property
    def line_end(self) -> str:
        r"""That of the line before the hole's, else of the hole's own, else ``\n``."""
        end = self.before.rfind("\n")
        if end >= 0:
            before = self.before[:end]
        else:
            end = self.after.find("\n")
            before = (self.before + self.after[:end]) if end >= 0 else ""
        return "\r\n" if before.endswith("\r") else "\n"

    def middle(self, text: str) -> str:
        """What the model wrote, with the line ends of the place where it goes."""
        return _LINE_END.sub(self.line_end, text)

    def filled(self, text: str) -> str:
        """The whole text, with what the model wrote in the hole."""
        return self.before + self.middle(text) + self.after


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and where in it: both counted from 1."""

    file: str
    line: int | None = None
    column: int | None = None


def parse_place(argument: str) -> tuple[Place, ...]:
    """What ``FILE[:LINE[:COL]]`` may mean, in the order of precedence: the longest name first.

    A name may hold colons and end in digits, so the first reading whose file exists is the right
    one; where none does, the last is what was meant.
    """
    readings = [Place(argument)]
    if line := _PLACE.fullmatch(argument):
        readings.append(Place(line[1], int(line[2])))
        if both := _PLACE.fullmatch(line[1]):
            readings.append(Place(both[1], int(both[2]), int(line[2])))
    return tuple(readings)


def hole_at(text: str, line: int, column: int | None = None) -> Hole:
    """The hole before a column of a line, or at the end of the line's content.

    The line behind a last line end exists and is empty; a line's last column is one past its
    content.

    Raises:
        UsageError: the text has no such line, or the line no such column.
    """
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise UsageError(f"there is no line {line}: they are 1 to {len(lines)}")
    content = lines[line - 1]
    if line < len(lines):
        content = content.removesuffix("\r")
    start = sum(len(before) + 1 for before in lines[: line - 1])
    if line == 1 and content.startswith(BYTE_ORDER_MARK):
        content, start = content[1:], 1
    last = len(content) + 1
    if column is not None and not 1 <= column <= last:
        raise UsageError(f"line {line} has no column {column}: they are 1 to {last}")
    place = start + (last if column is None else column) - 1
    return Hole(text[:place], text[place:])


@dataclass(frozen=True, slots=True)
class Template:
    """A text with markers, of which the first that is not filled yet is the hole.

    Attributes:
        parts: what stands between the markers.
    """

    parts: tuple[str, ...]

    @classmethod
    def split(cls, text: str) -> Self:
        """Cut a text at its markers."""
        return cls(tuple(text.split(MARKER)))

    @property
    def count(self) -> int:
        """How many markers there are."""
        return len(self.parts) - 1

    def hole(self, texts: Sequence[str] = ()) -> Hole:
        """The hole after those that were filled with ``texts``; the markers after it vanish.

        Raises:
            IndexError: no hole is left.
        """
        if len(texts) >= self.count:
            raise IndexError("no hole is left")
        return Hole(self._before(texts), "".join(self.parts[len(texts) + 1 :]))

    def filled(self, texts: Sequence[str]) -> str:
        """The whole text, the first holes filled with ``texts``; markers after them stay."""
        return MARKER.join([self._before(texts), *self.parts[len(texts) + 1 :]])

    def _before(self, texts: Sequence[str]) -> str:
        """The text up to the first marker that is not filled."""
        before = self.parts[0]
        for place, text in enumerate(texts, 1):
            hole = Hole(before, "".join(self.parts[place:]))
            before += hole.middle(text) + self.parts[place]
        return before
