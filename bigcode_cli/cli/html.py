"""A standalone page that shows texts with their parts coloured, written as they come."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bigcode_cli.cli.html_style import STYLE
from bigcode_cli.cli.output import FileAnswer
from bigcode_cli.text.terminal import StyledTerminalText, escape_control

BUFFER_CHARACTERS = 1 << 16
"""Gathered before they are written."""

CHUNK_LINES = 100
"""A browser lays out only the chunks of so many lines that are on the screen."""


_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ENTITIES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"))


@dataclass(frozen=True, slots=True)
class Paint:
    """The colours of a background and of the text on it, as CSS has them."""

    ground: str
    ink: str


@dataclass(frozen=True, slots=True)
class Swatch:
    """One colour of the legend.

    Attributes:
        label: what it means.
        light: how it looks on a light page; ``None`` is as plain text looks.
        dark: likewise on a dark page.
    """

    label: str
    light: Paint | None = None
    dark: Paint | None = None


class Page:
    """Shows texts as numbered lines; parts of them have a colour and a tip that a pointer shows.

    Whatever the texts, headings and tips hold is shown as text: markup is escaped, and so is what
    a terminal would have escaped. The page runs and loads nothing. Lines end with a newline, so
    that they count as in ``git`` and ``--by line``.

    The page is written as it comes, so that memory stays flat. Use it as a context manager: the
    file appears under its name when it is whole; after an error the old file is still there. A
    Ctrl-C ends the page where it is, if a text has begun.

    Args:
        path: of the file.
        title: of the page.
        legend: the colours; a style is a position among them.
        caption: what the legend as a whole is about.

    Raises:
        OutputError: the file cannot be written; from any method.
    """

    def __init__(
        self, path: Path, title: str, *, legend: Sequence[Swatch], caption: str = ""
    ) -> None:
        self._answer = FileAnswer(path, "utf-8")
        self._title, self._legend, self._caption = title, legend, caption
        self._parts: list[str] = []
        self._size = 0
        self._entries: list[tuple[str, str]] = []
        self._heading: str | None = None
        self._lines = _Lines()
        self._total = ""
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None or (issubclass(kind, KeyboardInterrupt) and self._begun):
                self._finish()
        except BaseException as failure:
            self._answer.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._answer.__exit__(kind, error, trace)

    def section(self, heading: str) -> None:
        """Begin a text, under its name."""
        self._begin()
        self._heading = heading
        number = len(self._entries) + 1
        self._write(f'<section id="t{number}">\n<h2>{escape(heading)}</h2>\n<div class="text">')
        self._lines = _Lines()

    def text(self, text: str, style: int | None = None, tip: str | None = None) -> None:
        """Go on with the text.

        Args:
            style: its position in the legend; ``None`` is plain.
            tip: shown while the pointer is over it; it may have several lines.
        """
        self._write(self._lines.push(text, _attributes(style, tip)))

    def end(self, facts: str) -> None:
        """End the text; what is to be said of it as a whole stands under its name."""
        assert self._heading is not None
        self._write(f'{self._lines.flush()}</div>\n<p class="facts">{escape(facts)}</p>\n')
        self._write("</section>\n")
        self._entries.append((self._heading, facts))
        self._heading = None

    def total(self, facts: str) -> None:
        """Say something of all texts together."""
        self._total = facts

    def _begin(self) -> None:
        """Write the head, once."""
        if self._begun:
            return
        self._begun = True
        style = STYLE + "".join(_rules(self._legend))
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._write(
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta http-equiv="Content-Security-Policy" content="'
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
            '">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{escape(self._title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
            f"<h1>{escape(self._title)}</h1>\n{_legend(self._legend, self._caption)}"
        )

    def _finish(self) -> None:
        """Write all that is left: the table of contents comes last, and is shown first."""
        self._begin()
        if self._heading is not None:
            self.end("interrupted: the rest is missing")
        rows = [
            f'<li><a href="#t{number}">{escape(heading)}</a> <span>{escape(facts)}</span></li>\n'
            for number, (heading, facts) in enumerate(self._entries, 1)
        ]
        contents = f"<ol>\n{''.join(rows)}</ol>\n" if len(rows) > 1 else ""
        total = f"<p>{escape(self._total)}</p>\n" if self._total else ""
        if contents or total:
            self._write(f"<nav>\n{contents}{total}</nav>\n")
        self._write("</body>\n</html>\n")
        self._flush()

    def _write(self, markup: str) -> None:
        self._parts.append(markup)
        self._size += len(markup)
        if self._size >= BUFFER_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        self._answer.write("".join(self._parts))
        self._parts.clear()
        self._size = 0


class _Lines:
    """The markup of one text: chunks of lines of parts."""

    def __init__(self) -> None:
        self._safe = StyledTerminalText[str]()
        self._number = 0
        self._open = False

    def push(self, text: str, attributes: str) -> str:
        """The markup of what comes next; a last carriage return waits for what follows it."""
        return "".join(self._mark(*part) for part in self._safe.push(text, attributes))

    def flush(self) -> str:
        """The markup of the rest."""
        held = "".join(self._mark(*part) for part in self._safe.flush())
        return held + "</div>" * (self._open + bool(self._number))

    def _mark(self, text: str, attributes: str) -> str:
        marked = []
        for match in _LINE.finditer(text):
            line = match[0]
            if not self._open:
                marked.append(self._start_line())
            content = line.rstrip("\r\n")  # what is left of either ends the line
            marked.append(_part(content, attributes))
            if line.endswith("\n"):
                marked.append(_part("\n", attributes, "<i></i>") + "</div>")
                self._open = False
        return "".join(marked)

    def _start_line(self) -> str:
        self._open = True
        self._number += 1
        line = f'<div class="line" data-n="{self._number}">'
        if self._number % CHUNK_LINES != 1:
            return line
        return (
            f'</div><div class="chunk">{line}' if self._number > 1 else f'<div class="chunk">{line}'
        )


def escape(text: str) -> str:
    """Markup that shows a text, in an element or in a quoted attribute, controls escaped."""
    return _spell(escape_control(text))


def _spell(text: str) -> str:
    """Without what is markup, and with the bytes of file names that are no UTF-8 as codes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    for character, entity in _ENTITIES:
        text = text.replace(character, entity)
    return text


def _part(text: str, attributes: str, mark: str = "") -> str:
    """A part of a line; the mark makes a line end visible if it has a style or a tip."""
    if not (attributes and text):
        return _spell(text)
    return f"<span{attributes}>{mark}{_spell(text)}</span>"


def _attributes(style: int | None, tip: str | None) -> str:
    name = "" if style is None else f' class="s{style}"'
    return name if tip is None else f'{name} data-tip="{escape(tip)}"'


def _rules(legend: Sequence[Swatch]) -> Iterator[str]:
    """The style sheet's part that depends on the legend."""
    for theme in ("light", "dark"):
        yield f"@media (prefers-color-scheme: {theme}) {{\n"
        for number, swatch in enumerate(legend):
            paint = swatch.light if theme == "light" else swatch.dark
            if paint is None:
                yield f".s{number} i {{ opacity: 0 }}\n"
            else:
                yield f".s{number} {{ background: {paint.ground}; color: {paint.ink} }}\n"
        yield "}\n"


def _legend(legend: Sequence[Swatch], caption: str) -> str:
    swatches = "".join(
        f'<span class="s{number}">{escape(swatch.label)}</span>'
        for number, swatch in enumerate(legend)
    )
    return f'<p class="legend"><b>{escape(caption)}</b> {swatches}</p>\n'
