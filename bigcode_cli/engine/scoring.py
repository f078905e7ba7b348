"""Teacher-forced log-probabilities of a text of any length, each token scored exactly once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bigcode_cli.engine.protocol import Backend
from bigcode_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Window:
    """One pass over ``ids[start:stop]``, of which ``ids[scored:stop]`` count."""

    start: int
    scored: int
    stop: int


def windows(length: int, context: int, stride: int) -> Iterator[Window]:
    """Cover ``length`` ids with windows of at most ``context``, each ending ``stride`` further.

    Every id but the first, which has no left context, is scored once: in the first window that
    holds it, with at least ``context - stride`` ids before it. The last window reaches back as far
    as the context allows.

    Raises:
        UsageError: the stride leaves no left context, or does not move on.
    """
    if not 1 <= stride < context:
        raise UsageError(
            f"a stride of {stride} does not fit a context of {context}",
            f"use a --stride between 1 and {context - 1}",
        )
    scored = 1
    while scored < length:
        stop = min(max(scored + stride, context), length)
        yield Window(max(0, stop - context), scored, stop)
        scored = stop


def score(backend: Backend, ids: Sequence[int], *, context: int, stride: int) -> list[float]:
    """Natural log-probabilities of ``ids[1:]``, in windows where they exceed the context.

    Raises:
        UsageError: see ``windows``.
    """
    scores: list[float] = []
    for window in windows(len(ids), context, stride):
        scored = backend.score(ids[window.start : window.stop])
        scores += scored[window.scored - window.start - 1 :]
    return scores
