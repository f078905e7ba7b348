import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigcode_cli.text.terminal import StyledTerminalText, TerminalText, escape_control

ALL = "".join(map(chr, range(sys.maxunicode + 1)))
BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MARKS = {"LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK", "ARABIC LETTER MARK"}


def dangerous(char: str) -> bool:
    """By Unicode's own tables."""
    return (
        (unicodedata.category(char) == "Cc" and char not in "\n\t")
        or unicodedata.bidirectional(char) in BIDIRECTIONAL
        or unicodedata.name(char, "") in MARKS
    )


DANGEROUS = [char for char in ALL if dangerous(char)]


def test_every_dangerous_code_point_is_shown_and_no_other_is_touched() -> None:
    assert len(DANGEROUS) == 65 - 2 + 12
    assert {char for char in ALL if escape_control(char) != char} == set(DANGEROUS)
    for char in DANGEROUS:
        shown = escape_control(char)
        assert shown.isascii()
        assert shown.isprintable()
        assert shown.encode().decode("unicode_escape") == char


texts = st.text(st.sampled_from([*DANGEROUS, "\r", "\n", "\t", "a", "é", "🙂", "\\"]))


@settings(deadline=None)
@given(texts)
def test_an_escaped_text_is_harmless_and_stays_so(text: str) -> None:
    shown = escape_control(text)
    assert not any(map(dangerous, shown.replace("\r\n", "\n")))
    assert escape_control(shown) == shown


@settings(deadline=None)
@given(st.lists(texts))
@example(["a\r", "\nb"])
@example(["\r", "", "\r", "\n"])
@example(["a\r"])
def test_joined_segments_equal_the_whole_text(segments: list[str]) -> None:
    terminal = TerminalText()
    parts = [*map(terminal.push, segments), terminal.flush()]
    assert "".join(parts) == escape_control("".join(segments))
    assert terminal.flush() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("def f():\r\n\treturn 'é'\n", "def f():\r\n\treturn 'é'\n"),
        ("\x1b[2J", "\\x1b[2J"),
        ("100%\r0%", "100%\\x0d0%"),
        ("a\x9b31m\x7f", "a\\x9b31m\\x7f"),
        ("\u202e\u2066\u061c", "\\u202e\\u2066\\u061c"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert escape_control(text) == shown


def test_nothing_but_a_last_carriage_return_is_held_back() -> None:
    terminal = TerminalText()
    assert [terminal.push(text) for text in ("a\r", "\r", "\n", "b")] == ["a", "\\x0d", "\r\n", "b"]


@settings(deadline=None)
@given(parts=st.lists(texts))
@example(parts=["\r", "", "\n", "\r", "\r", "a\r"])
def test_each_part_of_a_styled_stream_keeps_its_style(parts: list[str]) -> None:
    stream = StyledTerminalText[int]()
    runs = [run for number, part in enumerate(parts) for run in stream.push(part, number)]
    shown = [(char, style) for text, style in [*runs, *stream.flush()] for char in text]
    told: list[tuple[str, int]] = []
    after = ("", 0)
    for char, style in reversed([(c, number) for number, part in enumerate(parts) for c in part]):
        if (char, after[0]) == ("\r", "\n"):
            told[:0] = [("\r", after[1])]
        else:
            told[:0] = [(c, style) for c in escape_control(char)]
        after = (char, style)
    assert shown == told
