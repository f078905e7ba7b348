"""Text on its way into the code: what the model wrote, and indentation while one types."""

import re
import textwrap
from collections.abc import Sequence

from bigcode_cli.text.terminal import escape_control

LEVEL = 4
"""Columns of a level that is made of spaces."""

_LINE_END = re.compile(r"\r*\n")
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)*")
_OPENS = (":", "(", "[", "{")
_LEAVES = frozenset({"return", "pass", "break", "continue", "raise"})


def harmless(text: str) -> str:
    r"""Model text as it may be shown and inserted: what is accepted is what was seen.

    Line ends become ``\n``; a character that would drive or reorder a terminal is spelled out
    (``\x1b``), so that neither this screen nor one that shows the saved file obeys it.
    """
    return escape_control(_LINE_END.sub("\n", text))


def placed(text: str, margin: str) -> str:
    """Lines that begin where a line does, as they go behind a margin that is there already.

    Blank lines before them go. Where they are indented more than the margin, all are moved.
    """
    text = _from_first_line(text)
    own = margin_of(text)
    first, *rest = text[len(own) :].split("\n")
    moved = (
        margin + line[len(own) :] if line.strip() and line.startswith(own) else line
        for line in rest
    )
    return "\n".join([first, *moved])


def leaves_block(text: str, margin: str) -> bool:
    """Whether the first line that is not blank is indented less than the margin."""
    text = _from_first_line(text)
    own = margin_of(text)
    return text != own and len(own.expandtabs()) < len(margin.expandtabs())


def _from_first_line(text: str) -> str:
    blank = _BLANK_LINES.match(text)
    assert blank is not None  # it matches nothing, too
    return text[blank.end() :]


def margin_of(line: str) -> str:
    """The blanks that a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def next_margin(before: str) -> str:
    """What the next line begins with.

    A level more where the line opens a block or a bracket, one less where it leaves its block.

    Args:
        before: the line up to the cursor.
    """
    margin, code = margin_of(before), before.strip()
    if code.startswith("#"):
        return margin
    if code.endswith(_OPENS):
        return margin + ("\t" if margin.endswith("\t") else " " * LEVEL)
    if code.partition(" ")[0] in _LEAVES and not code.endswith((",", "\\")):
        return outdented(margin)
    return margin


def outdented(line: str) -> str:
    """The line with one level of indentation less, if it has any."""
    if line.startswith("\t"):
        return line[1:]
    blanks = len(line) - len(line.lstrip(" "))
    return line[min(LEVEL, blanks) :]


def blanks_to_delete(before: str) -> int:
    """How many characters Backspace takes back in indentation: a level of spaces, or a tab.

    Args:
        before: the line up to the cursor, blank.
    """
    if not before.endswith(" "):
        return 1
    spaces = len(before) - len(before.rstrip(" "))
    return min(spaces, (len(before) - 1) % LEVEL + 1)


def table(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Lines of two columns, the right one wrapped to what the left one leaves of a width."""
    left = max(len(name) for name, _ in rows)
    left += 2 if left else 0
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(10, width - left - 1), drop_whitespace=bool(left)) or [""]
        lines += [f"{name:{left}}{wrapped[0]}", *(" " * left + more for more in wrapped[1:])]
    return lines
