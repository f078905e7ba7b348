"""Where a middle goes on to repeat what stands after the hole."""

import re

RUN = 16
"""Characters of a line's rest that are no coincidence. In 300 holes cut into lines of real code, 60
of whose rests were as long, no right middle held so many of them."""

_LINES_COMPARED = 4
_WORD = re.compile(r"\w")
_COMMONPLACE = re.compile(
    r"\s*(?:else|try|finally|return|return None|pass|break|continue|raise|end|fi|done|@\w+)[:;]?\s*"
)
"""Lines that a right middle may well hold too."""


def has_substance(line: str) -> bool:
    """Whether a line that stands in two places is more likely a repetition than a coincidence."""
    return _WORD.search(line) is not None and _COMMONPLACE.fullmatch(line) is None


class RepeatedLines:
    """Finds the first lines of a suffix in a middle; blank lines, and blanks at ends, are skipped.

    One line with substance is a repetition, and so are two lines in a row. Where nothing was
    written before it, only two are, one of them with substance: the first line that a model writes
    is what it was asked for, even where it resembles the next.

    Args:
        lines: of the suffix, from the first whole one.
    """

    def __init__(self, lines: list[str]) -> None:
        filled = [line.rstrip() for line in lines if line.strip()]
        self._lines = filled[:_LINES_COMPARED]
        self._begun: list[tuple[int, int, bool]] = []

    def line(self, text: str, place: int, *, first: bool) -> int | None:
        """Look at a whole line.

        Args:
            text: of the line, without its line end.
            place: any number that tells the line from others.
            first: whether nothing that is not blank was written before.

        Returns:
            The place of the line that the repetition begins with, if this line makes one certain.
        """
        text = text.rstrip()
        if not text or not self._lines:
            return None
        begun = [*self._begun, (place, 0, first)]
        self._begun = [
            (place, count + 1, first)
            for place, count, first in begun
            if count < len(self._lines) and self._lines[count] == text
        ]
        return next(
            (place for place, count, first in self._begun if self._enough(count, first)), None
        )

    def pending(self, text: str, place: int, *, first: bool) -> int | None:
        """The first place where a repetition may begin that this part of a line belongs to."""
        begun = [*self._begun, *([(place, 0, first)] if text.strip() else [])]
        for start, count, _ in begun:
            if count == len(self._lines):
                continue
            line = self._lines[count]
            if not text.strip() or line.startswith(text) or line == text.rstrip():
                return start
        return None

    def _enough(self, count: int, first: bool) -> bool:
        substance = any(map(has_substance, self._lines[:count]))
        return substance and count > 1 if first else substance or count > 1
