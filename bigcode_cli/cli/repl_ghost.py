"""Text that is not there yet, shown where it would go: at the cursor, in the midst of the code."""

from collections.abc import Callable

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout.containers import WindowRenderInfo
from prompt_toolkit.layout.controls import BufferControl, UIContent
from prompt_toolkit.layout.margins import Margin
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.layout.utils import explode_text_fragments
from prompt_toolkit.lexers import Lexer

GHOST_STYLE = "class:ghost"
TAB_WIDTH = 4


class GhostContent(UIContent):
    """The lines of some code with a ghost at its cursor, which stays before the ghost.

    Args:
        content: the code, as it would be shown by itself.
        ghost: harmless text of any number of lines.
    """

    def __init__(self, content: UIContent, ghost: str) -> None:
        row, column = content.cursor_position.y, content.cursor_position.x
        here = explode_text_fragments(content.get_line(row))
        first, *rest = ghost.split("\n")
        first = (" " * column + first).expandtabs(TAB_WIDTH)[column:]
        lines: list[StyleAndTextTuples] = [[*here[:column], (GHOST_STYLE, first)]]
        lines += [[(GHOST_STYLE, line.expandtabs(TAB_WIDTH))] for line in rest]
        lines[-1] += here[column:]
        self._content, self._row, self._lines = content, row, lines
        super().__init__(
            get_line=self._line,
            line_count=content.line_count + len(rest),
            cursor_position=Point(x=column, y=row),
            menu_position=content.menu_position,
        )

    def source_row(self, row: int) -> int | None:
        """The row of the code that begins in a row shown; ``None`` inside the ghost."""
        if row <= self._row:
            return row
        if row < self._row + len(self._lines):
            return None
        return row - len(self._lines) + 1

    def _line(self, row: int) -> StyleAndTextTuples:
        if 0 <= row - self._row < len(self._lines):
            return self._lines[row - self._row]
        source = self.source_row(row)
        assert source is not None
        return self._content.get_line(source)


class GhostControl(BufferControl):
    """Shows a buffer with a ghost at its cursor.

    A processor would see one line at a time and could not add any, so the ghost goes into the
    finished content.

    Args:
        ghost: asked at each drawing.
    """

    def __init__(self, buffer: Buffer, lexer: Lexer, ghost: Callable[[], str]) -> None:
        tabs = TabsProcessor(tabstop=TAB_WIDTH, char1=" ", char2=" ")
        super().__init__(buffer, input_processors=[tabs], lexer=lexer)
        self._ghost = ghost

    def create_content(self, width: int, height: int, preview_search: bool = False) -> GhostContent:
        """See ``UIControl``."""
        return GhostContent(super().create_content(width, height, preview_search), self._ghost())


class LineNumbers(Margin):
    """Numbers the lines of the code; a ghost's lines have none yet."""

    def get_width(self, get_ui_content: Callable[[], UIContent]) -> int:
        """Room for the last number and a blank."""
        return max(3, len(str(get_ui_content().line_count)) + 1)

    def create_margin(
        self,
        window_render_info: WindowRenderInfo,
        width: int,
        height: int,  # noqa: ARG002
    ) -> StyleAndTextTuples:
        """A number where a line begins, nothing where it is wrapped."""
        content = window_render_info.ui_content
        assert isinstance(content, GhostContent)
        margin: StyleAndTextTuples = []
        last: int | None = None
        for row in window_render_info.displayed_lines:
            source = None if row == last else content.source_row(row)
            number = "" if source is None else f"{source + 1} "
            margin.append(("class:line-number", number.rjust(width) + "\n"))
            last = row
        return margin
