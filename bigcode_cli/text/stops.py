"""Where an output ends before its budget: stop strings, the end of a line, the end of a block.

The result depends on the text alone, not on how tokens cut it: text that may yet turn out to
belong to a stop is held back until that is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bigcode_cli.records import StopOptions

TAB_WIDTH = 8
"""Python's: a tab leads to the next multiple of eight."""


class Rule(Protocol):
    """Finds an end in other ways than by a string; places count from the output's first character.

    Attributes:
        found: where the output ends.
        pending: where it may end, as the next text decides.
    """

    found: int | None
    pending: int | None

    def feed(self, text: str) -> None:
        """Look at more of the output."""

    def finish(self) -> None:
        """The output has ended by itself: decide what is pending."""


class Scanner:
    """Passes one output through up to its first stop.

    The stop that begins earliest wins; of stops that begin together, the longest string.

    Args:
        texts: stop strings.
        rule: what else may end the output.

    Attributes:
        stopped: nothing more will come.
        stop: the stop string that ended the output, if one did.
    """

    def __init__(self, texts: Sequence[str], rule: Rule | None) -> None:
        self._texts = tuple(texts)
        self._rule = rule
        self._held = ""
        self._offset = 0
        self.stopped = False
        self.stop: str | None = None

    def push(self, text: str) -> str:
        """The text that is safe to show; nothing once ``stopped``."""
        if self.stopped:
            return ""
        self._held += text
        if self._rule is not None and self._rule.found is None:
            self._rule.feed(text)
        match = self._first_match()
        pending = self._first_pending()
        if match is not None and (pending is None or match < pending):
            return self._end(match)
        return self._release(len(self._held) if pending is None else pending.start)

    def flush(self) -> str:
        """The text held back at the output's end, up to a stop if one is complete in it."""
        if self.stopped:
            return ""
        if self._rule is not None and self._rule.found is None:
            self._rule.finish()
        match = self._first_match()
        return self._release(len(self._held)) if match is None else self._end(match)

    def _first_match(self) -> "_Stop | None":
        """The stop that wins among those that are complete."""
        found = [
            _Stop(start, text) for text in self._texts if (start := self._held.find(text)) >= 0
        ]
        if self._rule is not None and self._rule.found is not None:
            found.append(_Stop(self._rule.found - self._offset, None))
        return min(found, default=None)

    def _first_pending(self) -> "_Stop | None":
        """The stop that would win among those that more text may complete."""
        begun = [
            _Stop(len(self._held) - length, text)
            for text in self._texts
            if (length := _overlap(self._held, text))
        ]
        if self._rule is not None and self._rule.pending is not None:
            begun.append(_Stop(self._rule.pending - self._offset, None))
        return min(begun, default=None)

    def _end(self, match: "_Stop") -> str:
        self.stopped = True
        self.stop = match.text
        return self._release(match.start)

    def _release(self, length: int) -> str:
        safe, self._held = self._held[:length], self._held[length:]
        self._offset += length
        return safe


class StopScanner(Scanner):
    r"""Passes a completion through up to its first stop.

    ``line``: the output ends before its first ``\n`` or ``\r\n``; those it begins with are
    part of it, for a prompt may end where a line does.

    ``block``: the output ends before the first line that is not blank and indented less than its
    block. The block's indentation is that of its first line: the line that the output begins,
    where the prompt left that line blank, and the next line that is not blank otherwise; where
    that is indented less than the prompt's last line, the output ends before it.

    Args:
        options: the stops.
        prompt: the text that the output continues.
    """

    def __init__(self, options: StopOptions, prompt: str = "") -> None:
        rule: Rule | None = None
        if options.at == "line":
            rule = _LineEnd()
        elif options.at == "block":
            rule = _BlockEnd(prompt)
        super().__init__(options.texts, rule)


@dataclass(frozen=True, slots=True)
class _Stop:
    """A stop's place in the held text, ordered by which one wins; ``None`` is a line or block."""

    start: int
    text: str | None

    def __lt__(self, other: "_Stop") -> bool:
        return (self.start, -len(self.text or "")) < (other.start, -len(other.text or ""))


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper beginning of ``stop`` that ``text`` ends with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class _LineEnd:
    """The first line end that the output does not begin with."""

    def __init__(self) -> None:
        self.found: int | None = None
        self.pending: int | None = None
        self._length = 0
        self._begun = False
        self._return: int | None = None

    def feed(self, text: str) -> None:
        for place, char in enumerate(text, self._length):
            if char == "\n":
                if self._begun:
                    self.found = place if self._return is None else self._return
                    self.pending = None
                    return
                self._return = None
            else:
                # A carriage return is a character like any other unless a newline follows.
                self._begun = self._begun or char != "\r" or self._return is not None
                self._return = place if char == "\r" else None
        self._length += len(text)
        self.pending = self._return if self._begun else None

    def finish(self) -> None:
        """What is pending is no end."""


class _BlockEnd:
    """The first line indented less than the block that the output begins."""

    def __init__(self, prompt: str) -> None:
        self.found: int | None = None
        self.pending: int | None = None
        self._least = 0
        self._block_known = False
        self._width = 0
        self._indenting = True
        self._line_start: int | None = None
        head = prompt[prompt.rfind("\n") + 1 :]
        indentation = head[: len(head) - len(head.lstrip(" \t\r"))]
        for char in indentation:
            self._indent(char)
        if head != indentation:
            self._indenting = False
            self._least = self._width
        self._length = 0

    def feed(self, text: str) -> None:
        for place, char in enumerate(text, self._length):
            if char == "\n":
                self._indenting, self._width, self._line_start = True, 0, place + 1
            elif self._indenting and char in " \t\r":
                self._indent(char)
            elif self._indenting:
                self._indenting = False
                if self._line_start is not None and self._width < self._least:
                    self.found, self.pending = self._line_start, None
                    return
                if not self._block_known:
                    self._block_known, self._least = True, self._width
        self._length += len(text)
        self.pending = self._line_start if self._indenting and self._width < self._least else None

    def finish(self) -> None:
        """What is pending is no end."""

    def _indent(self, char: str) -> None:
        if char == "\t":
            self._width += TAB_WIDTH - self._width % TAB_WIDTH
        elif char == " ":
            self._width += 1
