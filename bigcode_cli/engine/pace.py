"""How many tokens are guessed ahead: what passes cost, measured, and what they may win.

A pass over ``width`` tokens costs more than one over a single token, on a CPU twice as much for
sixteen and on a large GPU nearly nothing, and nobody can tell without trying. A guess is made
where it is expected to win time, and where losing it altogether would leave the whole, prompt
included, slower by no more than ``SLACK``: what guesses have won may be risked again.
"""

from collections import deque
from collections.abc import Sequence
from math import inf

WIDTHS = (2, 3, 4, 8, 16)
"""Tokens a row of a pass with guesses: few, so that each is soon measured."""

SLACK = 0.02
"""Of what the time so far would have been without guesses, what lost ones may cost: 3 %, less some
for what is measured late."""

MIN_GAIN = 1.05
"""By how much tokens a second must be expected to grow: below, it is noise that decides."""

MIN_PLAIN = 2
"""Passes without guesses that are measured before any is made."""

BEGIN_GAIN = 2
"""How many times a draft's reading of the prompt must be expected to pay. That is not held to
``SLACK``, which it would seldom fit in: an output that ends early does not win it back."""

MAX_WIDE = 32
"""Passes with guesses in a row, until one without them is measured anew."""

_KEPT = 9
_MEMORY = 0.97
_UNKNOWN = 1 / 8
"""Of a plain pass, what another token in it is taken to cost until it is measured, if no prompt
has told that it costs more."""


class Rate:
    """A mean that what came last weighs most in.

    Args:
        prior: what is believed at first, as much as ``weight`` observations.
    """

    def __init__(self, prior: float = 0.0, weight: float = 0.0) -> None:
        self._sum, self._weight = prior * weight, weight

    def add(self, value: float) -> None:
        """Take in another observation."""
        self._sum = self._sum * _MEMORY + value
        self._weight = self._weight * _MEMORY + 1

    @property
    def mean(self) -> float:
        """Of what was seen, and of the prior; 0 of nothing."""
        return self._sum / self._weight if self._weight else 0.0


class Pace:
    """What is known of the passes of one model, and of the rows that are decoded now."""

    def __init__(self) -> None:
        self._costs: dict[tuple[int, int], deque[float]] = {}
        self._token_s = 0.0
        self._spent = self._ahead = 0.0
        self._wide = 0

    def begin(self, tokens: int, seconds: float, *, joins: bool = False) -> None:
        """Begin with rows, whose prefill ran ``tokens`` through the model.

        Args:
            joins: others are under way, and the whole goes on.
        """
        if joins:
            self._spent += seconds
        else:
            self._spent, self._ahead, self._wide = seconds, 0.0, 0
        if tokens >= WIDTHS[-1]:
            # The least that was seen: what else a prompt has to wait for is no token's.
            self._token_s = min(self._token_s or inf, seconds / tokens)

    def width(
        self,
        chances: Sequence[Sequence[float]],
        left: Sequence[int],
        *,
        guess_s: float = 0.0,
        begin_s: float = 0.0,
    ) -> int:
        """Tokens a row that the next pass should hold: 1 is no guess.

        Args:
            chances: for each row, of each guess that could be made, that it holds if those before
                it do.
            left: tokens that each row may still sample.
            guess_s: seconds that making one guess a row takes.
            begin_s: seconds that have to be spent before the next one: they must be won back
                ``BEGIN_GAIN`` times by what may still come.
        """
        rows, longest = len(chances), max(map(len, chances))
        plain = self._known(rows, 1)
        if plain is None or not longest or self._wide >= MAX_WIDE:
            return 1
        without = self._spent + self._ahead
        allowed = SLACK * without + self._ahead
        best, best_rate = 1, MIN_GAIN / plain
        for width in sorted({min(width, longest + 1) for width in WIDTHS}):
            cost = self._cost(rows, width, plain) + guess_s * (width - 1)
            rate = sum(expected(row[: width - 1]) for row in chances) / rows / cost
            gain = (plain - 1 / rate) * sum(left) / rows
            if rate > best_rate and cost - plain <= allowed and gain >= begin_s * BEGIN_GAIN:
                best, best_rate = width, rate
        return best

    def learn(self, width: int, tokens: Sequence[int], seconds: float, guess_s: float) -> None:
        """Take in what a pass has cost.

        Args:
            width: tokens a row that it held.
            tokens: those that came of it for each row.
            guess_s: what making the guesses has cost.
        """
        rows = len(tokens)
        self._costs.setdefault((rows, width), deque(maxlen=_KEPT)).append(seconds)
        self._spent += seconds + guess_s
        self._wide = self._wide + 1 if width > 1 else 0
        plain = self._known(rows, 1)
        if width > 1 and plain is not None:
            self._ahead += plain * sum(tokens) / rows - seconds - guess_s

    def plain_s(self, rows: int) -> float | None:
        """Seconds of a pass without guesses, once it is known."""
        return self._known(rows, 1)

    @property
    def token_s(self) -> float:
        """Seconds a token of a long pass; 0 where none was seen."""
        return self._token_s

    def _known(self, rows: int, width: int) -> float | None:
        """The lower median of what was measured last."""
        measured = sorted(self._costs.get((rows, width), ()))
        if len(measured) < (MIN_PLAIN if width == 1 else 1):
            return None
        return measured[(len(measured) - 1) // 2]

    def _cost(self, rows: int, width: int, plain: float) -> float:
        """Measured, or on a line between, or beyond, the widths that are."""
        below, cost = 1, plain
        slope = max(rows * self._token_s, plain * _UNKNOWN)
        for other in range(2, WIDTHS[-1] + 1):
            known = self._known(rows, other)
            if known is None:
                continue
            if other >= width:
                slope = (known - cost) / (other - below)
                break
            below, cost = other, known
        return cost + slope * (width - below)


def expected(chances: Sequence[float]) -> float:
    """Tokens that come of a pass, on average: one, and each guess that all those before it hold."""
    tokens, still = 1.0, 1.0
    for chance in chances:
        still *= chance
        tokens += still
    return tokens
