"""Texts of any length in windows that fit the model, and windows in batches, by length."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from bigcode_cli.engine.protocol import Passage, Pending
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


class Done(Generic[ResultT]):
    """A result that there is, behind ``engine.protocol.Pending``."""

    def __init__(self, result: ResultT) -> None:
        self._result = result

    def is_done(self) -> bool:
        """See ``Pending``."""
        return True

    def wait(self) -> ResultT:
        """See ``Pending``."""
        return self._result


def run_batched(
    items: Iterable[tuple[KeyT, Passage | None]],
    begin: Callable[[Sequence[Passage]], Pending[Sequence[ResultT]]],
    batch_tokens: int,
) -> Iterator[tuple[KeyT, ResultT | None]]:
    """What ``begin`` makes of each passage, in the order of the items; ``None`` of ``None``.

    Some items are taken ahead, so that passages of similar length go together. A batch is begun
    before the one ahead of it is waited for, so that a device never stands still in between.
    """
    batched = _Batched[KeyT, ResultT](begin, batch_tokens)
    waiting: list[tuple[KeyT, Passage | None]] = []
    tokens = 0
    for key, passage in items:
        waiting.append((key, passage))
        tokens += 0 if passage is None else len(passage.ids)
        if tokens >= LOOKAHEAD * batch_tokens:
            yield from batched.run(waiting)
            waiting, tokens = [], 0
    yield from batched.run(waiting)
    yield from batched.end()


class _Batched(Generic[KeyT, ResultT]):
    """Batches on their way, and whose results are due next."""

    def __init__(
        self,
        begin: Callable[[Sequence[Passage]], Pending[Sequence[ResultT]]],
        batch_tokens: int,
    ) -> None:
        self._begin = begin
        self._batch_tokens = batch_tokens
        # In the order of the items, each passage under its number.
        self._due: deque[tuple[KeyT, int | None]] = deque()
        self._results: dict[int, ResultT] = {}
        self._passages = 0
        self._flight: tuple[list[int], Pending[Sequence[ResultT]]] | None = None

    def run(
        self, items: Sequence[tuple[KeyT, Passage | None]]
    ) -> Iterator[tuple[KeyT, ResultT | None]]:
        """Begin all batches of some items; what is known by then and due."""
        passages = [passage for _, passage in items if passage is not None]
        first = self._passages
        for key, passage in items:
            self._due.append((key, None if passage is None else self._passages))
            self._passages += passage is not None
        for batch in batches([len(passage.ids) for passage in passages], self._batch_tokens):
            flight = self._begin([passages[place] for place in batch])
            self._land()
            self._flight = [first + place for place in batch], flight
            if flight.is_done():
                self._land()
            yield from self._known()
        yield from self._known()

    def end(self) -> Iterator[tuple[KeyT, ResultT | None]]:
        """The rest."""
        self._land()
        yield from self._known()

    def _land(self) -> None:
        if self._flight is not None:
            numbers, flight = self._flight
            self._flight = None
            self._results |= zip(numbers, flight.wait(), strict=True)

    def _known(self) -> Iterator[tuple[KeyT, ResultT | None]]:
        while self._due and (self._due[0][1] is None or self._due[0][1] in self._results):
            key, number = self._due.popleft()
            yield key, None if number is None else self._results.pop(number)
