"""Holes against a twin that walks the text character by character."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigcode_cli.errors import UsageError
from bigcode_cli.text.holes import MARKER, Hole, Place, Template, hole_at, parse_place

PIECES = (
    *"ab \t\r\n\f\v\0",
    "\r\n",
    "\n\r",
    "\r\r\n",
    "\ufeff",
    "\u0085",
    "\u2028",
    "\u2029",
    "\x1c",
    "é",
    "e\u0301",
    "日本",
    "🙂",
    "👩‍💻",
    "<fim_middle>",
    "<|endoftext|>",
    "def f():",
)
texts = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)
files = st.builds(str.__add__, st.sampled_from(["", "\ufeff"]), texts)


def places(text: str) -> Iterator[tuple[int, int, int]]:
    """Every place that has a name: line, column and the offset in the text."""
    line, column = 1, 1
    for offset in range(text.startswith("\ufeff"), len(text) + 1):
        rest = text[offset:]
        if not (rest.startswith("\n") and offset and text[offset - 1] == "\r"):
            yield line, column, offset
        column += 1
        if rest.startswith("\n"):
            line, column = line + 1, 1


def seen(text: str) -> str:
    return "".join(
        char for i, char in enumerate(text) if char != "\r" or text[i + 1 : i + 2] != "\n"
    )


@settings(max_examples=1000)
@given(files, texts, st.data())
@example("\ufeff", "x\n", None)
@example("a\r", "\n", None)
def test_nothing_outside_the_hole_changes(
    text: str, middle: str, data: st.DataObject | None
) -> None:
    every = list(places(text))
    line, column, offset = data.draw(st.sampled_from(every)) if data else every[-1]
    hole = hole_at(text, line, column)
    assert (hole.before, hole.after) == (text[:offset], text[offset:])
    filled = hole.filled(middle).encode()
    before, after = text[:offset].encode(), text[offset:].encode()
    assert filled.startswith(before)
    assert filled.endswith(after)
    assert filled[len(before) : len(filled) - len(after)] == hole.middle(middle).encode()
    assert re.findall(r"\r*\n", hole.middle(middle)) == [hole.line_end] * middle.count("\n")
    assert re.split(r"\r*\n", hole.middle(middle)) == re.split(r"\r*\n", middle)


@settings(max_examples=300)
@given(files, st.integers(-1, 30), st.integers(-1, 30))
def test_what_is_no_place_is_an_error(text: str, line: int, column: int) -> None:
    known = {(line, column): offset for line, column, offset in places(text)}
    if (line, column) in known:
        assert len(hole_at(text, line, column).before) == known[line, column]
    else:
        with pytest.raises(UsageError, match=f"line {line}"):
            hole_at(text, line, column)


@settings(max_examples=300)
@given(files)
def test_without_a_column_the_hole_is_at_the_end_of_the_content(text: str) -> None:
    last = {line: offset for line, _, offset in places(text)}
    for line, offset in last.items():
        assert len(hole_at(text, line).before) == offset
        assert text[offset : offset + 2] == "\r\n" or text[offset : offset + 1] in ("\n", "")


@settings(max_examples=300)
@given(files, st.data())
def test_the_model_sees_newlines_and_no_byte_order_mark(text: str, data: st.DataObject) -> None:
    line, column, offset = data.draw(st.sampled_from(list(places(text))))
    hole = hole_at(text, line, column)
    assert hole.prefix == seen(text[text.startswith("\ufeff") : offset])
    assert hole.suffix == seen(text[offset:])


@pytest.mark.parametrize(
    ("before", "after", "line_end"),
    [
        ("", "", "\n"),
        ("a", "b", "\n"),
        ("a\r\n", "b\n", "\r\n"),
        ("a\n", "b\r\n", "\n"),
        ("a\r\nb\n\t", "\r\nc", "\n"),
        ("a", "\r\nb\n", "\r\n"),
        ("a", "b\n\r\n", "\n"),
        ("a\r", "\n", "\r\n"),
        ("a\rb\r", "c", "\n"),
    ],
)
def test_a_middle_takes_the_line_end_of_its_neighbourhood(
    before: str, after: str, line_end: str
) -> None:
    hole = Hole(before, after)
    assert hole.middle("x\ny\r\nz\r\n\n") == f"x{line_end}y{line_end}z{line_end}{line_end}"


def test_lone_carriage_returns_of_a_middle_stay() -> None:
    assert Hole("a\n", "").middle("x\ry\r\r\n") == "x\ry\n"
    assert Hole("a\r\n", "").middle("x\ry\r\r\n\r") == "x\ry\r\n\r"


def test_a_place_beyond_the_file_says_how_far_it_goes() -> None:
    for line in (0, 4):
        with pytest.raises(UsageError, match=f"^there is no line {line}: they are 1 to 3$"):
            hole_at("ab\r\n\n", line)
    for column in (0, 4):
        with pytest.raises(UsageError, match=f"^line 1 has no column {column}: they are 1 to 3$"):
            hole_at("\ufeffab\r\n\n", 1, column)
    assert hole_at("ab\r\n\n", 3, 1) == Hole("ab\r\n\n", "")
    assert hole_at("", 1, 1) == Hole("", "")


@pytest.mark.parametrize(
    ("argument", "readings"),
    [
        ("a.py", [Place("a.py")]),
        ("a.py:3", [Place("a.py:3"), Place("a.py", 3)]),
        ("a:b.py:3:4", [Place("a:b.py:3:4"), Place("a:b.py:3", 4), Place("a:b.py", 3, 4)]),
        ("a:1:2:3", [Place("a:1:2:3"), Place("a:1:2", 3), Place("a:1", 2, 3)]),
        (r"C:\a.py:12", [Place(r"C:\a.py:12"), Place(r"C:\a.py", 12)]),
        ("-:2", [Place("-:2"), Place("-", 2)]),
        ("a\nb:2", [Place("a\nb:2"), Place("a\nb", 2)]),
        (":3", [Place(":3")]),
        ("a:", [Place("a:")]),
        ("a:-1", [Place("a:-1")]),
        ("a:٣", [Place("a:٣")]),
        ("a:+1", [Place("a:+1")]),
        ("a:3:", [Place("a:3:")]),
        ("", [Place("")]),
    ],
)
def test_an_argument_has_readings_the_longest_name_first(
    argument: str, readings: list[Place]
) -> None:
    assert list(parse_place(argument)) == readings


def test_a_number_longer_than_any_file_is_a_name() -> None:
    assert parse_place("a:" + "9" * 5000) == (Place("a:" + "9" * 5000),)


def test_markers_are_filled_in_order_and_vanish_from_what_the_model_sees() -> None:
    template = Template.split(f"a {MARKER}\r\nb {MARKER}\r\nc\n{MARKER}")
    assert template.count == 3
    assert template.hole() == Hole("a ", "\r\nb \r\nc\n")
    assert template.hole(["1\n2"]) == Hole("a 1\r\n2\r\nb ", "\r\nc\n")
    assert template.hole(["1\n2", "3"]) == Hole("a 1\r\n2\r\nb 3\r\nc\n", "")
    assert template.filled(["1\n2", "3", "4\n5"]) == "a 1\r\n2\r\nb 3\r\nc\n4\n5"
    with pytest.raises(IndexError):
        template.hole(["1", "2", "3"])


def test_a_middle_that_spells_a_marker_makes_no_hole() -> None:
    template = Template.split(f"a{MARKER}b{MARKER}c")
    assert template.hole([MARKER]) == Hole(f"a{MARKER}b", "c")
    assert template.filled([MARKER, ""]) == f"a{MARKER}bc"


def test_a_text_without_markers_has_no_hole() -> None:
    assert Template.split("a\r\n").count == 0
    assert Template.split("a\r\n").filled([]) == "a\r\n"


@settings(max_examples=300)
@given(st.lists(texts, min_size=1, max_size=5), st.data())
def test_filling_one_after_the_other_equals_filling_all(
    parts: list[str], data: st.DataObject
) -> None:
    template = Template.split(MARKER.join(parts))
    middles = data.draw(st.lists(texts, min_size=template.count, max_size=template.count))
    if template.count:
        last = template.hole(middles[:-1])
        assert last.filled(middles[-1]) == template.filled(middles)
        assert template.filled([]) == MARKER.join(parts)
    for count in range(template.count):
        hole = template.hole(middles[:count])
        assert hole.after == "".join(parts[count + 1 :])
        assert hole.before.endswith(parts[count])
