"""Scores as tables on a terminal: figures first and aligned, so that rows can come one by one."""

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bigcode_cli.cli.heat import level
from bigcode_cli.cli.heatmap import styles
from bigcode_cli.cli.output import TerminalAnswer
from bigcode_cli.cli.render import TerminalReporter, one_line
from bigcode_cli.cli.score_lines import Lines, LineScore
from bigcode_cli.cli.score_text import Item, decimals, facts, total_name
from bigcode_cli.cli.score_views import View, entropy_bits, token_text
from bigcode_cli.records import Scored, TokenScore
from bigcode_cli.text.terminal import escape_control

if TYPE_CHECKING:
    from rich.style import Style

GAP = "  "
TITLE, SUM = "bold", "italic"


class Table:
    """Rows of aligned figures with a text at their end.

    Args:
        widths: of the figures' columns; a figure that is wider moves what follows it.
    """

    def __init__(
        self, answer: TerminalAnswer, report: TerminalReporter, widths: Sequence[int]
    ) -> None:
        self._answer, self._report, self._widths = answer, report, widths

    def row(self, *cells: str, style: str | None = None, heat: "Style | None" = None) -> None:
        """Show a row; its last cell is free text, made harmless already.

        Args:
            heat: of the first figure.
        """
        *figures, text = cells
        first, *more = (
            cell.rjust(width) for cell, width in zip(figures, self._widths, strict=True)
        )
        self._show((first, heat or _look(style)), (GAP + GAP.join((*more, text)), _look(style)))

    def say(self, text: str, style: str | None = None) -> None:
        """Show a line."""
        self._show((text, _look(style)))

    def _show(self, *parts: "tuple[str, Style | None]") -> None:
        self._report.clear()
        *others, (text, style) = parts
        self._answer.show_parts([*others, (text.rstrip(), style), ("\n", None)])

    def cropped(self, text: str) -> str:
        """As much of a text as fits the last column."""
        from rich.cells import cell_len, set_cell_size

        room = shutil.get_terminal_size().columns - sum(self._widths) - len(GAP) * len(self._widths)
        if cell_len(text) <= room:
            return text
        return set_cell_size(text, max(room, 10) - 1).rstrip() + "…"


class FileTable(View):
    """A row a text, and one for the total."""

    def __init__(self, answer: TerminalAnswer, report: TerminalReporter) -> None:
        self._table = Table(answer, report, (10, 9, 10))
        self._begun = False

    def end(self, item: Item, scored: Scored) -> None:
        """Show the row, the first under the titles."""
        if not self._begun:
            self._begun = True
            self._table.row("perplexity", "bits/byte", "tokens", "path", style=TITLE)
        self._table.row(*_figures(scored), one_line(item.name))

    def total(self, scored: Scored, count: int) -> None:
        """Show the sums."""
        self._table.row(*_figures(scored), total_name(count), style=SUM)


class PartsTable(View):
    """Each text's parts under its name, and what is to be said of it as a whole.

    The first figure of a part has the colour that the heatmap would give it.
    """

    def __init__(
        self,
        answer: TerminalAnswer,
        report: TerminalReporter,
        widths: Sequence[int],
        titles: Sequence[str],
    ) -> None:
        self._table = Table(answer, report, widths)
        self._titles = titles
        self._begun = False
        self._heat = styles()

    def begin(self, item: Item) -> None:
        """Show the titles, and the name over the texts."""
        if self._begun:
            self._table.say("")
        self._begun = True
        self._table.row(*self._titles, one_line(item.name), style=TITLE)

    def end(self, item: Item, scored: Scored) -> None:  # noqa: ARG002
        """Show its score."""
        self._table.say(facts(scored), SUM)

    def total(self, scored: Scored, count: int) -> None:
        """Show the sums."""
        self._table.say(f"\n{total_name(count)}: {facts(scored)}", SUM)


class LineTable(PartsTable):
    """A row a line."""

    def __init__(self, answer: TerminalAnswer, report: TerminalReporter) -> None:
        super().__init__(answer, report, (9, 9, 6), ("bits", "bits/byte", "line"))
        self._lines = Lines()

    def begin(self, item: Item) -> None:
        """Begin with line 1."""
        super().begin(item)
        self._lines = Lines()

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:  # noqa: ARG002
        """Show the lines that are done."""
        for line in self._lines.push(tokens):
            self._show(line)

    def end(self, item: Item, scored: Scored) -> None:
        """Show the last line and the score."""
        for line in self._lines.flush():
            self._show(line)
        super().end(item, scored)

    def _show(self, line: LineScore) -> None:
        text = escape_control(line.text.replace("\r", "\\x0d").expandtabs())
        self._table.row(
            decimals(line.bits, 2),
            decimals(line.bits_per_byte, 3),
            str(line.line),
            self._table.cropped(text),
            heat=self._heat[level(line.bits / line.tokens)],
        )


class TokenTable(PartsTable):
    """A row a token."""

    def __init__(self, answer: TerminalAnswer, report: TerminalReporter) -> None:
        super().__init__(answer, report, (7, 6, 7, 10), ("bits", "rank", "entropy", "line:col"))

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:  # noqa: ARG002
        """Show those that count."""
        for token in tokens:
            if token.logprob is not None:
                self._table.row(
                    decimals(token.bits, 2),
                    f"{token.rank:,}",
                    decimals(entropy_bits(token), 2),
                    f"{token.line}:{token.column}",
                    escape_control(json.dumps(token_text(token), ensure_ascii=False)),
                    heat=self._heat[level(token.bits or 0)],
                )


def _look(style: str | None) -> "Style | None":
    from rich.style import Style

    return None if style is None else Style.parse(style)


def _figures(scored: Scored) -> tuple[str, str, str]:
    return (
        decimals(scored.perplexity, 2),
        decimals(scored.bits_per_byte, 3),
        f"{scored.scored_tokens:,}",
    )
