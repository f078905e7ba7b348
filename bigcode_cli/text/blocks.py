"""Where a block in a hole ends: at a dedent, where it repeats the suffix, where Python parses.

The three check each other. A dedent or a repetition ends the middle at once where the
file then parses, or where nothing tells whether it does; else back at the last line end where it
did. Where it never did, the hole still lacks something, a closing bracket say: some more lines may
bring it.
"""

from bigcode_cli.text.repeats import RepeatedLines
from bigcode_cli.text.source import Nesting, bracket_balance, indentation, parses

MAX_PARSED_CHARS = 200_000
"""Of prefix and suffix: what is longer takes a tenth of a second and more, at every line end."""

PATIENCE = 8
"""Lines after a dedent that may still make the file parse."""


class BlockEnd:
    """A ``stops.Rule``: the end of the block that stands in a hole.

    - A line that is not blank and indented less than the block is its end. The block is indented
      as the hole's line; where that is blank, as the first line that is not; and further lines as
      the first of them. A line within brackets or a string that the middle opened is no dedent.
    - Lines that repeat the suffix are its end.
    - Python, the rest of a statement: the middle ends at the first line end where the file parses.
    - Python, whole statements: it never ends behind the last line end where the file parses, once
      there is one: the file often parses after each of several statements, and even with none.
    - Blank lines at its end are dropped where the suffix begins with a line end of its own. A
      middle of nothing but blanks is none.

    Args:
        prefix: all text before the hole.
        suffix: all text after it.
    """

    def __init__(self, prefix: str, suffix: str, *, is_python: bool, cut_overlap: bool) -> None:
        self.found: int | None = None
        self.pending: int | None = None
        self._before, self._after = prefix, suffix
        self._parser = is_python and len(prefix) + len(suffix) <= MAX_PARSED_CHARS
        self._head = prefix[prefix.rfind("\n") + 1 :]
        rest, *lines = suffix.split("\n")
        # A suffix that begins with a whole line leaves the last line end to the middle.
        self._ends_line = bool(rest.strip()) and not self._head
        self._brings_line_end = bool(lines) and not rest.strip()
        self._repeats = RepeatedLines(([rest, *lines] if self._ends_line else lines) * cut_overlap)
        self._nesting = Nesting(is_python=is_python)
        self._nesting.feed(prefix[: len(prefix) - len(self._head)])
        self._level = self._nesting.after(self._head)
        self._least = indentation(self._head)
        self._least_known = False
        self._statement = bool(self._head.strip())
        self._closing = 0 if self._parser else bracket_balance(suffix)
        self._text = ""
        self._start = 0
        self._content = 0
        self._parsed: int | None = None
        self._dedent: int | None = None
        self._patience = PATIENCE

    def feed(self, text: str) -> None:
        """Look at more of the output."""
        self._text += text
        while self.found is None and (end := self._text.find("\n", self._start)) >= 0:
            self._whole_line(end)
        if self.found is None:
            line = self._text[self._start :]
            if self._is_dedent(line):
                self._end(self._trimmed())
            self.pending = self._first_pending(line)

    def finish(self) -> None:
        """The output has ended by itself: decide what is pending."""
        line = self._text[self._start :]
        self._compare(line)
        if self.found is not None:
            return
        last = self._dedent if self._dedent is not None else self._parsed
        if last is not None and not self._parses_to_its_end():
            self.found = last
        elif not self._text.strip() or (self._brings_line_end and not line.strip()):
            self.found = self._content

    def _whole_line(self, end: int) -> None:
        line = self._text[self._start : end]
        if self._is_dedent(line):
            self._end(self._trimmed())
        else:
            self._compare(line)
        if self.found is not None:
            return
        whole = line if self._start else self._head + line
        if line.strip():
            self._content = end
            self._learn_indentation(whole)
        elif not self._start:
            self._statement = False
        self._nesting.feed(whole + "\n")
        self._start = end + 1
        if self._parser and line.strip():
            self._parse(end + self._ends_line)

    def _is_dedent(self, line: str) -> bool:
        if not self._start or self._dedent is not None or not line.strip():
            return False
        if self._nesting.level > self._level or indentation(line) >= self._least:
            return False
        # Without a parser, brackets tell whether the prefix's block is still to be closed.
        closes = line.lstrip()[0] in ")]}" and self._nesting.depth + self._closing > 0
        return self._parser or not closes

    def _compare(self, line: str) -> None:
        """End where the lines up to this one repeat the suffix."""
        if self._dedent is not None or (not self._start and self._head.strip()):
            return
        place = self._start if self._ends_line else self._trimmed()
        whole = line if self._start else self._head + line
        repeated = self._repeats.line(whole, place, first=self._is_first())
        if repeated is not None:
            self._end(repeated)

    def _is_first(self) -> bool:
        return not self._content and not self._head.strip()

    def _learn_indentation(self, line: str) -> None:
        if not self._start:
            self._least_known = not self._head.strip()
            self._least = indentation(line)
        elif not self._least_known and self._nesting.level <= self._level:
            self._least_known = True
            self._least = indentation(line)

    def _trimmed(self) -> int:
        """The end of what is not blank, and of its line where the suffix does not bring one."""
        return self._content + (self._ends_line and self._content > 0)

    def _end(self, place: int) -> None:
        """A dedent or a repetition: see this module's docstring."""
        if not self._parser or self._parses(place):
            self.found = place
        elif self._parsed is not None:
            self.found = self._parsed
        else:
            self._dedent = place

    def _parse(self, end: int) -> None:
        """Try the end of a line that is not blank."""
        ok = self._parses(end)
        if self._dedent is not None:
            self._patience -= 1
            if ok or not self._patience:
                self.found = end if ok else self._dedent
        elif self._statement:
            self.found = end if ok else None
            self._statement = self._nesting.level > 0
        elif ok:
            self._parsed = end

    def _parses(self, end: int) -> bool:
        return parses(self._before + self._text[:end] + self._after)

    def _parses_to_its_end(self) -> bool:
        text = self._text
        if self._ends_line and not text.endswith("\n"):
            text += "\n"
        return parses(self._before + text + self._after)

    def _first_pending(self, line: str) -> int | None:
        if self._dedent is not None:
            return self._dedent
        places = [] if self._parsed is None else [self._parsed]
        if not line.strip():
            places.append(self._trimmed())
        if self._start or not self._head.strip():
            place = self._start if self._ends_line else self._trimmed()
            whole = line if self._start else self._head + line
            repeated = self._repeats.pending(whole, place, first=self._is_first())
            places += [] if repeated is None else [repeated]
        return min(places, default=None)
