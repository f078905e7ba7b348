"""Scores as they come: lines for other programs, JSON, and texts in colour."""

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, Any

from bigcode_cli.cli.answers import to_json
from bigcode_cli.cli.output import Answer
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.score_lines import Lines, LineScore
from bigcode_cli.cli.score_text import Item, column, facts, figure, total_name
from bigcode_cli.records import Scored, TokenScore

if TYPE_CHECKING:
    from bigcode_cli.cli.heatmap import HeatmapView, HeatPage


class View:
    """Shows texts one after the other; by itself nothing."""

    def begin(self, item: Item) -> None:
        """Begin a text: its tokens or its score come next."""

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:
        """Go on with it, where single tokens are looked at."""

    def end(self, item: Item, scored: Scored) -> None:
        """End it."""

    def fail(self, item: Item) -> None:
        """End it, which came to nothing; why is told elsewhere."""

    def total(self, scored: Scored, count: int) -> None:
        """Show the sums of several texts."""


class JsonView(View):
    """One JSON object a text, when it is done.

    Args:
        by: ``line`` and ``token`` add those that count. They are held for one text at a time.
    """

    def __init__(self, answer: Answer, report: TerminalReporter, by: str) -> None:
        self._answer, self._report, self._by = answer, report, by
        self._lines = Lines()
        self._parts: list[dict[str, Any]] = []

    def begin(self, item: Item) -> None:  # noqa: ARG002
        """Forget what a text that failed left behind."""
        self._lines, self._parts = Lines(), []

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:  # noqa: ARG002
        """Hold what is to be told."""
        if self._by == "line":
            self._parts += map(line_object, self._lines.push(tokens))
        elif self._by == "token":
            self._parts += (token_object(one) for one in tokens if one.logprob is not None)

    def end(self, item: Item, scored: Scored) -> None:
        """Write the text's object."""
        content = {**item.key, **score_object(scored)}
        if self._by == "line":
            content["lines"] = [*self._parts, *map(line_object, self._lines.flush())]
        elif self._by == "token":
            content["token_scores"] = self._parts
        self._write(content)

    def total(self, scored: Scored, count: int) -> None:  # noqa: ARG002
        """Write one more object."""
        self._write({"total": True, **score_object(scored)})

    def _write(self, content: object) -> None:
        if self._answer.terminal:
            self._report.clear()
        self._answer.write_json(to_json(content))


class FileRows(View):
    """``perplexity<TAB>bits_per_byte<TAB>path``. The total is a note."""

    def __init__(self, answer: Answer, report: TerminalReporter, encoding: str) -> None:
        self._answer, self._report, self._encoding = answer, report, encoding

    def end(self, item: Item, scored: Scored) -> None:
        """Write the row."""
        self._write(figure(scored.perplexity), figure(scored.bits_per_byte), self._name(item))

    def total(self, scored: Scored, count: int) -> None:
        """Tell the sums."""
        self._report.note(f"{total_name(count)}: {facts(scored)}")

    def _write(self, *cells: str) -> None:
        self._answer.write("\t".join(cells) + "\n")

    def _name(self, item: Item) -> str:
        return column(item.name, self._encoding)


class LineRows(FileRows):
    """``bits<TAB>bits_per_byte<TAB>path:line<TAB>text``, the text in quotes."""

    def __init__(self, answer: Answer, report: TerminalReporter, encoding: str) -> None:
        super().__init__(answer, report, encoding)
        self._lines = Lines()

    def begin(self, item: Item) -> None:  # noqa: ARG002
        """Begin with line 1."""
        self._lines = Lines()

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:
        """Write the lines that are done."""
        for line in self._lines.push(tokens):
            self._write_line(item, line)

    def end(self, item: Item, scored: Scored) -> None:  # noqa: ARG002
        """Write the last line."""
        for line in self._lines.flush():
            self._write_line(item, line)

    def _write_line(self, item: Item, line: LineScore) -> None:
        place = f"{self._name(item)}:{line.line}"
        self._write(figure(line.bits), figure(line.bits_per_byte), place, to_json(line.text))


