"""Repeated lines against a twin that compares every stretch of lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.text.repeats import RepeatedLines, has_substance
from tests.text import middles

LINES = ["x = 1", "return x", "return", "pass", "else:", "}", ")", "", "  ", "@f", "x = 1  "]
blocks = st.lists(st.sampled_from(LINES), max_size=8)


def twin(suffix: list[str], lines: list[str], begun: bool) -> tuple[int, int] | None:
    """The first row that makes a repetition certain, and the row that it begins with."""
    ahead = [line.rstrip() for line in suffix if line.strip()][:4]
    for row in range(len(lines)):
        for start in range(row + 1):
            same = [line.rstrip() for line in lines[start : row + 1] if line.strip()]
            if not lines[row].strip() or not lines[start].strip() or same != ahead[: len(same)]:
                continue
            first = not begun and not any(line.strip() for line in lines[:start])
            strong = any(map(middles.substance, same))
            if strong and (len(same) > 1 or not first):
                return row, start
            if not first and len(same) > 1:
                return row, start
    return None


@settings(max_examples=1000)
@given(blocks, blocks, st.booleans())
def test_the_first_certain_repetition_is_found_and_was_pending(
    suffix: list[str], lines: list[str], begun: bool
) -> None:
    repeated = RepeatedLines(suffix)
    pending: list[int | None] = []
    filled = begun
    for row, line in enumerate(lines):
        parts = [
            repeated.pending(line[:end], row, first=not filled) for end in range(len(line) + 1)
        ]
        pending.append(parts[-1])
        place = repeated.line(line, row, first=not filled)
        filled = filled or bool(line.strip())
        if place is not None:
            assert twin(suffix, lines, begun) == (row, place)
            # At the last character at the latest, the text from the place on was held back.
            assert pending[-1] is not None
            assert pending[-1] <= place
            for later in pending[place:]:
                assert later is None or later <= place
            assert all(later is not None for later in pending[place:])
            return
    assert twin(suffix, lines, begun) is None


def test_every_part_of_a_line_that_may_repeat_is_pending() -> None:
    repeated = RepeatedLines(["", "    return x", "y"])
    for part in ("    r", "    return x", "    return x  "):
        assert repeated.pending(part, 7, first=False) == 7
    for part in ("", "   ", "r", "    return y", "    return x  y"):
        assert repeated.pending(part, 7, first=False) is None
    assert repeated.line("    return x", 7, first=True) is None
    for part in ("", "  ", "y"):
        assert repeated.pending(part, 9, first=False) == 7
    assert repeated.pending("z", 9, first=False) is None


def test_without_lines_nothing_is_repeated() -> None:
    for suffix in ([], ["", "  "]):
        repeated = RepeatedLines(suffix)
        assert repeated.line("x", 0, first=False) is None
        assert repeated.line("", 1, first=False) is None
        assert repeated.pending("x", 2, first=False) is None


@pytest.mark.parametrize(
    "line", ["x", "    return x", "foo()", "else_ = 1", "@f(1)", "raise E", "é"]
)
def test_a_line_that_says_something_has_substance(line: str) -> None:
    assert has_substance(line)
    assert middles.substance(line)


@pytest.mark.parametrize(
    "line",
    ["", "  ", "}", "    )", "});", "else:", "return", "return;", "return None", "pass",
     "try:", "finally:", "break", "continue", "raise", "end", "fi", "done", "@property", '"""'],
)  # fmt: skip
def test_a_commonplace_line_has_none(line: str) -> None:
    assert not has_substance(line)
