"""Work done ahead of its reader, on threads, so that a GPU does not wait for a tokenizer."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_WORKERS = 4
POLL_S = 0.1
"""How soon the thread sees that nobody reads any more."""

PATIENCE_S = 2.0
"""How long is waited for what it has in hand."""


def begun(items: Iterable[T], count: int) -> Generator[T]:
    """The items, the first ``count`` of which are made now.

    What they raise is raised here when it is their turn.
    """
    source = iter(items)
    made: list[T] = []
    error: Exception | None = None
    try:
        for item in islice(source, count):
            made.append(item)  # noqa: PERF402 -- those before an error are kept
    except Exception as raised:
        error = raised

    def rest() -> Generator[T]:
        yield from made
        if error is not None:
            raise error
        yield from source

    return rest()


def mapped_ahead(function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
    """``map(function, items)``, computed on a thread a core, at most two items a thread ahead."""
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    todo = iter(items)
    try:
        pending: deque[Future[R]] = deque(
            pool.submit(function, item) for item in islice(todo, 2 * workers)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(todo, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def made_ahead(items: Iterable[T], count: int) -> Generator[T]:
    """The items in their order, taken on a thread of their own, at most ``count`` ahead.

    What the items raise is raised here, behind those before it. Closing this iterator closes them,
    and waits for the thread: one that is left when the interpreter ends can bring the process down.
    """
    queue: Queue[tuple[T] | BaseException | None] = Queue(count)
    closed = Event()

    def put(entry: tuple[T] | BaseException | None) -> None:
        while not closed.is_set():
            with suppress(Full):
                queue.put(entry, timeout=POLL_S)
                return

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                put((item,))
                if closed.is_set():
                    break
            else:
                put(None)
        except BaseException as error:  # it belongs to the reader
            put(error)
        finally:
            if (close := getattr(source, "close", None)) is not None:
                close()

    # A daemon: if its source hangs, that must not keep the program from ending.
    thread = Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (entry := queue.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        closed.set()
        with suppress(Empty):
            while True:
                queue.get_nowait()
        thread.join(PATIENCE_S)
