import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.formatted_text.utils import fragment_list_to_text
from prompt_toolkit.layout.controls import UIContent
from prompt_toolkit.output.vt100 import Vt100_Output

from bigcode_cli.cli.repl_ghost import GHOST_STYLE, GhostContent
from bigcode_cli.engine.session import Session
from tests.cli.desks import seat
from tests.cli.screen import Screen

code = st.text(st.sampled_from("ab é\n日"), max_size=30)


def content_of(text: str, cursor: int) -> UIContent:
    """Some code as it is shown by itself: a row a line, with a blank for the cursor behind it."""
    lines = text.split("\n")
    before = text[:cursor].split("\n")
    return UIContent(
        get_line=lambda row: [("class:code", lines[row]), ("", " ")],
        line_count=len(lines),
        cursor_position=Point(x=len(before[-1]), y=len(before) - 1),
    )


def rows_of(content: UIContent) -> list[str]:
    rows = [fragment_list_to_text(content[row]) for row in range(content.line_count)]
    return [row.rstrip(" ") for row in rows]


@given(before=code, after=code, ghost=code)
def test_ghost_is_shown_at_every_cursor_as_if_it_were_there(
    before: str, after: str, ghost: str
) -> None:
    content = content_of(before + after, len(before))
    shown = GhostContent(content, ghost)
    assert rows_of(shown) == rows_of(content_of(before + ghost + after, 0))
    assert shown.cursor_position == content.cursor_position
    fragments = [f for row in range(shown.line_count) for f in shown[row]]
    assert "".join(f[1] for f in fragments if f[0] == GHOST_STYLE) == ghost.replace("\n", "")


@given(before=code, after=code, ghost=code)
def test_every_row_of_the_code_is_found_where_it_is_shown(
    before: str, after: str, ghost: str
) -> None:
    text = before + after
    shown = GhostContent(content_of(text, len(before)), ghost)
    sources = [shown.source_row(row) for row in range(shown.line_count)]
    assert [row for row in sources if row is not None] == list(range(text.count("\n") + 1))
    here = before.count("\n")
    for row, source in enumerate(sources):
        if source is not None and source < here:
            assert row == source
        elif source is not None and source > here:
            assert row == source + ghost.count("\n")
    assert sources.count(None) == ghost.count("\n")


class Drawing(io.StringIO):
    """Where a screen is drawn."""

    encoding = "utf-8"


def drawn(
    session: Session, folder: Path, before: str, ghost: str, after: str, *, rows: int = 8
) -> Screen:
    """The screen with some code, the cursor and a ghost in its midst."""
    shown: list[str] = []
    drawing = Drawing()
    output = Vt100_Output(drawing, lambda: Size(rows=rows, columns=30), enable_cpr=False)
    with seat(session, folder, output=output) as at:
        at.write(before, after)
        at.desk.ghost = ghost
        at.desk.app.after_render += lambda _: shown.append(drawing.getvalue())
        at.type("")
    screen = Screen(rows, 30)
    screen.feed(shown[0])
    return screen


def test_lines_of_a_ghost_have_no_numbers_yet(session: Session, model_folder: Path) -> None:
    screen = drawn(session, model_folder, "if a:\n    b(", "c,\n      d", ")\ne")
    assert screen.lines[:4] == [" 1 if a:", " 2     b(c,", "         d)", " 3 e"]
    assert (screen.row, screen.column) == (1, 9)
    assert screen.italics.split() == ["c,", "d"]


def test_tabs_lead_to_the_same_columns_in_code_and_ghost(
    session: Session, model_folder: Path
) -> None:
    screen = drawn(session, model_folder, "\tif a:\n\t\tb", "c\td\n\t\te\tf", "\ng")
    assert screen.lines[:4] == [
        " 1     if a:",
        " 2         bc  d",
        "           e   f",
        " 3 g",
    ]
    assert (screen.row, screen.column) == (1, 12)


def test_wide_and_long_text_wraps_around_the_ghost(session: Session, model_folder: Path) -> None:
    screen = drawn(session, model_folder, "日本語 = ", "x" * 40, " # é")
    assert screen.lines[:2] == [" 1 日本語 = " + "x" * 18, "   " + "x" * 22 + " # é"]


def test_ghost_is_in_sight_at_the_end_of_long_code(session: Session, model_folder: Path) -> None:
    screen = drawn(session, model_folder, "\n".join("abcdefghijkl"), "\n1\n2\n3", "", rows=8)
    *code, toolbar = screen.lines
    assert code == [" 9 i", "10 j", "11 k", "12 l", "   1", "   2", "   3"]
    assert "Tab accept" in toolbar
