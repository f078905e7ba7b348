"""An ordered map over worker processes that stays a bounded distance ahead of its reader."""

import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def ordered_map(
    function: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    *,
    workers: int,
    setup: Callable[..., None],
    setup_args: tuple[Any, ...],
) -> Iterator[_Result]:
    """``map(function, tasks)``, computed by ``workers`` processes at most three tasks each ahead.

    Args:
        tasks: may be endless.
        workers: 0 computes in this process, when asked for.
        setup: called once in each process, with ``setup_args``, before its first task.
    """
    if workers == 0:
        setup(*setup_args)
        yield from map(function, tasks)
        return
    # Processes are spawned: forking one that has used threads or a GPU is not safe.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(setup, setup_args),
    )
    try:
        todo = iter(tasks)
        pending: deque[Future[_Result]] = deque(
            pool.submit(function, task) for task in islice(todo, 3 * workers)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, task) for task in islice(todo, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(setup: Callable[..., None], setup_args: tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole process group; the reader alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Tasks leave no cycles behind, and looking for them costs a quarter of the time.
    gc.disable()
    setup(*setup_args)


def spare_cores() -> int:
    """Processes to use beside this one: one less than there are cores to run on."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, cores - 1)
