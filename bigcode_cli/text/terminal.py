"""Model text made harmless for a terminal, which obeys control characters and reorders text."""

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

StyleT = TypeVar("StyleT")

_ESCAPED = re.compile(
    r"\r(?!\n)"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""C0 but newline and tab, DEL, C1, and the bidirectional controls of Unicode's UAX 9.

A carriage return passes as the first half of a line end; alone it would overwrite the line.
"""


def escape_control(text: str) -> str:
    r"""Show each control character as ``\x1b`` or ``\u202e``; all else stays as it is."""
    return _ESCAPED.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class TerminalText:
    """``escape_control`` on a stream: the segments joined equal it on the whole text."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """The text to show; a last carriage return waits for what follows it."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return escape_control(text.removesuffix("\r"))

    def flush(self) -> str:
        """What is left at the end."""
        text, self._held = self._held, ""
        return escape_control(text)


class StyledTerminalText(Generic[StyleT]):
    """``TerminalText`` whose parts have styles: what is held back keeps its own.

    A line end of two characters has the style of the second.
    """

    def __init__(self) -> None:
        self._safe = TerminalText()
        self._last: tuple[StyleT, ...] = ()

    def push(self, text: str, style: StyleT) -> Iterator[tuple[str, StyleT]]:
        """The parts to show."""
        if not text:
            return
        if not text.startswith("\n"):
            yield from self.flush()
        if safe := self._safe.push(text):
            yield safe, style
        self._last = (style,)

    def flush(self) -> Iterator[tuple[str, StyleT]]:
        """What is left at the end."""
        if safe := self._safe.flush():
            yield safe, self._last[0]
