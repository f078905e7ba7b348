"""Texts coloured by what surprises the model: on the terminal, and as a page."""

import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bigcode_cli.cli.heat import CAPTION, LEGEND, ON_DARK, ON_LIGHT, Piece, Pieces, label
from bigcode_cli.cli.html import Page
from bigcode_cli.cli.output import Answer, TerminalAnswer
from bigcode_cli.cli.render import one_line, wants_colour
from bigcode_cli.errors import UsageError
from bigcode_cli.records import TokenScore
from bigcode_cli.text.terminal import StyledTerminalText

if TYPE_CHECKING:
    from rich.style import Style

COLOURLESS = (None, None, *["underline"] * 2, *["bold underline"] * 2, *["reverse"] * 2)
"""How the levels look where ``NO_COLOR`` is set: two and two alike."""

DUMB = ("dumb", "unknown")
HINT = "--html FILE writes a page, --by token prints the figures"

_LINE_END = re.compile(r"(\r?\n)")


def open_heatmap(answer: Answer) -> "HeatmapView":
    """A heatmap on stdout.

    Raises:
        UsageError: stdout is no terminal, or one that cannot set characters off.
    """
    if not isinstance(answer, TerminalAnswer):
        raise UsageError("--heatmap colours a terminal, and stdout is none", HINT)
    if os.environ.get("TERM", "").lower() in DUMB:
        raise UsageError("--heatmap needs a terminal that shows colours", HINT)
    return HeatmapView(answer)


class HeatmapView:
    """Shows texts on the terminal, each token on the colour of its surprisal.

    Nothing is added to a text but a blank at a surprising line end, which has no look of its own.
    The legend stands above the first text, and again below one that has pushed it off the screen.
    """

    def __init__(self, answer: TerminalAnswer) -> None:
        self._answer = answer
        self._styles = styles()
        self._pieces = Pieces()
        self._safe = StyledTerminalText[int]()
        self._legend_ago: int | None = None  # lines

    def begin(self, label: str) -> None:
        """Begin a text, under its name."""
        if self._legend_ago is None:
            self._show_legend()
        self._answer.separate()
        self._say(label, "bold")

    def push(self, tokens: Sequence[TokenScore]) -> None:
        """Go on with the text."""
        self._show(self._pieces.push(tokens))

    def end(self, facts: str) -> None:
        """End the text, with what is to be said of it as a whole."""
        self._show(self._pieces.flush())
        self._show_safe(self._safe.flush())
        self._pieces, self._safe = Pieces(), StyledTerminalText()
        self._answer.pause()
        self._say(facts, "italic")
        if self._legend_ago is not None and self._legend_ago >= _rows():
            self._show_legend()

    def total(self, facts: str) -> None:
        """Say something of all texts together."""
        self._answer.separate()
        self._say(facts, "italic")

    def _show(self, pieces: Iterable[Piece]) -> None:
        self._show_safe(
            part for piece in pieces for part in self._safe.push(piece.text, piece.level or 0)
        )

    def _show_safe(self, parts: Iterable[tuple[str, int]]) -> None:
        shown = [look for part in parts for look in self._looks(*part)]
        self._answer.show_parts(shown)
        if self._legend_ago is not None:
            self._legend_ago += sum(text.count("\n") for text, _ in shown)

    def _looks(self, text: str, level: int) -> Iterator[tuple[str, "Style | None"]]:
        """The text in its style; line ends are plain, or terminals would colour the next line."""
        style = self._styles[level]
        if style is None:
            yield text, None
            return
        for part in _LINE_END.split(text):
            if part.endswith("\n"):
                yield " ", style
                yield part, None
            else:
                yield part, style

    def _show_legend(self) -> None:
        from rich.style import Style

        parts: list[tuple[str, Style | None]] = [(f"{CAPTION}: ", None)]
        for style, levels in groupby(range(len(LEGEND)), key=self._styles.__getitem__):
            first, *_, last = [*levels] * 2
            parts.append((f" {label(first, last)} ", style))
        self._answer.show_parts([*parts, ("\n", None)])
        self._legend_ago = 0

    def _say(self, text: str, style: str) -> None:
        from rich.style import Style

        self._answer.show_parts([(one_line(text), Style.parse(style)), ("\n", None)])


class HeatPage:
    """Shows texts on a page, each token with its figures as a tip. Use it as a context manager.

    Args:
        path: of the file; it is written as a ``Page`` is.
        title: of the page.

    Raises:
        OutputError: the file cannot be written; from any method.
    """

    def __init__(self, path: Path, title: str) -> None:
        self._page = Page(path, title, legend=LEGEND, caption=CAPTION)
        self._pieces = Pieces()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._page.__exit__(kind, error, trace)

    def begin(self, label: str) -> None:
        """Begin a text, under its name."""
        self._page.section(label)

    def push(self, tokens: Sequence[TokenScore]) -> None:
        """Go on with the text."""
        self._show(self._pieces.push(tokens))

    def end(self, facts: str) -> None:
        """End the text, with what is to be said of it as a whole."""
        self._show(self._pieces.flush())
        self._pieces = Pieces()
        self._page.end(facts)

    def total(self, facts: str) -> None:
        """Say something of all texts together."""
        self._page.total(facts)

    def _show(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            tips = [tip for token in piece.tokens if (tip := describe(token))]
            self._page.text(piece.text, piece.level, "\n".join(tips) or None)


def describe(token: TokenScore) -> str | None:
    """A token with its figures, entropy in bits; ``None`` where it does not count."""
    if (bits := token.bits) is None or token.entropy is None:
        return None
    return (
        f"{spell(token.data)}\n{bits:.2f} bits · rank {token.rank:,} · "
        f"entropy {token.entropy / math.log(2):.2f} bits"
    )


def spell(data: bytes) -> str:
    """A token in quotes, as Python spells it."""
    try:
        return repr(data.decode())
    except UnicodeDecodeError:
        return repr(data)


def styles() -> "list[Style | None]":
    """How each level looks on this terminal."""
    from rich.style import Style

    if not wants_colour(sys.stdout):
        return [Style.parse(style) if style else None for style in COLOURLESS]
    paints = ON_LIGHT if _is_light() else ON_DARK
    return [Style(color=paint.ink, bgcolor=paint.ground) if paint else None for paint in paints]


def _is_light() -> bool:
    """Whether the terminal says that its background is light; most that say nothing are dark."""
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return ground in ("7", "15")


def _rows() -> int:
    return shutil.get_terminal_size().lines