class TokenRows(FileRows):
    """``bits<TAB>rank<TAB>entropy<TAB>path:line:column<TAB>text``, the text in quotes."""

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:
        """Write those that count, some at once."""
        name = self._name(item)
        rows = (
            "\t".join(
                (
                    figure(token.bits),
                    str(token.rank),
                    figure(entropy_bits(token)),
                    f"{name}:{token.line}:{token.column}",
                    to_json(token_text(token)),
                )
            )
            for token in tokens
            if token.logprob is not None
        )
        self._answer.write("".join(f"{row}\n" for row in rows))

    def end(self, item: Item, scored: Scored) -> None:
        """Nothing: the rows stand."""


class Coloured(View):
    """Texts in colour, on the terminal or on a page.

    Args:
        report: is cleared before the terminal is written to; ``None`` for a page.
    """

    def __init__(self, target: "HeatmapView | HeatPage", report: TerminalReporter | None) -> None:
        self._target, self._report = target, report

    def begin(self, item: Item) -> None:
        """Show its name."""
        self._clear()
        self._target.begin(item.name)

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:  # noqa: ARG002
        """Show what comes next."""
        self._clear()
        self._target.push(tokens)

    def end(self, item: Item, scored: Scored) -> None:  # noqa: ARG002
        """Show its score."""
        self._clear()
        self._target.end(facts(scored))

    def fail(self, item: Item) -> None:  # noqa: ARG002
        """Say that the rest is missing."""
        self._clear()
        self._target.end("failed: the rest is missing")

    def total(self, scored: Scored, count: int) -> None:
        """Show the sums."""
        self._clear()
        self._target.total(f"{total_name(count)}: {facts(scored)}")

    def _clear(self) -> None:
        if self._report is not None:
            self._report.clear()


class Both(View):
    """Two views beside each other."""

    def __init__(self, first: View, second: View) -> None:
        self._views = first, second

    def begin(self, item: Item) -> None:
        """In each."""
        for view in self._views:
            view.begin(item)

    def push(self, item: Item, tokens: Sequence[TokenScore]) -> None:
        """In each."""
        for view in self._views:
            view.push(item, tokens)

    def end(self, item: Item, scored: Scored) -> None:
        """In each."""
        for view in self._views:
            view.end(item, scored)

    def fail(self, item: Item) -> None:
        """In each."""
        for view in self._views:
            view.fail(item)

    def total(self, scored: Scored, count: int) -> None:
        """In each."""
        for view in self._views:
            view.total(scored, count)


def score_object(scored: Scored) -> dict[str, Any]:
    """A score as other programs read it."""
    return {
        "model": scored.model,
        "tokens": scored.tokens,
        "scored_tokens": scored.scored_tokens,
        "bytes": scored.n_bytes,
        "nll_sum": scored.nll_sum,
        "loss": scored.loss,
        "perplexity": scored.perplexity,
        "bits_per_byte": scored.bits_per_byte,
        "context": scored.context,
        "stride": scored.stride,
        "bos": scored.bos,
    }


def line_object(line: LineScore) -> dict[str, Any]:
    """A line as other programs read it."""
    return {
        "line": line.line,
        "tokens": line.tokens,
        "bytes": line.n_bytes,
        "nll_sum": line.nll_sum,
        "bits": line.bits,
        "bits_per_byte": line.bits_per_byte,
        "text": line.text,
    }


def token_object(token: TokenScore) -> dict[str, Any]:
    """A token that counts, as other programs read it."""
    return {
        "id": token.id,
        "text": token_text(token),
        "line": token.line,
        "column": token.column,
        "bits": token.bits,
        "logprob": token.logprob,
        "rank": token.rank,
        "entropy": entropy_bits(token),
    }


def token_text(token: TokenScore) -> str:
    """What a token stands for; bytes that are no whole character are U+FFFD."""
    return token.data.decode("utf-8", "replace")


def entropy_bits(token: TokenScore) -> float | None:
    """The entropy over a token, in bits."""
    return None if token.entropy is None else token.entropy / log(2)
