"""Where a middle begins and ends.

The end depends on the middle's text alone, not on how tokens cut it: text that may yet turn out to
lie behind the end is held back until that is known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bigcode_cli.records import Span
from bigcode_cli.text.blocks import BlockEnd
from bigcode_cli.text.repeats import RUN
from bigcode_cli.text.source import bracket_balance
from bigcode_cli.text.stops import Rule, Scanner

_BLOCK_HEADER = re.compile(
    r"\s*(?:(?:async\s+)?(?:def|for|with)|class|if|elif|else|while|try|except|finally|match|case)\b"
    r".*:\s*(?:#.*)?"
    r"|\s*\).*:\s*(?:#.*)?"
)
"""The last line of what a block of Python must follow."""


def choose_span(suffix: str) -> Literal["line", "block"]:
    """A line where the suffix continues the hole's line, else a block."""
    return "line" if suffix.partition("\n")[0].strip() else "block"


@dataclass(frozen=True, slots=True)
class Opening:
    r"""How a middle begins, whatever the model.

    Models that learned from holes of whole lines do badly where a prompt's prefix ends within a
    line's indentation, and take a line that needs a block for finished.

    Attributes:
        prefix: what to show the model for a prefix.
        lead: the middle begins with this, and the model goes on.
        begun: what the model has to begin with though the prefix ends with it: not part of the
            middle.
    """

    prefix: str
    lead: str = ""
    begun: str = ""


def open_middle(prefix: str, suffix: str, *, span: Span, is_python: bool) -> Opening:
    """Move a hole to the start of a line where a middle of whole lines goes."""
    head = prefix[prefix.rfind("\n") + 1 :]
    if span == "line" or suffix.partition("\n")[0].strip():
        return Opening(prefix)
    if head and not head.strip(" \t"):
        return Opening(prefix[: len(prefix) - len(head)], begun=head)
    if is_python and _BLOCK_HEADER.fullmatch(head) and bracket_balance(head) <= 0:
        return Opening(prefix + "\n", lead="\n")
    return Opening(prefix)


class MiddleScanner:
    r"""Passes a middle through up to its end.

    A stop string counts first: what follows it is as if it had never been written. What the output
    ends with by itself may be cut too, without being a stop.

    ``line``: the middle ends before its first ``\n`` or ``\r\n``; it may be empty. A middle that
    has a line end although the suffix continues its line has gone on to repeat the suffix's part of
    the line, where it ends in it: this is cut, unless it brings a bracket that all else lacks.
    ``block``: see ``BlockEnd``. ``eos``: it ends as the model ends it.

    In all of them, a middle within a line ends where it repeats ``RUN`` characters from the
    suffix's first on.

    Args:
        prefix: all text before the hole, not cut to the model's context.
        suffix: all text after it, likewise.
        texts: stop strings.
        is_python: whether the file is Python.
        cut_overlap: whether to look for repetitions of the suffix.
        lead: text that the middle begins with before the model's.

    Attributes:
        stopped: nothing more will come.
        stop: the stop string that ended the middle, if one did.
    """

    def __init__(
        self,
        prefix: str,
        suffix: str,
        *,
        span: Span,
        texts: Sequence[str] = (),
        is_python: bool,
        cut_overlap: bool = True,
        lead: str = "",
    ) -> None:
        rule: Rule | None = None
        if span == "line":
            rule = _LineEnd(prefix, suffix, cut_overlap=cut_overlap)
        elif span == "block":
            rule = BlockEnd(prefix, suffix, is_python=is_python, cut_overlap=cut_overlap)
        runs = _runs(prefix, suffix) if cut_overlap else ()
        self._named = frozenset(texts)
        self._texts = Scanner((*texts, *runs), None)
        self._end = Scanner((), rule)
        self._lead = lead
        self.stopped = False
        self.stop: str | None = None

    def push(self, text: str) -> str:
        """The text that is safe to show; nothing once ``stopped``."""
        if self.stopped:
            return ""
        shown = self._begin() + self._end.push(self._texts.push(text))
        if self._end.stopped:
            self.stopped = True
        elif self._texts.stopped:
            shown += self._at_stop()
        return shown

    def flush(self) -> str:
        """The text held back at the output's end, up to the middle's."""
        if self.stopped:
            return ""
        shown = self._begin() + self._end.push(self._texts.flush())
        if self._end.stopped:
            self.stopped = True
            return shown
        return shown + (self._at_stop() if self._texts.stopped else self._end.flush())

    def _at_stop(self) -> str:
        self.stopped = True
        self.stop = self._texts.stop if self._texts.stop in self._named else None
        return self._end.flush()

    def _begin(self) -> str:
        lead, self._lead = self._lead, ""
        return self._end.push(lead)


def _runs(prefix: str, suffix: str) -> tuple[str, ...]:
    """What a middle within a line cannot hold but by repeating the suffix."""
    within = not prefix.endswith("\n") and suffix.partition("\n")[0].strip()
    return (suffix[:RUN],) if prefix and within and len(suffix[:RUN].strip()) == RUN else ()


class _LineEnd:
    """The first line end, or the repetition of the suffix's part of the line before it."""

    def __init__(self, prefix: str, suffix: str, *, cut_overlap: bool) -> None:
        self.found: int | None = None
        self.pending: int | None = None
        self._head = prefix[prefix.rfind("\n") + 1 :]
        # What stands at a line's start is no rest of a line.
        self._rest = suffix.partition("\n")[0].rstrip() if cut_overlap and self._head else ""
        self._missing = -bracket_balance(prefix) - bracket_balance(suffix)
        self._text = ""

    def feed(self, text: str) -> None:
        """Look at more of the output."""
        self._text += text
        line, end, _ = self._text.partition("\n")
        if end:
            self.found = self._cut(line.removesuffix("\r"))
            self.pending = None
            return
        body = line.removesuffix("\r")
        lengths = range(min(len(body), len(self._rest)), 0, -1)
        begun = next((n for n in lengths if body.endswith(self._rest[:n])), 0)
        self.pending = len(body) - begun if begun or body != line else None

    def finish(self) -> None:
        """Without a line end, nothing speaks against the middle."""

    def _cut(self, line: str) -> int:
        middle = line.removesuffix(self._rest)
        if not self._rest or middle == line or not (self._head + middle).strip():
            return len(line)
        balances = bracket_balance(line), bracket_balance(middle)
        brings_a_bracket = balances[0] == self._missing != balances[1]
        return len(line) if brings_a_bracket else len(middle)
