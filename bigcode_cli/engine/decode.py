"""The decode loop: the only place where anything goes round."""

from collections.abc import Iterator, Sequence

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.speculate import Stepping


def decode(rows: Stepping, outputs: Sequence[Output]) -> Iterator[Output]:
    """Go on until every output has ended, yielding each output after each of its tokens.

    Args:
        rows: fresh from ``Backend.prefill``, one for each output and in their order.
        outputs: at least one; they are changed in place.
    """
    live = list(outputs)
    while live:
        for output, done in zip(live, rows.advance([one.left for one in live]), strict=True):
            output.count(done.guessed, len(done.tokens))
            for token in done.tokens:
                output.accept(token)
                yield output
                if output.finish_reason is not None:
                    break
        growing = [row for row, output in enumerate(live) if output.finish_reason is None]
        if 0 < len(growing) < len(live):
            rows.keep(growing)
        live = [live[row] for row in growing]
