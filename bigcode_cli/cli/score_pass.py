"""One model's way through the texts: events to views and thresholds, failures to stderr."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import fsum
from time import perf_counter
from typing import TYPE_CHECKING

from bigcode_cli.cli.answers import tell_failure
from bigcode_cli.cli.render import TerminalReporter
from bigcode_cli.cli.score_text import Item
from bigcode_cli.cli.score_views import View
from bigcode_cli.cli.thresholds import Thresholds
from bigcode_cli.records import Scored, ScoredTokens, ScoreOptions, ScoreRequest

if TYPE_CHECKING:
    from bigcode_cli.engine.session import Session


class Pass:
    """Scores texts with one model, and shows each as it is done.

    Args:
        several: whether there is more than one input, so that one that fails is no reason to end,
            and a total is shown.

    Attributes:
        failed: texts that came to nothing, which was told.
        tokens: of all texts that are done.
        seconds: that it took.
    """

    def __init__(
        self, items: Sequence[Item], view: View, thresholds: Thresholds, *, several: bool
    ) -> None:
        self.failed: set[Item] = set()
        self.tokens = 0
        self.seconds = 0.0
        self._items, self._view, self._thresholds = items, view, thresholds
        self._several = several
        self._begun: Item | None = None
        self._done: list[Scored] = []

    def run(self, session: "Session", options: ScoreOptions, report: TerminalReporter) -> None:
        """Score all texts.

        Raises:
            UsageError: the options do not fit the model, or not the baseline.
            BigcodeError: the only text failed.
        """
        started = perf_counter()
        size = sum(item.source.size for item in self._items)
        for event in session.score(self._requests(), options, report=report, total_bytes=size):
            item = self._items[event.request]
            if isinstance(event, ScoredTokens):
                self._begin(item)
                self._view.push(item, event.tokens)
            elif isinstance(event, Scored):
                self._begin(item)
                self._end(item, event)
            else:
                if self._begun is item:
                    self._view.fail(item)
                self._thresholds.skip(item)
                self.failed.add(item)
                report.clear()
                tell_failure(event, item.source.place if self._several else None)
        if self._several and self._done:
            self._view.total(total(self._done), len(self._done))
        self.seconds = perf_counter() - started

    def _requests(self) -> Iterator[ScoreRequest]:
        for item in self._items:
            yield ScoreRequest(pieces=item.source.pieces(), lines=item.source.lines)

    def _begin(self, item: Item) -> None:
        if self._begun is not item:
            self._begun = item
            self._view.begin(item)

    def _end(self, item: Item, scored: Scored) -> None:
        self.tokens += scored.tokens
        self._thresholds.take(item, scored)
        self._view.end(item, scored)
        if self._several:
            self._done.append(scored)


def total(scores: Sequence[Scored]) -> Scored:
    """The sums of several texts, scored by one model."""
    return replace(
        scores[0],
        id=None,
        tokens=sum(one.tokens for one in scores),
        scored_tokens=sum(one.scored_tokens for one in scores),
        n_bytes=sum(one.n_bytes for one in scores),
        nll_sum=fsum(one.nll_sum for one in scores),
    )
