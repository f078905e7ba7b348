"""What is known of code: nesting against the standard library's tokenizer, and what parses."""

import io
import random
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.text.source import Nesting, bracket_balance, indentation, parses
from tests.text import middles

ROOT = Path(__file__).parents[2]
PIECES = [*"()[]{}\"'#\\\n a", '"""', "'''", "\\\n", 'r"', "x = "]
codes = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


def levels(text: str) -> Iterator[int]:
    """The level at the end of each line, as the standard library tells it.

    Without the brackets around a string that goes on on the next line.
    """
    depth, inside = 0, [0] * text.count("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        for row in range(token.start[0], min(token.end[0], len(inside) + 1)):
            inside[row - 1] += token.type == tokenize.STRING
        if token.type in (tokenize.NEWLINE, tokenize.NL):
            inside[token.start[0] - 1] += depth
    yield from inside


@pytest.mark.parametrize("path", sorted(ROOT.glob("bigcode_cli/text/*.py")), ids=lambda p: p.name)
def test_nesting_agrees_with_the_standard_library(path: Path) -> None:
    text = path.read_text("utf-8")
    nesting = Nesting(is_python=True)
    for line, level in zip(text.splitlines(keepends=True), levels(text), strict=True):
        nesting.feed(line)
        if not (nesting.quote and nesting.depth):
            assert nesting.level == level
    assert nesting.level == 0


@settings(max_examples=500)
@given(codes, st.booleans())
def test_nesting_read_by_lines_equals_a_walk_over_the_characters(
    text: str, is_python: bool
) -> None:
    nesting = Nesting(is_python=is_python)
    lines = text.splitlines(keepends=True)
    for line in lines[:-1]:
        nesting.feed(line)
    rest = lines[-1] if lines else ""
    assert nesting.after(rest) == middles.level(text, is_python)
    before = nesting.level
    nesting.after("(((")
    assert nesting.level == before


def test_no_string_or_comment_hides_brackets_where_the_language_is_unknown() -> None:
    nesting = Nesting(is_python=False)
    nesting.feed('"(" # [\n')
    assert nesting.level == 2


def test_indentation_counts_columns() -> None:
    assert indentation("x") == 0
    assert indentation("  x") == 2
    assert indentation("\tx") == 8
    assert indentation("   \tx") == 8
    assert indentation("\t  x") == 10
    assert indentation("  \r\t\r") == 8
    assert indentation("  \fx  ") == 2
    assert indentation("") == 0


def test_balance_is_opening_less_closing() -> None:
    assert bracket_balance("f(a[1], {") == 2
    assert bracket_balance(")]}>") == -3
    assert bracket_balance("") == 0


def test_python_parses_and_nothing_else_does() -> None:
    assert parses("")
    assert parses("def f():\n    return 1\n")
    assert parses("x = '\\d'\n"), "a warning is no error"
    assert not parses("def f():\n")
    assert not parses("x = \0")
    assert not parses("x = '\udcff'")
    assert not parses("(" * 10_000 + ")" * 10_000)
    assert not parses("-" * 1_000_000 + "1")
    assert not parses("".join(random.Random(0).choices("([{", k=1000)))
