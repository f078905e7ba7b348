"""Several models side by side: a column each, and how far they are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.output import Answer, TerminalAnswer
from bigcode_cli.cli.render import TerminalReporter, one_line
from bigcode_cli.cli.score_tables import SUM, TITLE, Table
from bigcode_cli.cli.score_text import Item, column, decimals, figure, total_name
from bigcode_cli.cli.score_views import View
from bigcode_cli.records import Scored
from bigcode_cli.records.scoring import bits_per_byte

WIDEST = 24
"""Characters of a model's name above its column."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a model's bits per byte are above another's, over the texts that both scored.

    Attributes:
        files: with a byte to score.
        low: of the 95 % interval, likewise ``high``; ``None`` where there is no second text.
    """

    model: str
    against: str
    files: int
    difference: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        told = f"{self.model} against {self.against}: {_signed(self.difference)} bits/byte"
        if self.low is None:
            return told
        return f"{told}, 95 % interval {_signed(self.low)} to {_signed(self.high)}"


class Results:
    """What came of each text with each model. Holds a few numbers a text."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = models
        self._scores: list[dict[int, Scored]] = [{} for _ in models]

    def take(self, model: int, item: Item, scored: Scored) -> None:
        """Take the score of a text with a model."""
        self._scores[model][item.number] = scored

    def row(self, item: Item) -> list[float | None]:
        """The bits per byte of a text with each model."""
        return [scores[item.number].bits_per_byte for scores in self._scores]

    def totals(self) -> list[float | None]:
        """Those of all texts that every model scored."""
        return [
            bits_per_byte(sum(one.nll_sum for one in scored), sum(one.n_bytes for one in scored))
            for scored in zip(*self._common(), strict=True)
        ] or [None] * len(self.models)

    def differences(self) -> list[Difference]:
        """Of each further model and the first."""
        from bigcode_cli.bench.intervals import bootstrap_ratio_difference

        common = [row for row in self._common() if all(one.n_bytes for one in row)]
        columns = [
            [(one.nll_sum / log(2), one.n_bytes) for one in col]
            for col in zip(*common, strict=True)
        ]
        totals = [sum(bits for bits, _ in col) / sum(n for _, n in col) for col in columns]
        found = []
        for place, model in enumerate(self.models[1:], 1):
            low, high = (
                bootstrap_ratio_difference(columns[0], columns[place])
                if len(common) > 1
                else (None, None)
            )
            difference = totals[place] - totals[0] if totals else None
            found.append(Difference(model, self.models[0], len(common), difference, low, high))
        return found

    def _common(self) -> list[list[Scored]]:
        """A row for each text that every model scored."""
        last = self._scores[-1]
        return [
            [scores[number] for scores in self._scores]
            for number in last
            if all(number in scores for scores in self._scores)
        ]


class Gather(View):
    """Keeps what came of the texts with one model."""

    def __init__(self, results: Results, model: int) -> None:
        self._results, self._model = results, model

    def end(self, item: Item, scored: Scored) -> None:
        """Take the score."""
        self._results.take(self._model, item, scored)


class ColumnRows(View):
    """``bits_per_byte<TAB>…<TAB>path``, when the last model has scored a text."""

    def __init__(
        self, results: Results, answer: Answer, report: TerminalReporter, encoding: str
    ) -> None:
        self._results, self._answer, self._report = results, answer, report
        self._encoding = encoding

    def end(self, item: Item, scored: Scored) -> None:  # noqa: ARG002
        """Write the row."""
        cells = (*map(figure, self._results.row(item)), column(item.name, self._encoding))
        self._answer.write("\t".join(cells) + "\n")

    def total(self, scored: Scored, count: int) -> None:  # noqa: ARG002
        """Tell the sums."""
        totals = zip(self._results.totals(), self._results.models, strict=True)
        told = ", ".join(f"{decimals(value, 3)} with {model}" for value, model in totals)
        self._report.note(f"{total_name(count)}: bits/byte {told}")

    def compare(self) -> None:
        """Tell how far the models are apart."""
        for difference in self._results.differences():
            if difference.files:
                self._report.note(str(difference))


class ColumnTable(View):
    """A column a model on the terminal."""

    def __init__(self, results: Results, answer: TerminalAnswer, report: TerminalReporter) -> None:
        self._results = results
        self._names = [_short(one_line(model)) for model in results.models]
        self._table = Table(answer, report, [max(len(name), 9) for name in self._names])
        self._begun = False

    def end(self, item: Item, scored: Scored) -> None:  # noqa: ARG002
        """Show the row, the first under the models' names."""
        if not self._begun:
            self._begun = True
            self._table.row(*self._names, "bits/byte of", style=TITLE)
        self._show(self._results.row(item), one_line(item.name))

    def total(self, scored: Scored, count: int) -> None:  # noqa: ARG002
        """Show the sums."""
        self._show(self._results.totals(), total_name(count), SUM)

    def compare(self) -> None:
        """Tell how far the models are apart."""
        for difference in self._results.differences():
            if difference.files:
                self._table.say(one_line(str(difference)), SUM)

    def _show(self, values: Sequence[float | None], name: str, style: str | None = None) -> None:
        self._table.row(*(decimals(value, 3) for value in values), name, style=style)


def comparison_line(difference: Difference) -> str:
    """A difference as other programs read it."""
    content: dict[str, Any] = {
        "comparison": True,
        "model": difference.model,
        "against": difference.against,
        "files": difference.files,
        "difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
    }
    return to_json(content)


def _short(name: str) -> str:
    return name if len(name) <= WIDEST else f"…{name[1 - WIDEST :]}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
