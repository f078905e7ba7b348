import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.repl_text import (
    blanks_to_delete,
    harmless,
    leaves_block,
    next_margin,
    outdented,
    placed,
    table,
)

CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}


@given(st.text(st.sampled_from("a\x1b\r\n\t\x00\x7f\x9b\u202e\u2066é"), max_size=12))
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    safe = harmless(text)
    assert not (CONTROLS | {"\u202e", "\u2066"}) & set(safe)
    assert safe.count("\n") == text.count("\n")
    assert harmless(safe) == safe


def test_line_ends_become_newlines_and_controls_are_spelled_out() -> None:
    assert harmless("a\r\nb\r\r\n\tc\x1b[2J\rd") == "a\nb\n\tc\\x1b[2J\\x0dd"


@pytest.mark.parametrize(
    ("before", "margin"),
    [
        ("", ""),
        ("x = 1", ""),
        ("    x = 1", "    "),
        ("def f():", "    "),
        ("    if x:  ", "        "),
        ("\tif x:", "\t\t"),
        ("f(", "    "),
        ("    return x", ""),
        ("        pass", "    "),
        ("    return [", "        "),
        ("    return a,", "    "),
        ("    returned = 1", "    "),
        ("    # this:", "    "),
        ("    ", "    "),
    ],
)
def test_next_line_is_indented_like_its_block(before: str, margin: str) -> None:
    assert next_margin(before) == margin


@pytest.mark.parametrize(
    ("line", "less"), [("        x", "    x"), ("  x", "x"), ("\t\tx", "\tx"), ("x", "x"), ("", "")]
)
def test_outdented_takes_a_level_or_what_there_is(line: str, less: str) -> None:
    assert outdented(line) == less


@pytest.mark.parametrize(
    ("before", "count"),
    [("    ", 4), ("      ", 2), ("  ", 2), ("\t", 1), ("\t  ", 2), ("  \t", 1)],
)
def test_backspace_takes_a_level_back(before: str, count: int) -> None:
    assert blanks_to_delete(before) == count


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("    a\n    b", "a\n    b"),
        ("\n  \n    a\n\n    b\n", "a\n\n    b\n"),
        ("        a:\n            b\nc", "a:\n        b\nc"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_lines_go_behind_the_margin_that_is_there(text: str, shown: str) -> None:
    assert placed(text, "    ") == shown


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("  a", True),
        ("\n\na", True),
        ("    a", False),
        ("      a", False),
        ("  ", False),
        ("", False),
    ],
)
def test_less_indentation_leaves_the_block(text: str, leaves: bool) -> None:
    assert leaves_block(text, "    ") is leaves


@given(st.integers(0, 100))
def test_table_keeps_its_words_and_its_width(width: int) -> None:
    rows = [("name", "some words that are wrapped"), ("", ""), ("longer name", "x")]
    lines = table(rows, width)
    assert " ".join(lines).split() == [
        word for row in rows for cell in row for word in cell.split()
    ]
    assert max(map(len, lines)) < max(width, len("longer name  ") + 11)
