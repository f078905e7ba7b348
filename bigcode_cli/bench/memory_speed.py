"""How fast threads read memory: the C library's search for a byte that is not there, no torch.

``memchr`` does nothing but load and compare, in the widest vectors that the processor has, and
holds no lock of Python's. It is no part of any engine, so none is measured against itself.
"""

import ctypes
import ctypes.util
import mmap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

BUFFER_BYTES = 2**28
"""Far more than any cache holds."""

_ROUNDS = 6
_WARM_UP = 1
_PARTS = 16
"""Of the buffer for each thread: who is put aside for a moment leaves the rest to the others."""


def read_bandwidth(threads: int, *, size: int = BUFFER_BYTES, rounds: int = _ROUNDS) -> float:
    """Bytes a second that so many threads read together, of the fastest round.

    Raises:
        OSError: there is no C library to be had.
    """
    find = _finder()
    with mmap.mmap(-1, size) as memory, ThreadPoolExecutor(threads) as pool:
        with suppress(AttributeError, OSError):  # no such pages here
            memory.madvise(mmap.MADV_HUGEPAGE)
        start = (ctypes.c_char * size).from_buffer(memory)
        # Pages that nobody wrote are all one page of zeros.
        ctypes.memset(start, 1, size)
        try:
            taken = [
                _one_round(pool, find, ctypes.addressof(start), size, threads)
                for _ in range(_WARM_UP + rounds)
            ]
        finally:
            del start
    return size / min(taken[_WARM_UP:])


def _one_round(
    pool: ThreadPoolExecutor, find: Callable[..., object], start: int, size: int, threads: int
) -> float:
    """Seconds."""
    part = -(-size // (threads * _PARTS))
    places = range(start, start + size, part)
    sizes = [min(part, start + size - place) for place in places]
    begun = time.perf_counter()
    list(pool.map(find, places, [0] * len(sizes), sizes))
    return time.perf_counter() - begun


def _finder() -> Callable[..., object]:
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    find = library.memchr
    find.restype = ctypes.c_void_p
    find.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    return find
