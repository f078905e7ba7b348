"""Scored tokens made by hand."""

import math

from bigcode_cli.records import TokenScore


def token(data: str | bytes, bits: float | None = 0.0, rank: int = 1) -> TokenScore:
    """A token of so many bits; its place is never looked at."""
    return TokenScore(
        id=0,
        data=data.encode() if isinstance(data, str) else data,
        line=1,
        column=1,
        logprob=None if bits is None else -bits * math.log(2),
        rank=None if bits is None else rank,
        entropy=None if bits is None else 2 * math.log(2),
    )
