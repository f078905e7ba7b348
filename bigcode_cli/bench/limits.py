"""What a device can do at most, measured on the spot, and what a case needs at least.

Decoding moves the weights once a step, and what the cache holds; no backend can be faster than the
memory that they lie in. Prompts and scoring multiply: their limit is the rate of matrix products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.measure import Clock
from bigcode_cli.bench.memory_speed import read_bandwidth
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.tensor_index import loaded_bytes

_BUFFER = {"cpu": 2**29, "cuda": 2**32}
"""Bytes, far more than any cache holds."""
_SHARE = 8
"""A buffer takes this part of the free memory at most."""
_COLUMNS = 8192
_SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied."""
_ROUNDS = 10
_WARM_UP = 3
_CALLS = {"cuda": 8}
"""In a row between two looks at the clock, which takes a GPU a hundredth of what one call does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was measured of the device: the best of several rounds, since no limit is below that.

    Attributes:
        copy: bytes a second of a copy, those read and those written.
        read: bytes a second of the best way to read that was tried: sums, a matrix-vector product,
            on a CPU with a search by all threads, on a GPU with Triton kernels, which do nothing
            else; or what a copy moves if that is more.
        flops: floating-point operations a second of a large matrix product, in the dtype of the
            activations.
        buffer_bytes: what was read.
        read_one: likewise of ``read``, by one thread of a CPU.
        threads: that read, on a CPU.
    """

    copy: float
    read: float
    flops: float
    buffer_bytes: int
    read_one: float | None = None
    threads: int | None = None


def measure_limits(device: str, dtype: str, clock: Clock) -> Limits:
    """Take them of buffers of random numbers, which are given back: zeros can be faster."""
    place, kind = torch.device(device), getattr(torch, dtype)
    wide = torch.float32 if place.type == "cpu" else kind
    free = free_bytes(place)
    size = _BUFFER.get(place.type, 2**30)
    if free is not None:
        size = min(size, free // _SHARE)
    rows = max(1, size // (_COLUMNS * wide.itemsize))
    with torch.inference_mode():
        copy, read, moved = _memory(rows, wide, place, clock)
        flops = _products(_SIDE.get(place.type, 4096), kind, place, clock)
    if place.type == "cuda":
        torch.cuda.empty_cache()
    if place.type != "cpu":
        return Limits(copy, read, flops, moved)
    threads = torch.get_num_threads()
    one, together = (read_bandwidth(count, size=moved) for count in (1, threads))
    return Limits(copy, max(read, one, together), flops, moved, one, threads)


def _memory(
    rows: int, dtype: torch.dtype, device: torch.device, clock: Clock
) -> tuple[float, float, int]:
    """Bytes a second copied and read, and how many were read."""
    matrix = torch.empty(rows, _COLUMNS, dtype=dtype, device=device).uniform_(-1, 1)
    vector = torch.rand(_COLUMNS, dtype=dtype, device=device)
    copied = torch.empty_like(matrix)
    calls = _CALLS.get(device.type, 1)
    copy = 2 / _seconds(lambda: copied.copy_(matrix), clock, calls)
    ways: list[Callable[[], Tensor]] = [matrix.sum, lambda: matrix @ vector, *_readers(matrix)]
    read = max(1 / _seconds(way, clock, calls) for way in ways)
    return copy * matrix.nbytes, max(copy, read) * matrix.nbytes, matrix.nbytes


def _readers(buffer: Tensor) -> list[Callable[[], Tensor]]:
    """Kernels that read and do nothing else, where they can be built."""
    if buffer.device.type != "cuda":
        return []
    try:
        from bigcode_cli.kernels.triton.stream import readers

        some = readers(buffer.view(torch.float32))
        some[0]()
    except Exception:  # no Triton, no compiler: whatever it is, others read too
        return []
    return some


def _products(side: int, dtype: torch.dtype, device: torch.device, clock: Clock) -> float:
    """Operations a second."""
    square = torch.empty(side, side, dtype=dtype, device=device).uniform_(-1, 1)
    return 2 * side**3 / _seconds(lambda: square @ square, clock, _CALLS.get(device.type, 1))


def decode_bytes(case: Case, config: GPTBigCodeConfig, dtype: str, weights: str) -> int:
    """The fewest bytes that a ``tg`` reads: the weights a step, each sequence's cache so far.

    Of the embeddings a step needs a row a sequence, which is left out; a tied one is the
    vocabulary projection and read whole.

    Args:
        dtype: of the activations.
        weights: ``int8``, ``int4``, or as ``dtype``.
    """
    left_out = {"transformer.wpe.weight"}
    if not config.tie_word_embeddings:
        left_out.add("transformer.wte.weight")
    shapes = {name: shape for name, shape in config.tensor_shapes().items() if name not in left_out}
    quantize = weights if weights in {"int8", "int4"} else "none"
    held = case.n_depth + 1
    slots = sum(range(held + 1, held + case.n_gen + 1))
    width: int = getattr(torch, dtype).itemsize
    slot_bytes = config.n_layer * 2 * config.kv_dim * width
    read = loaded_bytes(shapes, dtype, quantize) * case.n_gen
    return read + case.batch_size * slots * slot_bytes


def pass_flops(case: Case, config: GPTBigCodeConfig) -> int:
    """The fewest operations of a ``pp`` or ``sc``: matrix products alone, causal attention.

    Two for each weight of a layer's matrices and token; ``4 * n_embd`` for each token that a token
    attends to, in each layer; the vocabulary projection for each position whose logits are asked
    for: the last of a prompt, all but the last of a scored text.
    """
    matrices = sum(
        shape[0] * shape[1]
        for name, shape in config.tensor_shapes().items()
        if len(shape) == 2 and name.startswith("transformer.h.")
    )
    before, after = case.n_depth, case.n_depth + case.n_prompt
    attended = (after * (after + 1) - before * (before + 1)) // 2
    projected = case.n_prompt - 1 if case.kind == "sc" else 1
    one = (
        2 * matrices * case.n_prompt
        + 4 * config.n_embd * config.n_layer * attended
        + 2 * config.vocab_size * config.n_embd * projected
    )
    return one * case.batch_size


def _seconds(work: Callable[[], Tensor], clock: Clock, calls: int) -> float:
    """Of one call, in the fastest round."""
    taken = []
    for _ in range(_WARM_UP + _ROUNDS):
        begun = clock()
        for _ in range(calls):
            work()
        taken.append(clock() - begun)
    return min(taken[_WARM_UP:]) / 1e9 / calls
