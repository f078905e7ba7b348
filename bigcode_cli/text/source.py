r"""What tells where a block of code ends: indentation, brackets, whether it parses.

Lines are joined by ``\n`` alone; a carriage return counts as blank.
"""

import ast
import re
import warnings
from copy import copy

from bigcode_cli.text.stops import TAB_WIDTH

_BLANK = " \t\r"
_BRACKETS = re.compile(r"[()\[\]{}]")
_PYTHON = re.compile(r"""#[^\n]*|\"{3}|'{3}|"|'|[()\[\]{}]""")
_STRING_END = {
    quote: re.compile(rf"(?s){pattern}")
    for quote, pattern in {
        '"""': r'(?:\\.|[^\\])*?"""',
        "'''": r"(?:\\.|[^\\])*?'''",
        # A string that was not closed ends with its line.
        '"': r'(?:\\.|[^\\"\n])*(?:"|(?=\n))',
        "'": r"(?:\\.|[^\\'\n])*(?:'|(?=\n))",
    }.items()
}


def indentation(line: str) -> int:
    """Columns before the line's first character that is not blank; all of a blank line's."""
    blank = line[: len(line) - len(line.lstrip(_BLANK))]
    return len(blank.replace("\r", "").expandtabs(TAB_WIDTH))


def bracket_balance(text: str) -> int:
    """Opening brackets less closing ones, wherever they stand."""
    return sum(1 if match[0] in "([{" else -1 for match in _BRACKETS.finditer(text))


class Nesting:
    """How deep in brackets and strings a text ends.

    Args:
        is_python: strings and comments are left out. Other languages' are not known: all their
            brackets count.

    Attributes:
        depth: brackets that are open.
        quote: of the string that is open, or nothing.
    """

    def __init__(self, *, is_python: bool) -> None:
        self._is_python = is_python
        self.depth = 0
        self.quote = ""

    def feed(self, text: str) -> None:
        """Read on; lines must come whole but for the last of all text."""
        if not self._is_python:
            self.depth += bracket_balance(text)
            return
        place = 0
        while place < len(text):
            if self.quote:
                end = _STRING_END[self.quote].match(text, place)
                if end is None:
                    return
                self.quote, place = "", end.end()
                continue
            token = _PYTHON.search(text, place)
            if token is None:
                return
            place = token.end()
            if token[0] in _STRING_END:
                self.quote = token[0]
            elif not token[0].startswith("#"):
                self.depth += 1 if token[0] in "([{" else -1

    def after(self, text: str) -> int:
        """The level behind more text, which is not read for good."""
        other = copy(self)
        other.feed(text)
        return other.level

    @property
    def level(self) -> int:
        """Brackets and strings that are open."""
        return self.depth + bool(self.quote)


def parses(text: str) -> bool:
    """Whether a text is Python to the interpreter that runs this."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True
