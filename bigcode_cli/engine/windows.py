"""Texts of any length in windows that fit the model, and windows in batches, by length."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from bigcode_cli.engine.protocol import Passage
from bigcode_cli.errors import UsageError

LOOKAHEAD = 4
"""Batches gathered before they are sorted: more pad less, and make the first result wait."""

KeyT = TypeVar("KeyT")
ResultT = TypeVar("ResultT")


def window_sizes(context: int | None, stride: int | None, n_positions: int) -> tuple[int, int]:
    """Context and stride in tokens: by default all that the model takes, and half of that.

    Raises:
        UsageError: they do not fit the model or each other.
    """
    context = n_positions if context is None else context
    if context > n_positions:
        raise UsageError(
            f"a context of {context} tokens exceeds the model's {n_positions}",
            f"use a --context of at most {n_positions}",
        )
    stride = context // 2 if stride is None else stride
    if not 1 <= stride < context:
        raise UsageError(
            f"a stride of {stride} does not fit a context of {context}",
            f"use a --stride between 1 and {context - 1}",
        )
    return context, stride


def windows(
    chunks: Iterable[Sequence[int]], *, context: int, stride: int, first: int
) -> Iterator[Passage]:
    """Cover a stream of ids with windows of at most ``context``, each ending ``stride`` further.

    Every id from the ``first`` on counts once: in the first window that holds it, which is the one
    that gives it the most left context, at least ``context - stride`` ids where there are so many.
    The last window reaches back as far as the context allows. No more ids are held than a chunk
    and a window have.

    Args:
        chunks: joined, they are the ids.
        first: 1 where the first id has no other use than as context, else 0.
    """
    held: list[int] = []
    counted = first  # held[counted:] are still to count
    for chunk in chunks:
        held += chunk
        while len(held) >= (stop := max(counted + stride, context)):
            start = stop - context
            yield Passage(tuple(held[start:stop]), counted - start)
            # No later window begins before this one.
            del held[:start]
            counted = context
    if len(held) > counted:
        start = max(0, len(held) - context)
        yield Passage(tuple(held[start:]), counted - start)


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """The places of some lengths in groups of similar ones, the longest first.

    A group padded to its longest has at most ``batch_tokens`` tokens, unless one alone has more.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def run_batched(
    items: Iterable[tuple[KeyT, Passage | None]],
    run: Callable[[Sequence[Passage]], Sequence[ResultT]],
    batch_tokens: int,
) -> Iterator[tuple[KeyT, ResultT | None]]:
    """What ``run`` makes of each passage, in the order of the items; ``None`` of ``None``.

    Some items are taken ahead, so that passages of similar length go together.
    """
    waiting: list[tuple[KeyT, Passage | None]] = []
    tokens = 0
    for key, passage in items:
        waiting.append((key, passage))
        tokens += 0 if passage is None else len(passage.ids)
        if tokens >= LOOKAHEAD * batch_tokens:
            yield from _run_sorted(waiting, run, batch_tokens)
            waiting, tokens = [], 0
    yield from _run_sorted(waiting, run, batch_tokens)


def _run_sorted(
    items: Sequence[tuple[KeyT, Passage | None]],
    run: Callable[[Sequence[Passage]], Sequence[ResultT]],
    batch_tokens: int,
) -> Iterator[tuple[KeyT, ResultT | None]]:
    passages = [passage for _, passage in items if passage is not None]
    results: dict[int, ResultT] = {}
    due = deque(items)
    told = 0
    for batch in batches([len(passage.ids) for passage in passages], batch_tokens):
        results |= zip(batch, run([passages[place] for place in batch]), strict=True)
        while due and (due[0][1] is None or told in results):
            key, passage = due.popleft()
            if passage is None:
                yield key, None
            else:
                yield key, results.pop(told)
                told += 1
    yield from ((key, None) for key, _ in due)
