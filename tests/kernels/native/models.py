"""The compiled engine around the weights of a PyTorch model, as its tests handle it."""

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bigcode_cli.kernels import weights as w
from bigcode_cli.kernels.native.library import (
    ACTIVATIONS,
    FORMATS,
    Geometry,
    Layer,
    Matrix,
    instructions,
    library,
)

SANITIZED = "san.so" in os.environ.get("LD_PRELOAD", "")
"""Whether a sanitizer watches: see ``kernels/native/build.py``."""

SETS = ("avx512", "avx2", "neon", "portable")

_FORMATS = {
    torch.float32: FORMATS["F32"],
    torch.float16: FORMATS["F16"],
    torch.bfloat16: FORMATS["BF16"],
    torch.int8: FORMATS["I8"],
    torch.uint8: FORMATS["U8"],
}


def sets_here() -> list[str]:
    """The instruction sets that this processor runs, the best first."""
    return [name for name in SETS if instructions(name) is not None]


def pointer(numbers: Tensor) -> ctypes.c_void_p:
    assert numbers.is_contiguous()
    return ctypes.c_void_p(numbers.data_ptr())


def floats(numbers: Tensor) -> Any:
    """As ``POINTER(c_float)``."""
    assert numbers.is_contiguous()
    assert numbers.dtype == torch.float32
    return ctypes.cast(numbers.data_ptr(), ctypes.POINTER(ctypes.c_float))


def marks(numbers: Tensor) -> Any:
    """Of bools, as ``POINTER(c_uint8)``."""
    assert numbers.is_contiguous()
    assert numbers.dtype == torch.bool
    return ctypes.cast(numbers.data_ptr(), ctypes.POINTER(ctypes.c_uint8))


def ints(numbers: Sequence[int]) -> "ctypes.Array[ctypes.c_int32]":
    return (ctypes.c_int32 * len(numbers))(*numbers)


@dataclass
class NativeModel:
    """Owns a compiled model; the tensors that it reads live as long."""

    weights: w.Weights
    threads: int = 2
    quantises: bool = False
    instructions: str | None = None
    handle: Any = None
    kept: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = self.weights.geometry
        geometry = Geometry(
            shape.width,
            shape.inner,
            shape.heads,
            shape.kv_heads,
            shape.head_dim,
            shape.layers,
            shape.positions,
            shape.vocab,
            ACTIVATIONS[shape.activation],
            self.weights.last.epsilon,
        )
        layers = (Layer * shape.layers)(*map(self._layer, self.weights.layers))
        positions = w.Matrix(self.weights.positions, 16, shape.width)
        name = self.instructions
        self.handle = library().bigcode_model(
            geometry,
            self._matrix(self.weights.tokens),
            self._matrix(positions),
            self._matrix(self.weights.head),
            layers,
            self._floats(self.weights.last.weight),
            self._floats(self.weights.last.bias),
            self.threads,
            self.quantises,
            None if name is None else name.encode(),
        )
        assert self.handle

    def __del__(self) -> None:
        library().bigcode_model_free(self.handle)

    def _floats(self, numbers: Tensor) -> ctypes.c_void_p:
        self.kept.append(numbers.float().contiguous())
        return pointer(self.kept[-1])

    def _matrix(self, matrix: w.Matrix) -> Matrix:
        self.kept.append(matrix.weight.contiguous())
        weight = self.kept[-1]
        return Matrix(
            _FORMATS[weight.dtype],
            weight.shape[0],
            matrix.columns,
            pointer(weight),
            None if matrix.scale is None else self._floats(matrix.scale),
            None if matrix.bias is None else self._floats(matrix.bias),
        )

    def _layer(self, layer: w.Layer) -> Layer:
        first, second = layer.before_attention, layer.before_mlp
        return Layer(
            *map(self._floats, (first.weight, first.bias, second.weight, second.bias)),
            *map(self._matrix, (layer.projection, layer.output, layer.up, layer.down)),
            layer.attention_factor,
        )

    @property
    def vocab(self) -> int:
        return self.weights.geometry.vocab

    def row(self, capacity: int | None = None) -> "Row":
        return Row(self, capacity or self.weights.geometry.positions)

    def feed(
        self, rows: Sequence["Row"], ids: Sequence[Sequence[int]], wanted: Sequence[int]
    ) -> tuple[int, Tensor, Tensor]:
        """What ``bigcode_feed`` returns, the states and the logits of the places wanted."""
        states = torch.full((len(wanted), self.weights.geometry.width), torch.nan)
        logits = torch.full((len(wanted), self.vocab), torch.nan)
        done = library().bigcode_feed(
            self.handle,
            (ctypes.c_void_p * len(rows))(*[row.handle for row in rows]),
            ints([id_ for some in ids for id_ in some]),
            ints([len(some) for some in ids]),
            len(rows),
            ints(wanted),
            len(wanted),
            floats(states),
            floats(logits),
        )
        return done, states, logits


class Row:
    """Owns a cache."""

    def __init__(self, model: NativeModel, capacity: int) -> None:
        self.model = model
        self.handle = library().bigcode_cache(model.handle)
        assert self.reserve(capacity) == 0

    def __del__(self) -> None:
        library().bigcode_cache_free(self.handle)

    def reserve(self, capacity: int) -> int:
        return int(library().bigcode_cache_reserve(self.handle, capacity))

    def cut(self, length: int) -> int:
        return int(library().bigcode_cache_cut(self.handle, length))

    def copy(self, other: "Row", length: int) -> int:
        return int(library().bigcode_cache_copy(self.handle, other.handle, length))

    def feed(self, ids: Sequence[int]) -> Tensor:
        """The logits behind each id, ``(ids, vocab)``."""
        done, _, logits = self.model.feed([self], [ids], range(len(ids)))
        assert done == 0
        return logits


@contextmanager
def desk() -> Iterator[ctypes.c_void_p]:
    handle = library().bigcode_desk()
    try:
        yield handle
    finally:
        library().bigcode_desk_free(handle)


def relative(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference, by that of what is expected; infinite where a number is none."""
    difference = float((actual.double() - expected.double()).norm() / expected.double().norm())
    return difference if difference == difference else float("inf")
