"""Outputs that grow side by side, a row each: one pass, and who goes on behind it."""

from collections.abc import Iterator, Sequence

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.speculate import Stepping


class Batch:
    """Rows under way and the outputs that grow by them.

    Args:
        rows: fresh from ``Backend.prefill``, one for each output and in their order.
        outputs: at least one; they are changed in place.
    """

    def __init__(self, rows: Stepping, outputs: Sequence[Output]) -> None:
        self._rows = rows
        self._live = list(outputs)

    def __len__(self) -> int:
        """How many outputs still grow."""
        return len(self._live)

    def step(self, *, ahead: bool = True) -> Iterator[Output]:
        """One pass: yields each output after each of its tokens; those that ended have left then.

        Args:
            ahead: the next pass may be begun already; better not where rows are about to join.
        """
        live = self._live
        passes = self._rows.advance([one.left for one in live], ahead=ahead)
        for output, done in zip(live, passes, strict=True):
            output.count(done.guessed, len(done.tokens))
            for token in done.tokens:
                output.accept(token)
                yield output
                if output.finish_reason is not None:
                    break
        growing = [row for row, output in enumerate(live) if output.finish_reason is None]
        growing = closed_up(growing)
        if 0 < len(growing) < len(live):
            self._rows.keep(growing)
        self._live = [live[row] for row in growing]

    def pause(self) -> None:
        """See ``Stepping.pause``."""
        self._rows.pause()

    def join(self, other: "Batch") -> None:
        """Go on with the other's outputs too, behind these; each of both has a token.

        Raises:
            ModelTooLargeError: there is no memory for so many; both are as they were.
        """
        self._rows.join(other._rows)
        self._live += other._live


def closed_up(rows: Sequence[int]) -> list[int]:
    """Ascending rows in an order in which as few change places as can be: the last fill gaps."""
    stay, late = set(rows), (row for row in rows if row >= len(rows))
    return [place if place in stay else next(late) for place in range(len(rows))]
