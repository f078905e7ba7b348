"""Confidence intervals of the shares that a measurement reports."""

import math

Z_95 = 1.959964
"""Two-sided 95 % of the standard normal distribution."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a binomial share (Wilson 1927).

    Raises:
        ValueError: there was no trial.
    """
    if trials < 1:
        raise ValueError("an interval needs at least one trial")
    share, z2 = successes / trials, Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    half /= 1 + z2 / trials
    return max(0.0, centre - half), min(1.0, centre + half)
