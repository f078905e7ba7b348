"""What ``--explain`` tells of a prompt before the model reads it: its parts, their sizes, cuts."""

import os
import sys

from bigcode_cli.cli.render import is_terminal, one_line
from bigcode_cli.text.fim import Assembly, Section
from bigcode_cli.text.terminal import escape_control

WIDTH = 100
"""Columns where no terminal tells its own."""

NAME_WIDTH = 24
TEXT_WIDTH = 20
"""Columns that a part's text has at least."""

ELLIPSIS = "…"


def explain_lines(assembly: Assembly, room: int, label: str, width: int) -> list[str]:
    """A table of the prompt's parts in their order, each with the ends of its text.

    Args:
        room: tokens that the model takes, those of the middle counted in.
        label: which prompt it is.
        width: columns of the table.
    """
    rows = [("part", "tokens", "dropped", "text")]
    texts = [""]
    for section in assembly.sections:
        rows.append((_name(section), f"{section.tokens:,}", _dropped(section), ""))
        texts.append("" if section.kind == "control" else section.text)
    rows.append(("", f"{len(assembly.ids):,}", "", f"of {room:,} that the model takes"))
    texts.append("")
    sizes = [max(len(row[column]) for row in rows) for column in range(3)]
    left = max(TEXT_WIDTH, width - sum(sizes) - 6)
    table = [
        f"{name:<{sizes[0]}}  {tokens:>{sizes[1]}}  {dropped:>{sizes[2]}}  "
        f"{shown or (ends(text, left) if text else '')}".rstrip()
        for (name, tokens, dropped, shown), text in zip(rows, texts, strict=True)
    ]
    head = f"prompt of {label}: {assembly.order} order, {assembly.dialect.name} dialect"
    return [one_line(head), *table]


def stderr_width() -> int:
    """Columns of the terminal that stderr is, or a page's."""
    if is_terminal(sys.stderr):
        try:
            return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
        except OSError:
            pass
    return WIDTH


def ends(text: str, width: int) -> str:
    """A text on one line, in quotes; its middle is left out where it is too long."""
    room = width - 2
    shown = _shown(text[: room + 1])
    if len(text) <= room and len(shown) <= room:
        return f'"{shown}"'
    room -= len(ELLIPSIS)
    head = _fitting([_shown(one) for one in text[:room]], room // 3)
    tail = _fitting([_shown(one) for one in reversed(text[-room:])], room - len("".join(head)))
    return f'"{"".join(head)}{ELLIPSIS}{"".join(reversed(tail))}"'


def _fitting(pieces: list[str], room: int) -> list[str]:
    """The first pieces that fit."""
    fitting: list[str] = []
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        fitting.append(piece)
    return fitting


def _shown(text: str) -> str:
    lines = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return escape_control(lines)


def _name(section: Section) -> str:
    if section.kind == "control":
        return section.label
    name = one_line(f"{section.kind} {section.label}".rstrip())
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}{ELLIPSIS}"


def _dropped(section: Section) -> str:
    if not section.dropped_tokens:
        return ""
    lines = "1 line" if section.dropped_lines == 1 else f"{section.dropped_lines:,} lines"
    return f"{section.dropped_tokens:,} in {lines}"
