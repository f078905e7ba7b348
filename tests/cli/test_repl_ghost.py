from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text.utils import fragment_list_to_text
from prompt_toolkit.layout.controls import UIContent

from bigcode_cli.cli.repl_ghost import GHOST_STYLE, GhostContent

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
